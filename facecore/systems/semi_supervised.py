"""System 0: semi-supervised, nonlinear, disentangled face reconstruction with graph convolutions (METHODS 2)."""

from __future__ import annotations

import torch
from torch import nn

from facecore.mesh import build_uv_map, cylindrical_uv, laplacian
from facecore.nn import EncoderFeatures, MeshDecoder, MeshDiscriminator, TextureDecoder
from facecore.ops import uv_sample
from facecore.render import Renderer, Rendering, WeakPerspectiveCamera
from facecore.structures import SparseMatrix, Texture
from facecore.systems.assets import FaceAssets
from facecore.systems.point_encoder import POSE_SIZE, PointEncoder, fixed_linear, zero_linear
from facecore.systems.reconstruction import Reconstruction
from facecore.systems.semi_supervised_codes import Codes, Encoding, Estimate
from facecore.systems.semi_supervised_config import ModelConfig

LIGHT_SIZE = 27
ALBEDO_MARGIN = 0.02  # keeps the mean albedo off 0 and 1, where its logit is infinite


class SemiSupervised(PointEncoder):
    """Encoder, four heads, shape and albedo decoders, shape discriminator.

    Pictures are [N, 3, S, S] in [0, 1], S = config.image_size. Shapes are decoded as a displacement from the template
    in units of sigma_s; the albedo, at the vertices or over UV space, as a change of the mean albedo before a sigmoid.
    The expression code 0 is the expressionless face.
    """

    config: ModelConfig
    mirror_map: torch.Tensor
    albedo_logit: torch.Tensor
    uv: torch.Tensor
    texture_logit: torch.Tensor
    texture_valid: torch.Tensor
    uses_texture: torch.Tensor

    def __init__(self, config: ModelConfig, assets: FaceAssets) -> None:
        super().__init__()
        self.config, self.assets = config, assets
        self.identity_size, self.expression_size = config.identity_size, config.expression_size
        self.register_buffer("template", assets.template.clone(), persistent=False)
        self.register_buffer("triangles", assets.triangles.clone(), persistent=False)
        self.register_buffer("landmarks68", assets.landmarks68.clone(), persistent=False)
        self.register_buffer("mirror_map", assets.mirror_map.clone(), persistent=False)
        mean = assets.albedo_mean.clamp(ALBEDO_MARGIN, 1 - ALBEDO_MARGIN)
        self.register_buffer("albedo_logit", torch.logit(mean), persistent=False)
        self.shape_scale = assets.shape_scale
        features = self.build_encoder(config)
        self.identity_head = nn.Linear(features, config.identity_size)
        self.expression_head = nn.Linear(features, config.expression_size)
        if config.surface_points:  # solved, never trained: see less_pose
            self.identity_correction = fixed_linear(6 * config.surface_points, config.identity_size)
            self.expression_correction = fixed_linear(6 * config.surface_points, config.expression_size)
        self.pose_head = zero_linear(features, POSE_SIZE)
        self.light_head = zero_linear(features, LIGHT_SIZE)
        hierarchy = assets.hierarchy
        terms, kind = config.num_terms, config.laplacian
        code_size = config.identity_size + config.expression_size
        self.shape_decoder: nn.Module
        if config.shape_decoder == "linear":
            shape = tuple(assets.template.shape)
            self.shape_decoder = nn.Sequential(nn.Linear(code_size, shape[0] * 3), nn.Unflatten(1, shape))
        else:
            self.shape_decoder = MeshDecoder(hierarchy, code_size, config.shape_channels, num_terms=terms, kind=kind)
        if config.albedo_decoder != "texture":
            self.albedo_decoder = MeshDecoder(
                hierarchy, config.identity_size, config.albedo_channels, num_terms=terms, kind=kind
            )
        if config.albedo_decoder != "graph":
            self._add_texture_decoder(config)
        self.discriminator = MeshDiscriminator(hierarchy, config.critic_channels, num_terms=terms, kind=kind)
        self.renderer = Renderer(assets.triangles, config.image_size, config.image_size)
        self._random_walk = laplacian(hierarchy.levels[0], "random_walk")

    def _add_texture_decoder(self, config: ModelConfig) -> None:
        mesh, size = self.assets.hierarchy.levels[0], config.image_size
        self.register_buffer("uv", cylindrical_uv(mesh), persistent=False)
        table = build_uv_map(mesh, size, size, uv=self.uv)
        valid = table.triangle_id >= 0
        corners = self.albedo_logit[table.corners.clamp_min(0).long()]  # [S, S, 3 corners, 3]
        mean = (table.barycentric[..., None] * corners).sum(2)
        mean = torch.where(valid[..., None], mean, self.albedo_logit.mean(0))
        self.register_buffer("texture_valid", valid, persistent=False)
        self.register_buffer("texture_logit", mean.permute(2, 0, 1).contiguous(), persistent=False)
        # part of the state: whether stage C has come
        self.register_buffer("uses_texture", torch.tensor(config.albedo_decoder == "texture"))
        self.use_texture(config.albedo_decoder == "texture")
        self.register_load_state_dict_post_hook(_read_use_of_texture)
        self.texture_decoder = TextureDecoder(
            mesh, self.uv, size, self.encoder.widths, config.identity_size, skips=config.texture_skips
        )

    @property
    def textured(self) -> bool:
        """Whether the albedo is a texture now: the texture decoder is there, and it is its turn."""
        return self.config.albedo_decoder != "graph" and self._textured

    def use_texture(self, wanted: bool) -> None:
        """Whether the texture decoder makes the albedo from now on; in the state_dict."""
        self.uses_texture.fill_(wanted)
        self._textured = wanted  # beside the buffer: reading that one would wait for a GPU

    @property
    def random_walk(self) -> SparseMatrix:
        """I - D^-1 A of the finest level, on the module's device."""
        if self._random_walk.device != self.template.device:
            self._random_walk = self._random_walk.to(self.template.device)
        return self._random_walk

    def model_parameters(self) -> list[nn.Parameter]:
        """Everything but the discriminator, in a fixed order."""
        return [p for name, p in self.named_parameters() if not name.startswith("discriminator.")]

    def heads(self) -> tuple[nn.Linear, ...]:
        """Of the four codes, in their order."""
        return self.identity_head, self.expression_head, self.pose_head, self.light_head

    def code_heads(self) -> tuple[nn.Linear, ...]:
        return self.identity_head, self.expression_head

    def corrections(self) -> tuple[nn.Linear, ...]:
        return () if self.point_maps is None else (self.identity_correction, self.expression_correction)

    def head_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.encode(images).features

    def encode(self, images: torch.Tensor) -> Encoding:
        """[N, 3, S, S] in [0, 1] -> codes, feature maps, and the maps of the surface points if there are any."""
        seen = self.see(images)
        features, points = seen.features, seen.points
        codes = Codes(*(head(features) for head in self.heads()))
        if points is not None:
            less_pose = self.less_pose(points.positions, codes.pose.detach())
            codes.identity = codes.identity + self.identity_correction(less_pose)
            codes.expression = codes.expression + self.expression_correction(less_pose)
            features = torch.cat([features, less_pose], 1)
        return Encoding(codes, seen.maps, points, features)

    def decode_displacement(self, identity: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        """(s_hat - s_tmpl) / sigma_s, [N, V, 3]."""
        return self.shape_decoder(torch.cat([identity, expression], dim=1))

    def decode_shape(self, identity: torch.Tensor, expression: torch.Tensor | None = None) -> torch.Tensor:
        """Vertices [N, V, 3] in mm; without an expression code, the neutral face."""
        if expression is None:
            expression = identity.new_zeros(len(identity), self.config.expression_size)
        return self.vertices(self.decode_displacement(identity, expression))

    def vertices(self, displacement: torch.Tensor) -> torch.Tensor:
        """Vertices [N, V, 3] in mm of a displacement in units of sigma_s."""
        return torch.add(self.template, displacement, alpha=self.shape_scale)

    def decode_albedo(self, identity: torch.Tensor) -> torch.Tensor:
        """[N, V, 3] in (0, 1)."""
        return torch.sigmoid(self.albedo_logit + self.albedo_decoder(identity))

    def decode_texture(self, maps: EncoderFeatures, identity: torch.Tensor, vertices_clip: torch.Tensor) -> Texture:
        """[N, 3, S, S] in (0, 1) over UV space; vertices_clip [N, V, 4]: the shape in the pictures of the maps."""
        change = self.texture_decoder(maps, identity, vertices_clip)
        return Texture(torch.sigmoid(self.texture_logit + change), self.uv)

    def camera(self, pose: torch.Tensor) -> WeakPerspectiveCamera:
        return WeakPerspectiveCamera.from_pose(pose, self.config.image_size, self.config.image_size)

    def size_in_picture(self, pose: torch.Tensor) -> torch.Tensor:
        return pose[:, 3].exp()

    def decode(self, encoding: Encoding) -> Estimate:
        codes = encoding.codes
        displacement = self.decode_displacement(codes.identity, codes.expression)
        vertices, camera = self.vertices(displacement), self.camera(codes.pose)
        if not self.textured:
            return Estimate(codes, displacement, vertices, self.decode_albedo(codes.identity), camera)
        texture = self.decode_texture(encoding.maps, codes.identity, camera.to_clip(vertices))
        return Estimate(codes, displacement, vertices, uv_sample(*texture), camera, texture)

    def render(self, estimate: Estimate, background: torch.Tensor | None = None) -> Rendering:
        codes = estimate.codes
        return self.renderer(estimate.vertices, estimate.surface, estimate.camera, codes.sh_coefficients, background)

    def forward(self, images: torch.Tensor) -> Estimate:
        return self.decode(self.encode(images))

    @torch.no_grad()
    def reconstruct(self, images: torch.Tensor) -> Reconstruction:
        """Reconstructs N crops [N, 3, S, S] in [0, 1]; the module must be in eval mode."""
        if self.training:
            raise ValueError("call .eval() before .reconstruct(): batch statistics would mix the pictures")
        return self.to_reconstruction(self(images))

    def to_reconstruction(self, estimate: Estimate) -> Reconstruction:
        codes = estimate.codes
        return Reconstruction(
            vertices=estimate.vertices,
            neutral_vertices=self.decode_shape(codes.identity),
            triangles=self.triangles,
            albedo=estimate.albedo,
            camera=estimate.camera,
            pose=codes.pose,
            sh_coefficients=codes.sh_coefficients,
            codes={"identity": codes.identity, "expression": codes.expression},
            landmarks68=self.landmarks68,
            texture=estimate.texture,
        )


def _read_use_of_texture(module: nn.Module, _: object) -> None:
    assert isinstance(module, SemiSupervised)
    # weights of an earlier stage may be loaded into a system that has no other albedo
    module.use_texture(bool(module.uses_texture) or module.config.albedo_decoder == "texture")
