"""The demo's photograph: a public-domain portrait that scikit-image carries, with its 68 landmarks."""

from __future__ import annotations

import dataclasses
import importlib

import torch

from facecore.data.landmarks import Landmarks

# Pixels (u right, v down, the first pixel's centre at 0.5) of the 512 x 512 picture, iBUG order. From
# MediaPipe's face mesh (0.10.21), corrected by eye on enlargements; the contour follows the jaw as a surface, as "3-D"
# landmarks do, where hair hides it too. About half a pixel exact at eyes and mouth, two pixels along the contour.
# fmt: off
LANDMARKS_68 = (
    # contour
    (180.2, 102.2), (180.4, 114.5), (181.2, 127.8), (182.7, 140.5), (186.0, 151.2), (192.7, 159.9),
    (200.9, 168.0), (210.5, 175.0), (222.5, 177.6), (235.1, 175.6), (244.9, 170.1), (254.2, 163.5),
    (260.9, 154.8), (265.4, 144.6), (268.2, 132.0), (270.2, 119.0), (271.0, 106.8),
    # brows
    (190.0, 90.9), (194.9, 88.9), (200.6, 88.7), (207.1, 90.3), (213.3, 92.6), (238.7, 93.4),
    (244.6, 92.9), (251.0, 92.3), (257.4, 92.6), (262.8, 95.7),
    # nose
    (225.2, 101.0), (224.8, 109.7), (224.4, 117.8), (223.9, 126.8), (212.9, 130.2), (217.7, 132.1),
    (223.8, 133.5), (230.1, 132.7), (236.2, 130.7),
    # eyes
    (194.7, 101.3), (199.0, 98.4), (206.4, 98.9), (213.0, 103.6), (207.2, 104.3), (200.3, 103.7),
    (237.1, 105.2), (243.5, 100.9), (251.7, 100.7), (256.7, 104.1), (251.0, 106.3), (243.9, 106.1),
    # outer lips
    (202.9, 139.8), (208.3, 139.8), (217.8, 140.2), (223.6, 141.0), (229.7, 140.4), (238.9, 140.7),
    (245.1, 141.0), (238.1, 148.3), (231.4, 152.8), (223.6, 154.9), (215.0, 152.2), (208.9, 147.5),
    # inner lips
    (204.4, 140.4), (213.5, 141.9), (223.8, 143.6), (234.2, 143.1), (244.2, 141.5), (233.6, 148.2),
    (223.6, 149.7), (213.6, 147.9),
)
# fmt: on
SIZE = 512


@dataclasses.dataclass(frozen=True, eq=False)
class Portrait:
    """image: float32 [3, 512, 512] in [0, 1]; landmarks: 68 points in its pixels; credit: the source, for captions."""

    image: torch.Tensor
    landmarks: Landmarks
    name: str = "portrait"
    credit: str = "Eileen Collins, official NASA portrait, public domain (scikit-image: data.astronaut)"


def load_portrait() -> Portrait:
    """The portrait, read from the installed scikit-image; nothing is downloaded.

    Raises ImportError when scikit-image is absent and ValueError when it carries another picture, both with a remedy.
    """
    try:
        data = importlib.import_module("skimage.data")
    except ImportError as error:
        raise ImportError("the portrait comes with scikit-image; pip install 'facecore[demo]'") from error
    pixels = torch.from_numpy(data.astronaut().copy())
    if pixels.shape != (SIZE, SIZE, 3) or pixels.dtype != torch.uint8:
        raise ValueError(
            f"scikit-image's astronaut picture is {list(pixels.shape)} {pixels.dtype}, not 512 x 512 RGB bytes; "
            "install the version in constraints.txt"
        )
    image = (pixels.permute(2, 0, 1).float() / 255).contiguous()
    return Portrait(image, Landmarks(torch.tensor(LANDMARKS_68, dtype=torch.float64)))
