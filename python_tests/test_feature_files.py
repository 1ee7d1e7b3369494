"""Pairs and features from files."""

from __future__ import annotations

import numpy as np
import pytest

from facecore.evaluation.feature_files import FeatureFiles, read_pairs


def test_pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("fold,first,second,same\n0,a,b,1\n1,a,c,0\n")
    pairs = read_pairs(path)
    assert pairs.fold.tolist() == [0, 1] and pairs.same.tolist() == [True, False] and pairs.similarity is None
    assert pairs.names == [("a", "b"), ("a", "c")]
    path.write_text("fold,similarity,same\n0,0.5,1\n")
    assert read_pairs(path).similarity.tolist() == [0.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("fold,first,same\n0,a,1\n", "no second"),
        ("fold,first,second,same\n", "has no pairs"),
        ("fold,first,second,same\n0,a,b,yes\n", "row 2: same must be 1 or 0, got 'yes'"),
        ("fold,first,second,same\nx,a,b,1\n", "row 2: fold must be a whole number"),
    ],
)
def test_wrong_pairs_are_refused(tmp_path, content, message):
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path / "pairs.csv")


def test_features_of_one_file(tmp_path):
    np.savez(tmp_path / "f.npz", names=np.array(["a", "b"]), features=np.array([[1.0, 2], [3, 4]]))
    files = FeatureFiles(tmp_path / "f.npz", "identity")
    assert files.of("b").tolist() == [3, 4]
    with pytest.raises(ValueError, match="no feature of 'c' in"):
        files.of("c")
    np.savez(tmp_path / "f.npz", names=np.array(["a"]), features=np.array([[1.0, 2], [3, 4]]))
    with pytest.raises(ValueError, match=r"names must be \[N\] and features finite"):
        FeatureFiles(tmp_path / "f.npz", "identity")
    (tmp_path / "g.npz").write_text("not an archive")
    with pytest.raises(ValueError, match=r"g\.npz has no readable names, features"):
        FeatureFiles(tmp_path / "g.npz", "identity")


def test_codes_of_reconstructed_faces(tmp_path):
    arrays = {
        "codes": np.arange(5.0),
        "code_names": np.array(["identity", "expression"]),
        "code_sizes": np.array([2, 3]),
    }
    (tmp_path / "deep").mkdir()
    np.savez(tmp_path / "deep/a.npz", **arrays)
    np.savez(tmp_path / "outside.npz", **arrays)
    assert FeatureFiles(tmp_path, "expression").of("deep/a.jpg").tolist() == [2, 3, 4]
    assert FeatureFiles(tmp_path, "identity").of("deep/a").tolist() == [0, 1]
    with pytest.raises(ValueError, match="has no code 'texture'; it has identity, expression"):
        FeatureFiles(tmp_path, "texture").of("deep/a")
    with pytest.raises(ValueError, match=r"no \.\./outside\.npz in"):
        FeatureFiles(tmp_path / "deep", "identity").of("../outside")


@pytest.mark.parametrize(
    "changes",
    [
        {"code_sizes": np.array([2])},  # fewer sizes than names
        {"code_sizes": np.array([2, 9])},
        {"code_sizes": np.array([7, -2])},
        {"code_sizes": np.array([2.0, 3.0])},
        {"code_sizes": np.array(5)},
        {"code_names": np.array("identity")},
        {"codes": np.array(1.0)},
        {"codes": np.zeros((5, 2))},
    ],
    ids=str,
)
def test_codes_that_do_not_fit_their_names_are_refused(tmp_path, changes):
    arrays = {
        "codes": np.arange(5.0),
        "code_names": np.array(["identity", "expression"]),
        "code_sizes": np.array([2, 3]),
    }
    np.savez(tmp_path / "a.npz", **arrays | changes)
    with pytest.raises(ValueError, match=r"a\.npz: code_sizes must hold .*write it again with 'facecore reconstruct'"):
        FeatureFiles(tmp_path, "expression").of("a")


def test_features_that_are_no_numbers_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", names=np.array(["x"]), features=np.array([["one"]]))
    with pytest.raises(ValueError, match=r"a\.npz: names must be \[N\] and features finite \[N, F\]"):
        FeatureFiles(tmp_path / "a.npz", "identity")
    np.savez(tmp_path / "b.npz", codes=np.array(["one"]), code_names=np.array(["x"]), code_sizes=np.array([1]))
    with pytest.raises(ValueError, match=r"b\.npz: the code 'x' must be a finite vector"):
        FeatureFiles(tmp_path, "x").of("b")
