"""What refinement adjusts: the codes of a trained system, or the coefficients of a morphable model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import torch

from facecore.morphable import MorphableModel
from facecore.ops import uv_sample
from facecore.render import WeakPerspectiveCamera
from facecore.render.cameras import Camera
from facecore.structures import Texture
from facecore.systems.reconstruction import Reconstruction
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_codes import Encoding
from facecore.systems.weakly_supervised import WeakCodes, WeaklySupervised


@dataclasses.dataclass
class Decoded:
    """vertices [N, V, 3] mm, albedo [N, V, 3] or a texture."""

    vertices: torch.Tensor
    albedo: torch.Tensor | Texture


class FaceParameters(Protocol):
    """N faces as leaf tensors. pose: codes [N, 6] of the cameras; sh_coefficients: effective light [N, 9, 3]."""

    triangles: torch.Tensor
    pose: torch.Tensor
    sh_coefficients: torch.Tensor

    def parameters(self) -> list[tuple[torch.Tensor, float]]:
        """Leaf tensors, each with its learning rate relative to the common one."""

    def camera(self, height: int, width: int) -> Camera:
        """Of the poses, for pictures of this size."""

    def decode(self) -> Decoded: ...

    def decode_landmarks(self) -> torch.Tensor:
        """The 68 points, [N, 68, 3] mm."""

    def penalty(self) -> torch.Tensor:
        """Negative log-prior of the parameters, summed over the faces."""

    def reconstruction(self, height: int, width: int) -> Reconstruction: ...


POSE_RATE, LIGHT_RATE = 0.3, 0.5
# Standard deviation of a code around the network's estimate, and its learning rate relative to the common one.
CODE_SCALE = {"identity": 1.0, "complexion": 2.0, "expression": 1.0}


class _Posed:
    """Faces before weak perspective cameras (METHODS 1.3)."""

    pose: torch.Tensor

    def camera(self, height: int, width: int) -> Camera:
        return WeakPerspectiveCamera.from_pose(self.pose, height, width)


class CodeParameters(_Posed):
    """The codes that a trained system estimated; the prior holds them near that estimate.

    The identity code stands twice, once for the shape and once (`complexion`) for the albedo, which start equal: what
    the albedo must explain on one photograph, a shadow or a beard, then does not bend the shape. A texture, which is
    made from the picture and not from a code alone, stays as it was estimated.
    """

    def __init__(self, system: SemiSupervised, encoding: Encoding) -> None:
        codes = encoding.codes
        self.system = system
        self.triangles = system.triangles
        self._estimate = {
            "identity": codes.identity.detach(),
            "complexion": codes.identity.detach(),
            "expression": codes.expression.detach(),
        }
        self._texture: Texture | None = None
        if system.textured:
            del self._estimate["complexion"]
            with torch.no_grad():
                self._texture = system.decode(encoding).texture
        self.codes = {name: code.clone().requires_grad_() for name, code in self._estimate.items()}
        self.pose = codes.pose.detach().clone().requires_grad_()
        self.sh_coefficients = codes.sh_coefficients.detach().clone().requires_grad_()

    def parameters(self) -> list[tuple[torch.Tensor, float]]:
        return [(code, CODE_SCALE[name]) for name, code in self.codes.items()] + [
            (self.pose, POSE_RATE),
            (self.sh_coefficients, LIGHT_RATE),
        ]

    def decode(self) -> Decoded:
        if self._texture is not None:
            return Decoded(self._vertices(), self._texture)
        return Decoded(self._vertices(), self.system.decode_albedo(self.codes["complexion"]))

    def decode_landmarks(self) -> torch.Tensor:
        return self._vertices()[:, self.system.landmarks68]

    def _vertices(self) -> torch.Tensor:
        return self.system.decode_shape(self.codes["identity"], self.codes["expression"])

    def penalty(self) -> torch.Tensor:
        moved = [((code - self._estimate[name]) / CODE_SCALE[name]).square().sum() for name, code in self.codes.items()]
        return torch.stack(moved).sum()

    @torch.no_grad()
    def reconstruction(self, height: int, width: int) -> Reconstruction:
        decoded = self.decode()
        return Reconstruction(
            vertices=decoded.vertices,
            neutral_vertices=self.system.decode_shape(self.codes["identity"]),
            triangles=self.triangles,
            albedo=uv_sample(*decoded.albedo) if isinstance(decoded.albedo, Texture) else decoded.albedo,
            camera=self.camera(height, width).detach(),
            pose=self.pose.detach().clone(),
            sh_coefficients=self.sh_coefficients.detach().clone(),
            codes={name: code.detach().clone() for name, code in self.codes.items()},
            landmarks68=self.system.landmarks68,
            texture=self._texture,
        )


class PosedFace(_Posed):
    """Faces of given shapes and colours: pose and light alone are adjusted."""

    def __init__(self, face: Reconstruction, pose: torch.Tensor) -> None:
        self._face = face
        self.triangles = face.triangles
        self.pose = pose.detach().clone().requires_grad_()
        self.sh_coefficients = face.sh_coefficients.detach().clone().requires_grad_()

    def parameters(self) -> list[tuple[torch.Tensor, float]]:
        return [(self.pose, POSE_RATE), (self.sh_coefficients, LIGHT_RATE)]

    def decode(self) -> Decoded:
        return Decoded(self._face.vertices, self._face.surface)

    def decode_landmarks(self) -> torch.Tensor:
        return self._face.landmarks_3d

    def penalty(self) -> torch.Tensor:
        return self.pose.new_zeros(())

    @torch.no_grad()
    def reconstruction(self, height: int, width: int) -> Reconstruction:
        return dataclasses.replace(
            self._face,
            camera=self.camera(height, width).detach(),
            pose=self.pose.detach().clone(),
            sh_coefficients=self.sh_coefficients.detach().clone(),
        )


class CoefficientParameters(_Posed):
    """Coefficients of a morphable model; the prior is the model's own (METHODS 1.4).

    coefficients: where to start, [N, K] by part; parts that are not given start at the prior's mean.
    """

    def __init__(
        self,
        model: MorphableModel,
        pose: torch.Tensor,
        sh_coefficients: torch.Tensor,
        coefficients: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.model, n = model, len(pose)
        self.triangles = model.triangles
        sizes = {"identity": model.num_identity, "expression": model.num_expression, "albedo": model.num_albedo}
        # Parameters are in units of the prior's standard deviation, so that one learning rate fits all.
        self.whitened = {
            part: torch.zeros(n, size, dtype=model.dtype, device=model.device, requires_grad=True)
            for part, size in sizes.items()
        }
        with torch.no_grad():
            for part, start in (coefficients or {}).items():
                self.whitened[part].copy_(model.prior.whiten(part, start))
        self.pose = pose.detach().clone().requires_grad_()
        self.sh_coefficients = sh_coefficients.detach().clone().requires_grad_()

    def parameters(self) -> list[tuple[torch.Tensor, float]]:
        return [(tensor, 1.0) for tensor in self.whitened.values()] + [
            (self.pose, POSE_RATE),
            (self.sh_coefficients, LIGHT_RATE),
        ]

    def coefficients(self, part: str) -> torch.Tensor:
        """Coefficients as the model takes them, [N, K]."""
        return self.model.prior.unwhiten(part, self.whitened[part])

    def decode(self) -> Decoded:
        vertices = self.model.shape(self.coefficients("identity"), self.coefficients("expression"))
        return Decoded(vertices, self._albedo())

    def _albedo(self) -> torch.Tensor:
        return self.model.albedo(self.coefficients("albedo"))

    def decode_landmarks(self) -> torch.Tensor:
        ids = self.model.landmarks68
        shape = self.model.template[ids]
        for part, basis in (("identity", self.model.identity_basis), ("expression", self.model.expression_basis)):
            shape = shape + torch.einsum("nk,kpc->npc", self.coefficients(part), basis[:, ids])
        return shape

    def penalty(self) -> torch.Tensor:
        """Whitened coefficients squared; blendshape weights also stay inside [0, 1]."""
        total = torch.stack([tensor.square().sum() for tensor in self.whitened.values()]).sum()
        weights = self.coefficients("expression")
        if self.model.prior.blendshapes is not None:
            std = self.model.prior.expression_std.clamp_min(1e-6)
            outside = (weights.clamp(0, 1) - weights) / std
            total = total + 10 * outside.square().sum()
        return total

    @torch.no_grad()
    def reconstruction(self, height: int, width: int) -> Reconstruction:
        decoded = self.decode()
        return Reconstruction(
            vertices=decoded.vertices,
            neutral_vertices=self.model.shape(self.coefficients("identity")),
            triangles=self.triangles,
            albedo=self._albedo().clamp(0, 1),
            camera=self.camera(height, width).detach(),
            pose=self.pose.detach().clone(),
            sh_coefficients=self.sh_coefficients.detach().clone(),
            codes={part: self.coefficients(part).clone() for part in self.whitened},
            landmarks68=self.model.landmarks68,
        )


class PerspectiveParameters(CoefficientParameters):
    """What system 2 estimated: coefficients of its morphable model, before its perspective cameras.

    pose: of WeakCodes. The prior is the model's own.
    """

    def __init__(self, system: WeaklySupervised, codes: WeakCodes) -> None:
        prior, parts = system.morphable.prior, ("identity", "expression", "albedo")
        coefficients = {part: prior.unwhiten(part, getattr(codes, part)) for part in parts}
        super().__init__(system.morphable, codes.pose, codes.sh_coefficients, coefficients)
        self.system = system

    def camera(self, height: int, width: int) -> Camera:
        return self.system.camera(self.pose, height, width)

    @torch.no_grad()
    def reconstruction(self, height: int, width: int) -> Reconstruction:
        camera = self.system.camera(self.pose.detach(), height, width)
        return dataclasses.replace(super().reconstruction(height, width), pose=camera.weak_perspective_pose())
