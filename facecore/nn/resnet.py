"""ResNet encoder (He 2016) with torchvision's parameter names, so that its weight files load as they are."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

import torch
from torch import nn

from facecore.nn.state_dict import read_state_dict, state_dict_problems

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)
GROUPS = 32  # of norm="group"
SMALL_MAP = 9  # pixels: up to here a matrix product beat an x86-64 CPU's convolution two to three times

Norm = Literal["batch", "group"]


class EncoderFeatures(NamedTuple):
    """Feature maps of an image of H x W, [N, C, ., .], and their mean over the last one.

    conv1 (after norm and ReLU): H/2; layer1: H/4; layer2: H/8; layer3: H/16; layer4: H/32 (each rounded up); channels
    64, then 64, 128, 256, 512 (depth 18, 34) or 256, 512, 1024, 2048 (depth 50). pooled: [N, 512] or [N, 2048].
    """

    conv1: torch.Tensor
    layer1: torch.Tensor
    layer2: torch.Tensor
    layer3: torch.Tensor
    layer4: torch.Tensor
    pooled: torch.Tensor


class ResNetEncoder(nn.Module):
    """Images to a code: ResNet without its classifier.

    Args:
        depth: 18, 34 or 50.
        weights: file of pre-trained weights, a torchvision state_dict saved by torch.save (read with weights_only) or
            a .safetensors file with the same names; a classifier `fc.*` in it is ignored. None = random weights.
        in_channels: of the images. Three are normalised with the ImageNet mean and deviation, any other number with
            the averages of those.
        norm: "batch", or "group" (32 groups; independent of the batch, its weights do not come from torchvision).

    `num_features` is the length of the code, `widths` the channels of layer1 to layer4. Parameter and buffer names are
    torchvision's. Raises ValueError for bad options or a file that does not fit (naming what is missing, unexpected or
    of a wrong shape).
    """

    mean: torch.Tensor
    std: torch.Tensor
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        depth: int = 50,
        weights: str | os.PathLike[str] | None = None,
        in_channels: int = 3,
        *,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise ValueError(f"depth must be one of {', '.join(map(str, BLOCKS))}, got {depth}")
        if in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {in_channels}")
        if norm not in ("batch", "group"):
            raise ValueError(f"norm must be batch or group, got {norm!r}")
        block: type[_BasicBlock] | type[_Bottleneck] = _Bottleneck if depth >= 50 else _BasicBlock
        self.num_features = WIDTHS[-1] * block.expansion
        self.widths: tuple[int, ...] = tuple(width * block.expansion for width in WIDTHS)
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = _norm(norm, 64)
        channels = 64
        for index, (width, count) in enumerate(zip(WIDTHS, BLOCKS[depth])):
            layer = nn.Sequential()
            for position in range(count):
                layer.append(block(channels, width, 2 if index and not position else 1, norm))
                channels = width * block.expansion
            self.add_module(f"layer{index + 1}", layer)
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        if in_channels != 3:
            mean, std = mean.mean().expand(in_channels).clone(), std.mean().expand(in_channels).clone()
        self.register_buffer("mean", mean.view(-1, 1, 1), persistent=False)
        self.register_buffer("std", std.view(-1, 1, 1), persistent=False)
        self._initialise()
        if weights is not None:
            self.load_weights(weights)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the code [N, num_features] of images [N, in_channels, H, W] with values in [0, 1].

        Differentiable. With norm="batch" in training mode the images of a batch influence each other.
        """
        return self.features(images).pooled

    def features(self, images: torch.Tensor) -> EncoderFeatures:
        """Returns the code and the feature maps that skip connections take; images as for forward."""
        if images.dim() != 4 or images.shape[1] != self.conv1.in_channels:
            raise ValueError(f"images must have shape [N, {self.conv1.in_channels}, H, W], got {list(images.shape)}")
        conv1 = torch.relu(self.bn1(self.conv1((images - self.mean) / self.std)))
        layer1 = self.layer1(nn.functional.max_pool2d(conv1, 3, 2, 1))
        layer2 = self.layer2(layer1)
        layer3 = self.layer3(layer2)
        layer4 = self.layer4(layer3)
        return EncoderFeatures(conv1, layer1, layer2, layer3, layer4, layer4.mean((2, 3)))

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Loads a torchvision state_dict or .safetensors file; see the class for what is accepted and raised."""
        state = {name: tensor for name, tensor in read_state_dict(path).items() if not name.startswith("fc.")}
        own = self.state_dict()
        problems = state_dict_problems(state, own)
        if problems:
            depth = next((d for d in BLOCKS if _fits(d, state)), None)
            hint = f"; the file looks like depth {depth}" if depth is not None else ""
            raise ValueError(f"{path} does not hold these ResNet weights: {problems}{hint}")
        self.load_state_dict(state, strict=False)

    def _initialise(self) -> None:
        """He initialisation by the fan-out, as ResNets are trained from scratch."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and the identity; depth 18 and 34."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = _Conv3x3(channels, width, stride)
        self.bn1 = _norm(norm, width)
        self.conv2 = _Conv3x3(width, width, 1)
        self.bn2 = _norm(norm, width)
        self.downsample = _downsample(channels, width, stride, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class _Bottleneck(nn.Module):
    """1x1, 3x3 (which carries the stride) and 1x1 convolutions and the identity; depth 50."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = _norm(norm, width)
        self.conv2 = _Conv3x3(width, width, stride)
        self.bn2 = _norm(norm, width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = _norm(norm, out_channels)
        self.downsample = _downsample(channels, out_channels, stride, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        return torch.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class _Conv3x3(nn.Conv2d):
    """3x3 convolution with padding 1, as a matrix product where the CPU's own is slow: many channels on few pixels."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__(channels, out_channels, 3, stride, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stride = self.stride[0]
        height, width = ((size - 1) // stride + 1 for size in x.shape[2:])
        if x.device.type != "cpu" or height * width > SMALL_MAP:
            return super().forward(x)
        padded = nn.functional.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # [N, H + 2, W + 2, C]
        rows, columns = (height - 1) * stride + 1, (width - 1) * stride + 1
        taps = [padded[:, i : i + rows : stride, j : j + columns : stride] for i in range(3) for j in range(3)]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)  # [O, 9 C]: a view where the weight is channels-last
        return nn.functional.linear(torch.cat(taps, -1), weight).permute(0, 3, 1, 2)


def _downsample(channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Module:
    if stride == 1 and channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, out_channels, 1, stride, bias=False), _norm(norm, out_channels))


def _norm(norm: Norm, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(GROUPS, channels)


def _fits(depth: int, state: dict[str, torch.Tensor]) -> bool:
    """Whether a state_dict has this depth's number of blocks in layer3 and its kind of block."""
    last = BLOCKS[depth][2] - 1
    bottleneck = "layer1.0.conv3.weight" in state
    return (
        f"layer3.{last}.conv1.weight" in state
        and f"layer3.{last + 1}.conv1.weight" not in state
        and bottleneck == (depth >= 50)
    )
