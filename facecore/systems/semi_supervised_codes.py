"""What the semi-supervised system says of pictures, before and after decoding."""

from __future__ import annotations

import dataclasses

import torch

from facecore.nn import EncoderFeatures, PointMaps
from facecore.render import WeakPerspectiveCamera, sh_from_prediction
from facecore.structures import Texture


@dataclasses.dataclass
class Codes:
    """What the encoder says of N pictures: c_id [N, 128], c_exp [N, 64], pose code [N, 6], light [N, 27]."""

    identity: torch.Tensor
    expression: torch.Tensor
    pose: torch.Tensor
    light: torch.Tensor

    def __getitem__(self, index: slice | torch.Tensor) -> Codes:
        return Codes(*(getattr(self, f.name)[index] for f in dataclasses.fields(self)))

    @property
    def sh_coefficients(self) -> torch.Tensor:
        """Effective light [N, 9, 3], the ambient offset included (METHODS 1.5)."""
        return sh_from_prediction(self.light)


@dataclasses.dataclass
class Encoding:
    """Codes, the encoder's feature maps, the maps of surface points where the configuration has them, and features.

    features: what the heads of c_id and c_exp saw, [N, F]: pooled features, positions of the surface points, what the
    finest map shows there, and what the pose leaves of the positions, which is for the corrections.
    """

    codes: Codes
    maps: EncoderFeatures
    points: PointMaps | None
    features: torch.Tensor


@dataclasses.dataclass
class Estimate:
    """A decoded face: vertices [N, V, 3] mm, albedo [N, V, 3], camera, the codes it came from.

    displacement: what the decoder gave, (vertices - template) / sigma_s, [N, V, 3]. texture: the albedo over UV space
    where a texture decoder made it; albedo then is its value at the vertices.
    """

    codes: Codes
    displacement: torch.Tensor
    vertices: torch.Tensor
    albedo: torch.Tensor
    camera: WeakPerspectiveCamera
    texture: Texture | None = None

    @property
    def surface(self) -> torch.Tensor | Texture:
        """The albedo in as much detail as there is, as the renderer takes it."""
        return self.albedo if self.texture is None else self.texture

    def landmarks_ndc(self, landmarks68: torch.Tensor) -> torch.Tensor:
        """The 68 vertices projected, [N, 68, 2] in NDC q of METHODS 1.3."""
        return self.camera.ndc(self.vertices[:, landmarks68])
