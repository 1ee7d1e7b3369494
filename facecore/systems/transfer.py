"""Expression, pose and light from one face to another, and one face under another light (METHODS 2.4)."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from facecore.ops._library import check_tensor
from facecore.systems.aggregation import Aggregated
from facecore.systems.decoding import FaceSource, decode_shape
from facecore.systems.reconstruction import Reconstruction

Giver = Literal["driver", "identity"]


@dataclasses.dataclass(frozen=True)
class Parts:
    """Which of two faces gives the expression, the pose (with the camera, and so the picture below) and the light.

    Raises ValueError for anything but "driver" and "identity".
    """

    expression: Giver = "driver"
    pose: Giver = "driver"
    light: Giver = "driver"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value not in ("driver", "identity"):
                raise ValueError(f"{field.name} must be 'driver' or 'identity', got {value!r}")


@torch.no_grad()
def transfer(
    source: FaceSource, identity: Reconstruction, driver: Reconstruction, parts: Parts = Parts()
) -> Reconstruction:
    """The faces `identity` with what `parts` says taken from the faces `driver` (METHODS 2.4).

        s = D_s([c_id of identity, c_exp of driver]),  albedo or texture, and neutral shape, of identity,
        pose, camera and light of driver

    Args:
        source: what made both, a trained system or a morphable model.
        identity, driver: N faces each, or one on either side for all of the other.
        parts: what comes from where.

    A face's own parts are taken as they are and not decoded again. Deterministic on a CPU. Raises ValueError for other
    numbers of faces or another topology.
    """
    if not torch.equal(identity.triangles, driver.triangles):
        raise ValueError("identity and driver must come from one system; their triangles differ")
    identity, driver = _matched(identity, driver)
    codes = dict(identity.codes)
    vertices = identity.vertices
    if parts.expression == "driver":
        if "expression" not in driver.codes:
            raise ValueError(f"driver must have the code 'expression', got {', '.join(driver.codes) or 'none'}")
        codes["expression"] = driver.codes["expression"]
        vertices = decode_shape(source, codes)
    poser = driver if parts.pose == "driver" else identity
    lighter = driver if parts.light == "driver" else identity
    return dataclasses.replace(
        identity,
        vertices=vertices,
        codes=codes,
        pose=poser.pose,
        camera=poser.camera,
        sh_coefficients=lighter.sh_coefficients,
    )


@torch.no_grad()
def transfer_to_person(
    source: FaceSource, pictures: Reconstruction, person: Aggregated, driver: Reconstruction, parts: Parts = Parts()
) -> Reconstruction:
    """`transfer` to a person of several photographs: the mean of the shapes that each of them gives (METHODS 2.3, 2.4).

    pictures: the M single faces; person: what they were aggregated to, which gives albedo and codes; driver: one face.
    """
    result = transfer(source, person.reconstruction, driver, parts)
    if parts.expression == "identity":
        return result
    single = transfer(source, pictures, driver, parts)
    return dataclasses.replace(result, vertices=single.vertices.mean(0, keepdim=True))


def relight(face: Reconstruction, sh_coefficients: torch.Tensor) -> Reconstruction:
    """The same faces under other light: effective coefficients [N, 9, 3] or [1, 9, 3], in camera axes.

    Raises ValueError for another shape, dtype or device.
    """
    sizes = check_tensor("sh_coefficients", sh_coefficients, ("L", 9, 3), like=face.vertices)
    if sizes["L"] not in (1, len(face)):
        raise ValueError(f"sh_coefficients must hold 1 or {len(face)} lights, got {sizes['L']}")
    return dataclasses.replace(face, sh_coefficients=sh_coefficients.expand(len(face), -1, -1))


def _matched(identity: Reconstruction, driver: Reconstruction) -> tuple[Reconstruction, Reconstruction]:
    """Both with the same number of faces, the single one repeated."""
    counts = len(identity), len(driver)
    if counts[0] == counts[1]:
        return identity, driver
    if 1 not in counts:
        raise ValueError(f"identity and driver must hold as many faces each, or one of them 1, got {counts}")
    index = torch.zeros(max(counts), dtype=torch.int64, device=identity.vertices.device)
    return (identity[index], driver) if counts[0] == 1 else (identity, driver[index])
