"""Loading perception networks from each format."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from toy_perception import SIZE, Embedder, Points, write_manifest, write_onnx_points, write_torchscript

from facecore.nn import RecognitionNet
from facecore.perception import architectures, read_manifest, register_architecture
from facecore.perception.manifest import file_hash
from facecore.perception.networks import load_network


@pytest.fixture
def images(generator) -> torch.Tensor:
    return torch.rand(1, 3, *SIZE, generator=generator)


def load(path):
    return load_network(read_manifest(path))


def test_formats_agree(tmp_path, images):
    points = Points()
    write_torchscript(tmp_path / "p.pt", points)
    torch.save(points.state_dict(), tmp_path / "p.pth")
    safetensors.torch.save_file(points.state_dict(), tmp_path / "p.safetensors")
    register_architecture("toy-points", Points)
    state = {"architecture": "toy-points"}
    paths = [
        write_manifest(tmp_path / "a.json", "landmarks", "torchscript", "p.pt"),
        write_manifest(tmp_path / "b.json", "landmarks", "state-dict", "p.pth", **state),
        write_manifest(tmp_path / "c.json", "landmarks", "state-dict", "p.safetensors", **state),
    ]
    for path in paths:
        network = load(path)
        torch.testing.assert_close(network(images)["points"], points(images))
        assert network.differentiable and network.module is not None and not network.module.training
        assert not any(parameter.requires_grad for parameter in network.module.parameters())


def test_onnx_agrees_and_has_no_gradient(tmp_path, images):
    pytest.importorskip("onnxruntime")
    points = Points()
    write_onnx_points(tmp_path / "p.onnx", points)
    path = write_manifest(tmp_path / "m.json", "landmarks", "onnx", "p.onnx", outputs={"points": "points"})
    network = load(path)
    torch.testing.assert_close(network(images)["points"], points(images).flatten(1), rtol=1e-5, atol=1e-5)
    assert not network.differentiable
    with pytest.raises(ValueError, match="does not run on pictures of"):
        load_network(read_manifest(_changed(path, input_size=[32, 32])))(images[:, :, :32, :32])
    (tmp_path / "p.onnx").write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"p\.onnx is not an ONNX file"):
        load(write_manifest(tmp_path / "m.json", "landmarks", "onnx", "p.onnx"))


def _changed(path, **changes):
    return write_manifest(path.parent / "changed.json", "landmarks", "onnx", "p.onnx", **changes)


def test_onnx_is_refused_where_a_gradient_is_needed(tmp_path):
    (tmp_path / "p.onnx").write_bytes(b"anything")
    path = write_manifest(tmp_path / "m.json", "recognition", "onnx", "p.onnx")
    with pytest.raises(ValueError, match="needs a gradient to the picture, and an ONNX runtime gives none; convert"):
        load_network(read_manifest(path), needs_gradient=True)


def test_without_onnxruntime_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    (tmp_path / "p.onnx").write_bytes(b"anything")
    with pytest.raises(ImportError, match=r"pip install 'facecore\[onnx\]'"):
        load(write_manifest(tmp_path / "m.json", "landmarks", "onnx", "p.onnx"))


def test_normalisation_and_channel_order(tmp_path, images):
    module = torch.nn.Flatten()
    write_torchscript(tmp_path / "p.pt", module)
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    path = write_manifest(
        tmp_path / "a.json", "recognition", "torchscript", "p.pt", outputs={"embed": 0}, mean=mean, std=std,
        channel_order="BGR",
    )  # fmt: skip
    seen = load(path)(images)["embed"].view(1, 3, *SIZE)
    for channel in range(3):
        torch.testing.assert_close(seen[:, channel], (images[:, 2 - channel] - mean[channel]) / std[channel])
    with pytest.raises(ValueError, match="images must be float32"):
        load(path)(images[:, :, :32])


@pytest.mark.parametrize(("key", "message"), [("nose", "no output 'nose'; it gives embed, pooled"), (2, "output 2")])
def test_a_lacking_output_is_named(tmp_path, images, key, message):
    write_torchscript(tmp_path / "e.pt", Embedder())
    path = write_manifest(tmp_path / "a.json", "recognition", "torchscript", "e.pt", outputs={"embed": key})
    with pytest.raises(ValueError, match=message):
        load(path)(images)


def test_the_built_in_architecture(tmp_path):
    torch.manual_seed(0)
    network = RecognitionNet().eval()
    safetensors.torch.save_file(network.state_dict(), tmp_path / "r.safetensors")
    settings = {"architecture": "small-recognition", "input_size": [112, 112]}
    path = write_manifest(tmp_path / "m.json", "recognition", "state-dict", "r.safetensors", **settings)
    images = torch.rand(2, 3, 112, 112)
    found = load(path)(images)
    torch.testing.assert_close(found["embed"], network(images).embed)
    assert "small-recognition" in architectures()


def test_a_callable_that_is_another_file_does_not_run(tmp_path, monkeypatch):
    (tmp_path / "changed_network.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef f(images): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="is not the file that the manifest describes"):
        load(write_manifest(tmp_path / "a.json", "landmarks", "callable", "changed_network:f", sha256="0" * 64))
    assert not (tmp_path / "ran").exists()


def test_wrong_files_and_names(tmp_path, monkeypatch):
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.pt is not a TorchScript file"):
        load(write_manifest(tmp_path / "a.json", "recognition", "torchscript", "text.pt"))
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    other = {"architecture": "no-such"}
    with pytest.raises(ValueError, match=r"a registered one \(.*small-recognition.*\), got 'no-such'"):
        load(write_manifest(tmp_path / "b.json", "recognition", "state-dict", "w.pth", **other))
    known = {"architecture": "small-recognition"}
    with pytest.raises(ValueError, match=r"does not hold the weights of small-recognition: \d+ missing"):
        load(write_manifest(tmp_path / "c.json", "recognition", "state-dict", "w.pth", **known))
    with pytest.raises(ValueError, match="options do not fit small-recognition"):
        load(write_manifest(tmp_path / "d.json", "recognition", "state-dict", "w.pth", options={"a": 1}, **known))
    for file, message in (("nowhere", "must be module:function"), ("no_such_module:f", "cannot be imported")):
        with pytest.raises(ValueError, match=message):
            load(write_manifest(tmp_path / "e.json", "landmarks", "callable", file))
    with pytest.raises(ValueError, match="is not the file that the manifest describes"):
        load(write_manifest(tmp_path / "f.json", "landmarks", "callable", "toy_perception:locate", sha256="0" * 64))
    for content, reason in (("def f(:", "invalid syntax"), ("raise KeyError('why')", "why")):
        (tmp_path / "broken_network.py").write_text(content)
        monkeypatch.syspath_prepend(tmp_path)
        digest = file_hash(tmp_path / "broken_network.py")
        with pytest.raises(ValueError, match=rf"g\.json: broken_network:f cannot be imported \(.*{reason}"):
            load(write_manifest(tmp_path / "g.json", "landmarks", "callable", "broken_network:f", sha256=digest))
    with pytest.raises(ValueError, match="name must be new, got 'small-recognition'"):
        register_architecture("small-recognition", Points)
