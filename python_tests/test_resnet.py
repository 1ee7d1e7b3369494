"""ResNetEncoder: torchvision's names and sizes, hand-checkable arithmetic, weight files, normalisation, gradients."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from facecore.nn.resnet import ResNetEncoder, _Conv3x3

# torchvision's totals with the classifier of 1,000 classes
TOTALS = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032}
MAPS = {18: [64, 64, 128, 256, 512], 50: [64, 256, 512, 1024, 2048]}


@pytest.fixture(scope="module")
def encoder() -> ResNetEncoder:
    torch.manual_seed(0)
    return ResNetEncoder(18).eval()


@pytest.mark.parametrize("depth", TOTALS)
def test_parameter_count_is_torchvisions(depth):
    with torch.device("meta"):
        model = ResNetEncoder(depth)
    classifier = (model.num_features + 1) * 1000
    assert sum(p.numel() for p in model.parameters()) + classifier == TOTALS[depth]


def test_names_are_torchvisions():
    with torch.device("meta"):
        names = set(ResNetEncoder(50).state_dict())
    assert len(names) == 318  # torchvision's 320 without fc.weight and fc.bias
    expected = ["conv1.weight", "bn1.running_var", "layer1.0.downsample.0.weight", "layer1.0.downsample.1.bias"]
    expected += ["layer2.3.conv3.weight", "layer3.5.bn2.num_batches_tracked", "layer4.2.bn3.weight"]
    assert names.issuperset(expected)
    with torch.device("meta"):
        names = set(ResNetEncoder(18).state_dict())
    assert len(names) == 120 and "layer1.0.downsample.0.weight" not in names


@pytest.mark.parametrize("depth", MAPS)
def test_shapes_of_the_maps(depth):
    with torch.device("meta"):
        features = ResNetEncoder(depth).features(torch.zeros(2, 3, 96, 112))
    assert [m.shape[1] for m in features[:5]] == MAPS[depth]
    assert [tuple(m.shape[2:]) for m in features[:5]] == [(48, 56), (24, 28), (12, 14), (6, 7), (3, 4)]
    assert features.pooled.shape == (2, MAPS[depth][-1])


def test_block_is_two_convolutions_and_a_shortcut(encoder, generator):
    """layer2.0 of depth 18 written out with functional calls."""
    block = encoder.get_submodule("layer2.0")
    state = block.state_dict()
    x = torch.randn(2, 64, 9, 9, generator=generator)

    def norm(x, name):
        scale = state[f"{name}.weight"] / torch.sqrt(state[f"{name}.running_var"] + 1e-5)
        return (x - state[f"{name}.running_mean"].view(-1, 1, 1)) * scale.view(-1, 1, 1) + state[f"{name}.bias"].view(
            -1, 1, 1
        )

    out = norm(torch.conv2d(x, state["conv1.weight"], stride=2, padding=1), "bn1").relu()
    out = norm(torch.conv2d(out, state["conv2.weight"], padding=1), "bn2")
    shortcut = norm(torch.conv2d(x, state["downsample.0.weight"], stride=2), "downsample.1")
    torch.testing.assert_close(block(x), (out + shortcut).relu(), rtol=1e-4, atol=1e-5)


def test_bottleneck_carries_the_stride_in_its_middle():
    with torch.device("meta"):
        block = ResNetEncoder(50).get_submodule("layer2.0")
    assert [block.get_submodule(f"conv{i}").stride for i in (1, 2, 3)] == [(1, 1), (2, 2), (1, 1)]


def test_images_are_normalised_inside(encoder):
    """A picture of the ImageNet mean colour is 0 to the first convolution, so its response vanishes."""
    seen = []
    handle = encoder.conv1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    encoder(torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 40, 40))
    encoder(torch.tensor([0.485 + 0.229, 0.456, 0.406 - 0.225]).view(1, 3, 1, 1).expand(1, 3, 40, 40))
    handle.remove()
    assert seen[0].abs().max() < 1e-6
    torch.testing.assert_close(seen[1][0, :, 3, 3], torch.tensor([1.0, 0.0, -1.0]), rtol=1e-5, atol=1e-6)


def test_code_is_the_mean_of_the_last_map(encoder, generator):
    images = torch.rand(2, 3, 64, 64, generator=generator)
    features = encoder.features(images)
    torch.testing.assert_close(encoder(images), features.layer4.flatten(2).mean(2))


def test_channels_last_gives_the_same(encoder, generator):
    images = torch.rand(2, 3, 64, 64, generator=generator)
    expected = encoder(images)
    got = encoder.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    # sums of 4,608 products in another order, through 18 layers
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    encoder.to(memory_format=torch.contiguous_format)


def test_gradient_reaches_images_and_every_parameter(generator):
    torch.manual_seed(0)
    model = ResNetEncoder(18)
    images = torch.rand(2, 3, 48, 48, generator=generator, requires_grad=True)
    model(images).square().sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_group_norm_keeps_images_apart(generator):
    torch.manual_seed(0)
    model = ResNetEncoder(18, norm="group")
    images = torch.rand(3, 3, 48, 48, generator=generator)
    torch.testing.assert_close(model(images)[:1], model(images[:1]), rtol=1e-4, atol=1e-5)


def test_other_channel_counts(generator):
    torch.manual_seed(0)
    assert ResNetEncoder(18, in_channels=4).eval()(torch.rand(1, 4, 48, 48, generator=generator)).shape == (1, 512)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("old", [False, True], ids=["new", "without_counters"])
def test_weights_come_back_from_a_file(encoder, generator, tmp_path, name, old):
    state = {k: v for k, v in encoder.state_dict().items() if not (old and k.endswith("num_batches_tracked"))}
    state |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    images = torch.rand(1, 3, 48, 48, generator=generator)
    assert torch.equal(ResNetEncoder(18, weights=path).eval()(images), encoder(images))


def test_nested_state_dict_is_found(encoder, tmp_path):
    torch.save({"state_dict": encoder.state_dict(), "epoch": 3}, tmp_path / "checkpoint.pth")
    assert torch.equal(ResNetEncoder(18, tmp_path / "checkpoint.pth").conv1.weight, encoder.conv1.weight)


def test_bad_files(encoder, tmp_path):
    state = encoder.state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match=r"missing \(.*; the file looks like depth 18"):
        ResNetEncoder(34, tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match=r"1 of another shape \(conv1\.weight\)"):
        ResNetEncoder(18, tmp_path / "resnet18.pth", in_channels=1)
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "prefixed.pth")
    with pytest.raises(ValueError, match=r"unexpected \(module\."):
        ResNetEncoder(18, tmp_path / "prefixed.pth")
    with pytest.raises(ValueError, match="does not exist"):
        ResNetEncoder(18, tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("not a pickle")
    with pytest.raises(ValueError, match="not a file of tensors"):
        ResNetEncoder(18, tmp_path / "text.pth")
    (tmp_path / "text.safetensors").write_text("not tensors")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        ResNetEncoder(18, tmp_path / "text.safetensors")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"must hold a state_dict .* got list"):
        ResNetEncoder(18, tmp_path / "list.pth")


def test_bad_options_and_inputs(encoder):
    with pytest.raises(ValueError, match="depth must be one of 18, 34, 50, got 101"):
        ResNetEncoder(101)
    with pytest.raises(ValueError, match="norm must be"):
        ResNetEncoder(18, norm="layer")
    with pytest.raises(ValueError, match="in_channels must be"):
        ResNetEncoder(18, in_channels=0)
    with pytest.raises(ValueError, match=r"images must have shape \[N, 3, H, W\], got \[2, 48, 48, 3\]"):
        encoder(torch.zeros(2, 48, 48, 3))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (5, 4), (1, 6)])
def test_small_maps_by_matrix_product_are_convolutions(generator, stride, size):
    """Value and gradients against the convolution; float64, so that only a wrong formula differs."""
    layer = _Conv3x3(5, 7, stride).double()
    x = torch.randn(2, 5, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.conv2d(x, layer.weight, None, stride, 1)
    result = layer(x)
    torch.testing.assert_close(result, expected)
    upstream = torch.randn(result.shape, generator=generator, dtype=torch.float64)
    inputs = (x, layer.weight)
    torch.testing.assert_close(
        torch.autograd.grad(result, inputs, upstream), torch.autograd.grad(expected, inputs, upstream)
    )
