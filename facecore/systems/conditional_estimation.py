"""System 3: viewpoint, shape, reflectance and light, each given those before it, Wen et al. 2021 (METHODS 5)."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn
from torch.nn import functional

from facecore.mesh import Mesh, build_uv_map, cylindrical_uv
from facecore.morphable import MorphableModel
from facecore.nn import BranchedRegressor, StridedRegressor, TextureUNet
from facecore.nn.point_reader import PointReader
from facecore.ops import rasterize, uv_sample, uv_unwrap
from facecore.render import Renderer, Rendering, WeakPerspectiveCamera, sh_from_prediction
from facecore.render.cameras import MEAN_SCALE, MM_PER_UNIT
from facecore.structures import Texture, UVMap
from facecore.systems.conditional_estimation_config import ConditionalModelConfig
from facecore.systems.face_system import FaceSystem
from facecore.systems.reconstruction import Reconstruction

VIEWPOINT_SIZE = 7  # v = pitch, yaw, roll, t_x, t_y, t_z, c_f
POSE_OF_VIEWPOINT = (0, 1, 2, 6, 3, 4)  # in the order of pose codes; t_z, a depth, changes no weak perspective picture
LIGHT_SIZE = 9  # white light


@dataclasses.dataclass
class ConditionalEstimate:
    """What the networks say of N pictures.

    viewpoint: v [N, 7]; whitened: alpha [N, Ki + Ke], identity before expression; vertices: S [N, V, 3] mm;
    reflectance: A [N, 3, Hu, Wu] in (0, 1); light: l [N, 9]. unwrapped: T [N, 3, Hu, Wu], 0 where not visible, and
    visible: bool [N, Hu, Wu]; both None where the estimate is not coupled.
    """

    viewpoint: torch.Tensor
    whitened: torch.Tensor
    vertices: torch.Tensor
    camera: WeakPerspectiveCamera
    reflectance: torch.Tensor
    light: torch.Tensor
    unwrapped: torch.Tensor | None = None
    visible: torch.Tensor | None = None

    @property
    def pose(self) -> torch.Tensor:
        """Pose codes [N, 6] (METHODS 1.3)."""
        return pose_of(self.viewpoint)

    @property
    def sh_coefficients(self) -> torch.Tensor:
        """Effective light [N, 9, 3], the ambient offset included."""
        return sh_from_prediction(self.light)


class CanonicalReader(PointReader):
    """A PointReader of canonical crops: faces of the mean size in the middle. Of pictures that are not cropped,
    where the estimate is not coupled, its corrections also hold offset, roll and size."""

    def place(self, seen: torch.Tensor) -> torch.Tensor:
        return seen * (MEAN_SCALE / MM_PER_UNIT)


class ConditionalEstimation(FaceSystem):
    """f_v, f_s, f_r, f_l, and the morphable model whose coefficients f_s gives.

    v = f_v(I); alpha = f_s(I o v), S = S_mean + U alpha; T = unwrap(I, project(S, v)); A = f_r(T); l = f_l(I, T, A).
    With config.coupled False (IEST) each is estimated from I alone. Pictures are [N, 3, S, S] in [0, 1], S =
    config.image_size. Before training viewpoint, coefficients and light are those of the mean face under ambient light.
    """

    triangles: torch.Tensor
    landmarks68: torch.Tensor
    uv: torch.Tensor
    textured = True

    def __init__(self, config: ConditionalModelConfig, morphable: MorphableModel) -> None:
        super().__init__()
        self.config = config
        self._morphable = morphable.to("cpu")
        self.identity_size, self.expression_size = self._morphable.num_identity, self._morphable.num_expression
        mesh = Mesh(self._morphable.mean_neutral(), self._morphable.triangles)
        uv = cylindrical_uv(mesh)
        self._uv_map = build_uv_map(mesh, config.texture_size, config.texture_size, uv=uv)
        for name, value in (("triangles", mesh.triangles), ("landmarks68", self._morphable.landmarks68), ("uv", uv)):
            self.register_buffer(name, value.clone(), persistent=False)
        size, texture, width = config.image_size, config.texture_size, config.width
        coefficients = self.identity_size + self.expression_size
        self.viewpoint_network = StridedRegressor(3, size, VIEWPOINT_SIZE, width)
        self.shape_network: StridedRegressor | CanonicalReader
        if config.shape_network == "point-reader":
            self.shape_network = CanonicalReader(size, config.surface_points, config.point_features, coefficients)
            nn.init.zeros_(self.shape_network.head.weight)
            nn.init.zeros_(self.shape_network.head.bias)
        else:
            self.shape_network = StridedRegressor(3, size, coefficients, width)
        self.reflectance_network = TextureUNet(
            4 if config.coupled else 3, texture, width, bottleneck=not config.coupled
        )
        branches = ((3, size), (6, texture)) if config.coupled else ((3, size),)
        self.light_network = BranchedRegressor(branches, LIGHT_SIZE, width)
        self.renderer = Renderer(mesh.triangles, size, size)

    @property
    def morphable(self) -> MorphableModel:
        """On the module's device."""
        if self._morphable.device != self.uv.device:
            self._morphable = self._morphable.to(self.uv.device)
        return self._morphable

    @property
    def uv_map(self) -> UVMap:
        """On the module's device."""
        if self._uv_map.device != self.uv.device:
            self._uv_map = self._uv_map.to(self.uv.device)
        return self._uv_map

    def camera(self, pose: torch.Tensor) -> WeakPerspectiveCamera:
        return WeakPerspectiveCamera.from_pose(pose, self.config.image_size, self.config.image_size)

    def estimate_viewpoint(self, images: torch.Tensor) -> torch.Tensor:
        """v [N, 7]. Raises ValueError for pictures of another shape."""
        size = self.config.image_size
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(f"images must have shape [N, 3, {size}, {size}], got {list(images.shape)}")
        return self.viewpoint_network(images)

    def estimate_shape(self, images: torch.Tensor, viewpoint: torch.Tensor) -> torch.Tensor:
        """alpha [N, Ki + Ke], of the canonical crops where the estimate is coupled."""
        seen = self.shape_input(images, viewpoint)
        if isinstance(self.shape_network, CanonicalReader):
            return self.shape_network(seen).embed
        return self.shape_network(seen)

    def shape_input(self, images: torch.Tensor, viewpoint: torch.Tensor) -> torch.Tensor:
        """What f_s sees: the canonical crops, or the pictures where the estimate is not coupled."""
        if not self.config.coupled:
            return images
        return canonical_crop(images, pose_of(viewpoint.detach() if self.config.detach_crop else viewpoint))

    def coefficients(self, whitened: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Identity [N, Ki] and expression [N, Ke], as the morphable model takes them."""
        prior = self.morphable.prior
        identity, expression = whitened.split((self.identity_size, self.expression_size), 1)
        return prior.unwhiten("identity", identity), prior.unwhiten("expression", expression)

    def decode_shape(self, identity: torch.Tensor, expression: torch.Tensor | None = None) -> torch.Tensor:
        """Vertices [N, V, 3] in mm of the model's coefficients; without an expression the neutral face."""
        return self.morphable.shape(identity, expression)

    def unwrap(
        self, images: torch.Tensor, vertices: torch.Tensor, camera: WeakPerspectiveCamera
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """T [N, 3, Hu, Wu], 0 where the face does not show the texel, and where it does, bool [N, Hu, Wu]."""
        clip = camera.to_clip(vertices)
        fragments = rasterize(clip.detach(), self.triangles, *images.shape[2:])
        return uv_unwrap(images, clip, self.uv_map, fragments)

    def forward(self, images: torch.Tensor) -> ConditionalEstimate:
        """The chain of METHODS 5. Differentiable in every weight; the visibility is held fixed."""
        viewpoint = self.estimate_viewpoint(images)
        whitened = self.estimate_shape(images, viewpoint)
        vertices, camera = self.decode_shape(*self.coefficients(whitened)), self.camera(pose_of(viewpoint))
        shape = (viewpoint, whitened, vertices, camera)
        if not self.config.coupled:
            size = self.config.texture_size
            scaled = images
            if images.shape[2] != size:
                shrinks = size < images.shape[2]
                scaled = functional.interpolate(images, (size, size), mode="bilinear", antialias=shrinks)
            return ConditionalEstimate(*shape, self.reflectance_network(scaled), self.light_network(images))
        unwrapped, visible = self.unwrap(images, vertices, camera)
        reflectance = self.reflectance_network(torch.cat([unwrapped, visible[:, None].to(unwrapped)], 1))
        light = self.light_network(images, torch.cat([unwrapped, reflectance], 1))
        return ConditionalEstimate(*shape, reflectance, light, unwrapped, visible)

    def render(self, estimate: ConditionalEstimate, background: torch.Tensor | None = None) -> Rendering:
        """Each face with its own reflectance."""
        surface = Texture(estimate.reflectance, self.uv)
        return self.renderer(estimate.vertices, surface, estimate.camera, estimate.sh_coefficients, background)

    @torch.no_grad()
    def reconstruct(self, images: torch.Tensor) -> Reconstruction:
        """Reconstructs N crops [N, 3, S, S] in [0, 1]; the module must be in eval mode."""
        if self.training:
            raise ValueError("call .eval() before .reconstruct(): batch statistics would mix the pictures")
        estimate = self(images)
        identity, expression = self.coefficients(estimate.whitened)
        return Reconstruction(
            vertices=estimate.vertices,
            neutral_vertices=self.decode_shape(identity),
            triangles=self.triangles,
            albedo=uv_sample(estimate.reflectance, self.uv),
            camera=estimate.camera,
            pose=estimate.pose,
            sh_coefficients=estimate.sh_coefficients,
            codes={"identity": identity, "expression": expression},
            landmarks68=self.landmarks68,
            texture=Texture(estimate.reflectance, self.uv),
        )


def pose_of(viewpoint: torch.Tensor) -> torch.Tensor:
    """Pose codes [N, 6] (pitch, yaw, roll, c_f, t_x, t_y) of v [N, 7]."""
    return viewpoint[:, POSE_OF_VIEWPOINT]


def canonical_positions(points: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
    """Where `canonical_crop` shows points [N, P, 2] of the pictures, both in NDC. Differentiable in both."""
    cosine, sine = pose[:, 2].cos(), pose[:, 2].sin()
    back = torch.stack([torch.stack([cosine, sine], 1), torch.stack([-sine, cosine], 1)], 1)
    return (points - pose[:, None, 4:]) @ back.transpose(1, 2) / pose[:, 3].exp()[:, None, None]


def canonical_crop(images: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
    """I o v: the pictures with the face's offset, in-plane turn and size undone, [N, 3, S, S] of square ones.

    The picture is read at p = t2d + (f / f0) R2(roll) q for each pixel's q in NDC, f / f0 = exp(c_f): bilinear, black
    outside. pose: codes [N, 6]. Differentiable in both. METHODS 5.
    """
    scale, (cosine, sine) = pose[:, 3].exp(), (pose[:, 2].cos(), pose[:, 2].sin())
    # torch's grids have y downwards, as NDC has not: the turn is the other way round, and so is t_y
    right = torch.stack([scale * cosine, scale * sine, pose[:, 4]], 1)
    down = torch.stack([-scale * sine, scale * cosine, -pose[:, 5]], 1)
    grid = functional.affine_grid(torch.stack([right, down], 1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
