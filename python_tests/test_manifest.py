"""Manifests of perception networks."""

from __future__ import annotations

import json
import sys

import pytest
from toy_perception import write_manifest

from facecore.perception import read_manifest


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "net.pt").write_bytes(b"weights")
    return write_manifest(tmp_path / "net.json", "recognition", "torchscript", "net.pt")


def test_values_and_defaults(manifest):
    read = read_manifest(manifest)
    assert (read.role, read.format, read.input_size) == ("recognition", "torchscript", (64, 64))
    assert read.mean == (0.0, 0.0, 0.0) and read.channel_order == "RGB"
    assert read.network_file() == manifest.parent / "net.pt"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TOML is read from Python 3.11 on")
def test_toml_means_the_same(manifest):
    content = json.loads(manifest.read_text())
    outputs = content.pop("outputs")
    lines = [f"{key} = {json.dumps(value)}" for key, value in content.items()]
    lines += ["[outputs]"] + [f"{key} = {json.dumps(value)}" for key, value in outputs.items()]
    toml = manifest.with_suffix(".toml")
    toml.write_text("\n".join(lines))
    assert read_manifest(toml).digest == read_manifest(manifest).digest
    toml.write_text("role = ")
    with pytest.raises(ValueError, match=r"net\.toml cannot be read"):
        read_manifest(toml)


def test_the_digest_is_over_everything_that_matters(manifest):
    digest = read_manifest(manifest).digest
    moved = manifest.rename(manifest.parent / "other.json")
    assert read_manifest(moved).digest == digest
    (manifest.parent / "copy.pt").write_bytes((manifest.parent / "net.pt").read_bytes())
    copied = write_manifest(manifest.parent / "d.json", "recognition", "torchscript", "copy.pt")
    assert read_manifest(copied).digest == digest
    changes = {"mean": [0.5, 0.5, 0.5], "sha256": "1" * 64, "channel_order": "BGR", "input_size": [64, 32]}
    for key, value in changes.items():
        changed = write_manifest(manifest.parent / "c.json", "recognition", "torchscript", "net.pt", **{key: value})
        assert read_manifest(changed).digest != digest, key


BAD = {
    "role": ({"role": "hair"}, "role must be one of detector, landmarks"),
    "format": ({"format": "pickle"}, "format must be one of torchscript"),
    "no outputs": ({"outputs": {}}, "outputs must be the keys embed and may have pooled"),
    "outputs of another role": ({"outputs": {"points": 0}}, "outputs must be the keys embed"),
    "output kind": ({"outputs": {"embed": 1.5}}, "outputs has the wrong kind of value"),
    "missing": ({"input_size": None}, "missing input_size; the keys are role"),
    "unknown": ({"sise": 3}, "unknown sise; the keys are role"),
    "size": ({"input_size": [64]}, r"input_size must be \[height, width\]"),
    "size not whole": ({"input_size": [64.5, 64]}, "input_size must hold whole numbers"),
    "std": ({"std": [1, 0, 1]}, "std must be three finite numbers"),
    "class below 0": ({"face_classes": [0, -1]}, "face_classes must be numbers from 0"),
    "hash": ({"sha256": "abc"}, "sha256 must be 64 hexadecimal digits"),
    "architecture": ({"architecture": "small-recognition"}, "architecture must be the name"),
    "state-dict alone": ({"format": "state-dict"}, "architecture must be the name"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(manifest, case):
    changes, message = BAD[case]
    bad = write_manifest(manifest.parent / "bad.json", "recognition", "torchscript", "net.pt", **changes)
    with pytest.raises(ValueError, match=message) as error:
        read_manifest(bad)
    assert str(bad) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("a.json", "{", "cannot be read"), ("a.json", "[]", "must hold an object"), ("a.yaml", "", "must end in .json")],
)
def test_unreadable_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_manifest(tmp_path / name)
    with pytest.raises(ValueError, match="is not a file"):
        read_manifest(tmp_path / "none.json")


def test_the_file_is_the_one_that_was_meant(manifest):
    (manifest.parent / "net.pt").write_bytes(b"others")
    with pytest.raises(ValueError, match=r"net\.pt is not the file that the manifest describes: its sha256 is"):
        read_manifest(manifest).network_file()
    (manifest.parent / "net.pt").unlink()
    with pytest.raises(ValueError, match="is missing"):
        read_manifest(manifest).network_file()


@pytest.mark.parametrize("file", ["../outside.pt", "/etc/hostname", "link.pt"])
def test_no_file_outside_the_manifests_folder(manifest, tmp_path, file):
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "outside.pt").write_bytes(b"x")
    (folder / "link.pt").symlink_to(tmp_path / "outside.pt")
    path = write_manifest(folder / "m.json", "recognition", "torchscript", file)
    with pytest.raises(ValueError, match="file must lie beside the manifest or below it"):
        read_manifest(path).network_file()
