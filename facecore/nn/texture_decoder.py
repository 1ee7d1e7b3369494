"""Convolutional albedo decoder: an identity code and the encoder's maps to a texture over UV space (METHODS 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from facecore import ops
from facecore.mesh import Mesh, build_uv_map
from facecore.nn.resnet import EncoderFeatures
from facecore.structures import UVMap

BOTTLENECK = 512
WIDTHS = (256, 128, 64, 32, 16)  # of the five steps up, at 1/16, 1/8, 1/4, 1/2 and the whole of the texture's size
GROUPS = 8
SkipKind = Literal["warped", "raw"]


class SurfaceSkips(nn.Module):
    """Takes feature maps from the picture to UV space: each texel's value is the map's where the texel is seen.

    Args:
        mesh: template; its cylindrical layout is the UV space (facecore.mesh.build_uv_map with uv).
        uv: texture coordinates [V, 2].
        sizes: heights (= widths) of the maps, in the order in which they come.

    A map's pixel (i, j) is taken to lie at the middle of the square of the picture that it stands for.
    """

    def __init__(self, mesh: Mesh, uv: torch.Tensor, sizes: Sequence[int]) -> None:
        super().__init__()
        self._uv_maps = [build_uv_map(mesh, size, size, uv=uv) for size in sizes]

    def forward(self, maps: Sequence[torch.Tensor], vertices_clip: torch.Tensor) -> list[torch.Tensor]:
        """maps: [N, C, S, S] of the given sizes; vertices_clip: [N, V, 4], taken as constant. Returns [N, C, S, S] in
        UV space, 0 where the face does not show the texel. Differentiable in maps."""
        clip = vertices_clip.detach().float()
        warped = []
        for index, features in enumerate(maps):
            uv_map = self._on(index, features.device)
            fragments = ops.rasterize(clip, uv_map.triangles, *features.shape[2:])
            warped.append(ops.uv_unwrap(features.float().contiguous(), clip, uv_map, fragments)[0])
        return warped

    def _on(self, index: int, device: torch.device) -> UVMap:
        if self._uv_maps[index].device != device:
            self._uv_maps[index] = self._uv_maps[index].to(device)
        return self._uv_maps[index]


class TextureDecoder(nn.Module):
    """U-Net decoder whose skips come from a ResNetEncoder: [N, identity_size] and maps -> [N, 3, S, S], any value.

    Args:
        mesh, uv: as for SurfaceSkips.
        size: S, height and width of both the pictures and the texture, a multiple of 32.
        encoder_widths: channels of the encoder's layer1 to layer4.
        identity_size: length of the identity code.
        skips: "warped" samples each skip at the texels' places in the picture, 0 where hidden; "raw" takes the maps as
            they lie in the picture, the literal U-Net.

    layer4 (1x1 to 512 channels) and the code (FC to 512, on every pixel) join in a convolution; then five times:
    bilinear x2, skip (layer3, layer2, layer1, conv1, none), two 3x3 convolutions with GroupNorm 8 and ReLU, to 256,
    128, 64, 32, 16 channels; a last 3x3 convolution to 3, which starts at 0. Nothing crosses the batch.
    """

    def __init__(
        self,
        mesh: Mesh,
        uv: torch.Tensor,
        size: int,
        encoder_widths: Sequence[int],
        identity_size: int,
        *,
        skips: SkipKind = "warped",
    ) -> None:
        super().__init__()
        if size < 32 or size % 32:
            raise ValueError(f"size must be a multiple of 32, got {size}")
        if skips not in ("warped", "raw"):
            raise ValueError(f'skips must be "warped" or "raw", got {skips!r}')
        self.size = size
        self.surface = SurfaceSkips(mesh, uv, [size // 16, size // 8, size // 4, size // 2])
        self.skips: SkipKind = skips
        self.reduce = nn.Conv2d(encoder_widths[3], BOTTLENECK, 1)
        self.code = nn.Linear(identity_size, BOTTLENECK)
        self.join = nn.Conv2d(2 * BOTTLENECK, BOTTLENECK, 3, padding=1)
        self.steps = nn.ModuleList()
        channels = BOTTLENECK
        for width, skip in zip(WIDTHS, (encoder_widths[2], encoder_widths[1], encoder_widths[0], 64, 0)):
            self.steps.append(nn.Sequential(_block(channels + skip, width), _block(width, width)))
            channels = width
        self.last = nn.Conv2d(channels, 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, maps: EncoderFeatures, identity: torch.Tensor, vertices_clip: torch.Tensor) -> torch.Tensor:
        """maps: of pictures [N, 3, S, S]; identity: [N, identity_size]; vertices_clip: [N, V, 4], the shape in them.

        Raises ValueError for maps of another picture size. Differentiable in maps and identity.
        """
        if maps.conv1.shape[2] * 2 != self.size:
            raise ValueError(f"maps must be of pictures of {self.size} pixels, got {2 * maps.conv1.shape[2]}")
        skips = [maps.layer3, maps.layer2, maps.layer1, maps.conv1]
        skips = self.surface(skips, vertices_clip) if self.skips == "warped" else [skip.float() for skip in skips]
        bottom = torch.relu(self.reduce(maps.layer4.float()))
        code = torch.relu(self.code(identity))[:, :, None, None].expand(-1, -1, *bottom.shape[2:])
        x = torch.relu(self.join(torch.cat([bottom, code], 1)))
        for index, step in enumerate(self.steps):
            x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = step(torch.cat([x, skips[index]], 1) if index < len(skips) else x)
        return self.last(x)


def _block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(GROUPS, width), nn.ReLU())
