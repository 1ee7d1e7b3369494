"""`facecore data features`, and the fusion of its features with codes in `facecore evaluate verification`."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import torch
from tiny_faces import write_portraits
from tiny_weak import write_recogniser

from facecore.cli import main
from facecore.data import PhotoFolder
from facecore.evaluation.feature_files import FeatureFiles, write_features
from facecore.evaluation.verification import cosine, verify
from facecore.morphable import load
from facecore.perception import alignment, load_identity_network

NAMES = ("ann/1", "ann/2", "bob/1", "bob/2")
PAIRS = (("ann/1", "ann/2", 1), ("bob/1", "bob/2", 1), ("ann/1", "bob/1", 0), ("ann/2", "bob/2", 0))


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> pathlib.Path:
    return write_recogniser(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("photos")
    for name in ("ann", "bob"):
        write_portraits(root / name, load("procedural", num_vertices=2500), ["1", "2"], size=64, one_person=True)
    return root


def test_features_are_the_networks(photos, network, tmp_path, capsys):
    out = tmp_path / "new" / "features.npz"
    assert main.main(["data", "features", str(photos), "--network", str(network), "--out", str(out)]) == 0
    assert "trained on renders" in "".join(capsys.readouterr())
    files = FeatureFiles(out, "")
    folder = PhotoFolder(photos, height=224, width=224)
    batch = folder.batch(torch.arange(4), None)
    with torch.no_grad():
        expected = load_identity_network(network).embed(batch.image, alignment(batch.aligning_points())).numpy()
    for i, feature in enumerate(expected):
        name = folder.path(i).relative_to(photos).as_posix()
        # one batch of four in both: the same sums in the same order, then float32 in a file
        np.testing.assert_allclose(files.of(name), feature, rtol=1e-6, atol=1e-7)
        assert np.array_equal(files.of(name), files.of(name.removesuffix(".png")))


def test_fusion(tmp_path):
    """Codes and embeddings that err on different pairs: the command's numbers are those of `verify` on both."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        (tmp_path / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
        code = rng.normal(size=6)
        np.savez(tmp_path / "faces" / f"{name}.npz", codes=code, code_names=["identity"], code_sizes=[6])
    write_features(tmp_path / "more.npz", [f"{name}.jpg" for name in NAMES], rng.normal(size=(4, 5)))
    rows = [f"{fold},{a},{b},{same}" for fold in range(3) for a, b, same in PAIRS]
    (tmp_path / "pairs.csv").write_text("fold,first,second,same\n" + "\n".join(rows))
    command = ["evaluate", "verification", str(tmp_path / "pairs.csv"), str(tmp_path / "faces")]
    assert main.main([*command, "--fuse", str(tmp_path / "more.npz"), "--out", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["settings"]["similarity"] == "fused cosines"
    sources = [FeatureFiles(tmp_path / "faces", "identity"), FeatureFiles(tmp_path / "more.npz", "")]
    both = np.array([[cosine(s.of(a)[None], s.of(b)[None])[0] for a, b, _ in PAIRS * 3] for s in sources])
    same, fold = np.array([same == 1 for *_, same in PAIRS] * 3), np.repeat(np.arange(3), 4)
    expected = verify(both, same, fold).measures
    means = {row["measure"]: row["mean"] for row in result["summary"]}
    assert means["AUC"] == pytest.approx(expected["auc"][0])
    assert means["accuracy"] == pytest.approx(expected["accuracy"][0])


def test_similarities_cannot_be_fused(tmp_path, capsys):
    (tmp_path / "pairs.csv").write_text("fold,similarity,same\n0,0.5,1\n1,0.1,0\n")
    write_features(tmp_path / "more.npz", ["a"], np.ones((1, 2)))
    command = ["evaluate", "verification", str(tmp_path / "pairs.csv"), "--fuse", str(tmp_path / "more.npz")]
    assert main.main([*command, "--out", str(tmp_path / "out")]) == 2
    assert "brings similarities and names no faces" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--code", "--fuse-code"])
def test_a_code_that_nothing_reads_is_refused(option, tmp_path, capsys):
    """A table of features has no codes; only the .npz of reconstructions do."""
    (tmp_path / "pairs.csv").write_text("fold,first,second,same\n0,a,b,1\n1,a,c,0\n")
    write_features(tmp_path / "f.npz", ["a", "b", "c"], np.eye(3))
    features = str(tmp_path / "f.npz")
    command = ["evaluate", "verification", str(tmp_path / "pairs.csv"), features, "--fuse", features, option, "texture"]
    assert main.main([*command, "--out", str(tmp_path / "out")]) == 2
    assert f"{option}: only the .npz of a folder have codes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_name_with_a_dot_is_no_other_name(tmp_path):
    """`anna.2` is missing: `anna.1` is not it, nor is a name that is there twice."""
    write_features(tmp_path / "f.npz", ["anna.1", "bert.1"], np.eye(2))
    with pytest.raises(ValueError, match=r"no feature of 'anna\.2'"):
        FeatureFiles(tmp_path / "f.npz", "").of("anna.2")
    np.savez(tmp_path / "anna.npz", codes=np.ones(2), code_names=["identity"], code_sizes=[2])
    with pytest.raises(ValueError, match=r"no anna\.2\.npz"):
        FeatureFiles(tmp_path, "identity").of("anna.2")
    assert FeatureFiles(tmp_path, "identity").of("anna.jpg").tolist() == [1, 1]
    write_features(tmp_path / "twice.npz", ["a", "a"], np.eye(2))
    with pytest.raises(ValueError, match="names must differ"):
        FeatureFiles(tmp_path / "twice.npz", "")


def test_another_picture_of_the_same_stem_is_not_it(tmp_path):
    write_features(tmp_path / "f.npz", ["a.jpg", "b"], np.eye(2))
    files = FeatureFiles(tmp_path / "f.npz", "")
    assert files.of("a").tolist() == [1, 0] and files.of("b.png").tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"no feature of 'a\.png'"):
        files.of("a.png")


def test_names_that_differ_in_their_ending_alone(tmp_path):
    """`a` could be either, `a.png` is one."""
    write_features(tmp_path / "f.npz", ["a.png", "a.jpg"], np.eye(2))
    files = FeatureFiles(tmp_path / "f.npz", "")
    assert files.of("a.png").tolist() == [1, 0]
    with pytest.raises(ValueError, match="no feature of 'a'"):
        files.of("a")


def test_a_photograph_without_landmarks_is_left_out(photos, network, tmp_path, capsys):
    only = tmp_path / "in"
    write_portraits(only, load("procedural", num_vertices=2500), ["1", "2"], size=64)
    (only / "2.pts").unlink()
    out = tmp_path / "f.npz"
    assert main.main(["data", "features", str(only), "--network", str(network), "--out", str(out)]) == 1
    assert "2.png" in capsys.readouterr().err
    with np.load(out) as arrays:
        assert arrays["names"].tolist() == ["1.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "features.csv"], "--out must be a file NAME.npz"),
        (["--network", "nowhere.json"], "nowhere.json: no such file"),
        (["--landmarks", "nowhere"], "nowhere: no such file"),
    ],
)
def test_bad_usage_is_one_line(photos, network, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code = main.main(["data", "features", str(photos), "--network", str(network), *arguments])
    captured = capsys.readouterr()
    assert code == 2 and message in captured.err and len(captured.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
