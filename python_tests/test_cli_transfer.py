"""`facecore transfer` and `facecore reconstruct --average`: files, order, refusals, and that nothing is overwritten."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import shutil

import numpy as np
import pytest
import torch
from cli_runs import call
from PIL import Image
from test_texture_stage import config
from tiny_faces import write_portraits

from facecore import systems
from facecore.cli import main
from facecore.cli.reconstruct import reconstruct_with_progress
from facecore.data import FaceCrop, read_image, read_landmarks, write_png
from facecore.morphable import load as load_model
from facecore.systems.refinement import Diverged
from facecore.systems.semi_supervised_training import SemiSupervisedTrainer

MESHES = {"glb", "obj", "npz"}


@dataclasses.dataclass
class Shared:
    """Portraits x, y1, y2, y10 with landmarks; nobody.png shows no face; a checkpoint of random weights."""

    folder: pathlib.Path
    checkpoint: pathlib.Path

    def __getitem__(self, name: str) -> pathlib.Path:
        return self.folder / f"{name}.png"


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Shared:
    folder = tmp_path_factory.mktemp("transfer")
    morphable = load_model("procedural", num_vertices=2500)
    files = Shared(folder / "people", folder / "model.safetensors")
    write_portraits(files.folder, morphable, ["x", "y10", "y1", "y2"])
    write_png(files["nobody"], torch.linspace(0, 1, 96).expand(3, 96, 96))
    torch.manual_seed(0)
    trainer = SemiSupervisedTrainer(config(), morphable, None)
    for head in (trainer.system.pose_head, trainer.system.light_head):
        torch.nn.init.normal_(head.weight, std=0.01)  # heads that start at 0 would give every picture one pose
    trainer.checkpoint(0, resumable=False).save(files.checkpoint)
    return files


load_once = functools.cache(systems.load)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The checkpoint is loaded once, and pictures of pages are drawn small: most of the time would go there."""
    monkeypatch.setattr("facecore.systems.load", load_once)
    for name in ("report.PANEL", "transfer_page.PANEL", "transfer_page.TILE"):
        monkeypatch.setattr(f"facecore.evaluation.{name}", 40)


@pytest.fixture
def run(capsys, shared, tmp_path):
    """Runs `facecore transfer` into tmp_path/out: exit code, output, errors, files."""

    def run(*arguments: object, command: str = "transfer") -> tuple[int, str, str, set[str]]:
        out = tmp_path / "out"
        options = ["--checkpoint", shared.checkpoint, "--out", out, "--detector", "none"]
        code, text, errors = call(capsys, command, *arguments, *options)
        return code, text, errors, {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}

    return run


def ended(name: str, *ends: str) -> set[str]:
    return {f"{name}.{end}" for end in ends}


def test_from_a_face_to_itself_is_what_reconstruct_writes(run, shared, tmp_path):
    code, _, errors, files = run("--identity", shared["x"], "--driver", shared["x"])
    assert (code, errors) == (0, "")
    assert files == ended("x", "png", *MESHES) | {"index.html"}
    result = {name: np.array(array) for name, array in np.load(tmp_path / "out/x.npz").items()}
    picture = read_image(tmp_path / "out/x.png")
    code, _, _, _ = run(shared["x"], command="reconstruct")
    expected = np.load(tmp_path / "out/x.npz")
    assert code == 0 and set(result) == set(expected)
    for name in result:
        np.testing.assert_array_equal(result[name], expected[name], err_msg=name)
    assert torch.equal(picture, read_image(tmp_path / "out/x_overlay.png"))


def test_a_folder_is_a_sequence_in_the_order_of_its_numbers(run, shared, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("y1", "y2", "y10"):
        for suffix in (".png", ".pts"):
            shutil.copy(shared[name].with_suffix(suffix), tmp_path / "in")
    options = ["--identity", shared["x"], "--driver", tmp_path / "in", "--no-meshes", "--animation", "gif"]
    code, out, errors, files = run(*options)
    assert (code, errors) == (0, "") and "3 results" in out
    assert files == {"y1.png", "y2.png", "y10.png", "sheet.png", "animation.gif", "index.html"}
    page = (tmp_path / "out/index.html").read_text()
    assert page.index("<h2>y1</h2>") < page.index("<h2>y2</h2>") < page.index("<h2>y10</h2>")
    with Image.open(tmp_path / "out/animation.gif") as animation:
        assert animation.n_frames == 3


def test_several_identities_have_folders_and_distances(run, shared):
    code, out, errors, files = run("--identity", shared["x"], shared["y1"], "--driver", shared["y2"], "--no-meshes")
    assert (code, errors) == (0, "")
    assert files == {"x/y2.png", "y1/y2.png", "sheet.png", "index.html"}
    assert "mean vertex RMS between the results of the identities: " in out
    assert "mean vertex RMS between their neutral faces: " in out


def test_whose_pose_decides_over_which_picture(run, shared, tmp_path):
    arguments = ["--identity", shared["x"], "--driver", shared["y1"], "--no-meshes"]
    for pose, below in (("identity", "x"), ("driver", "y1")):
        assert run(*arguments, "--pose", pose)[0] == 0
        drawn, picture = read_image(tmp_path / "out/y1.png"), read_image(shared[below])
        same = (drawn == picture).all(0)
        assert bool(same[0, [0, -1]].all()) and not bool(same.all()), "the upper corners are background"


def test_the_average_as_identity(run, shared):
    arguments = ["--identity", shared["x"], shared["y1"], "--average", "--driver", shared["y2"], "--light", "identity"]
    code, out, errors, files = run(*arguments)
    assert (code, errors) == (0, "") and files == ended("y2", "png", *MESHES) | {"index.html"}
    assert "the 2 single faces lie" in out and "1 results" in out


def test_the_average_goes_on_without_a_picture_that_diverges(run, shared, monkeypatch):
    def diverge_on_y1(face, *rest):
        if face.path.stem == "y1":
            raise Diverged("the refinement diverged")
        return reconstruct_with_progress(face, *rest)

    monkeypatch.setattr("facecore.cli.transfer.reconstruct_with_progress", diverge_on_y1)
    pictures = [shared["x"], shared["y1"], shared["y2"]]
    code, out, errors, _ = run("--identity", *pictures, "--average", "--light", "front", "--no-meshes")
    assert code == 1 and "the 2 single faces lie" in out
    assert errors == f"facecore transfer: refused {shared['y1']}: the refinement diverged"


def test_relighting(run, shared, tmp_path):
    code, _, errors, files = run("--identity", shared["x"], "--light", "left", "sunset", shared["y1"], "identity")
    assert (code, errors) == (0, "")
    names = {"x_left.png", "x_sunset.png", "x_y1.png", "x_identity.png"}
    assert files == names | ended("x_left", *MESHES) | {"sheet.png", "animation.webp", "index.html"}
    light = np.load(tmp_path / "out/x_left.npz")["sh_coefficients"]
    assert light[3, 0] > 0, "from the left: H_3 falls with n_x"
    given = tmp_path / "light.npz"
    shutil.copy(tmp_path / "out/x_left.npz", given)
    assert run("--identity", shared["x"], "--driver", shared["y1"], "--light", given)[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out/y1.npz")["sh_coefficients"], light)


def test_a_turning_light_is_an_animation(run, shared, monkeypatch, tmp_path):
    monkeypatch.setattr("facecore.cli.transfer.TURNING_FRAMES", 3)
    code, _, _, files = run("--identity", shared["x"], "--light", "turning")
    assert code == 0
    assert {f"x_turning_{i:02d}.png" for i in range(3)} <= files and "x_turning_01.glb" not in files
    with Image.open(tmp_path / "out/animation.webp") as animation:
        assert animation.n_frames == 3
    code, _, _, files = run("--identity", shared["x"], "--driver", shared["y1"], shared["y2"], "--light", "turning")
    assert code == 0 and {"y1.png", "y2.png"} <= files


def two_faces(folder: pathlib.Path, shared: Shared) -> pathlib.Path:
    """A picture of x, and beside it y1 at half the size, with the landmarks of both in dlib's format."""
    large, small = read_image(shared["x"]), read_image(shared["y1"])
    height, width = large.shape[1:]
    half = FaceCrop.whole(height, width, height // 2, width // 2).crop(small)
    picture = torch.zeros(3, height, width + width // 2)
    picture[:, :, :width], picture[:, : height // 2, width:] = large, half
    write_png(folder / "two.png", picture)
    points = [read_landmarks(shared[name].with_suffix(".pts"))[0].points for name in ("y1", "x")]
    points[0] = points[0] / 2 + torch.tensor([width, 0.0])
    boxes = ""
    for face in points:
        parts = "".join(f"<part name='{i:02d}' x='{u:.3f}' y='{v:.3f}'/>" for i, (u, v) in enumerate(face.tolist()))
        boxes += f"<box top='0' left='0' width='9' height='9'>{parts}</box>"
    table = folder / "two.xml"
    table.write_text(f"<dataset><images><image file='two.png'>{boxes}</image></images></dataset>")
    return table


def test_of_several_faces_the_largest_is_taken(run, shared, tmp_path):
    (tmp_path / "in").mkdir()
    table = two_faces(tmp_path / "in", shared)
    picture = table.with_suffix(".png")
    code, out, errors, _ = run("--identity", picture, "--light", "ambient", "--landmarks", table)
    assert (code, errors) == (0, "") and f"{picture}: 2 faces, took the largest" in out
    drawn, before = read_image(tmp_path / "out/two_ambient.png"), read_image(picture)
    width = read_image(shared["x"]).shape[2]
    assert not torch.equal(drawn[:, :, :width], before[:, :, :width])


def test_a_refused_driver_does_not_stop_the_others(run, shared):
    code, _, errors, files = run("--identity", shared["x"], "--driver", shared["nobody"], shared["y1"], "--no-meshes")
    assert code == 1 and files == {"y1.png", "index.html"}
    assert errors.startswith(f"facecore transfer: refused {shared['nobody']}: no ") and "\n" not in errors


@pytest.mark.parametrize(("identity", "driver"), [("nobody", "x"), ("x", "nobody")])
def test_without_a_face_on_either_side_nothing_is_written(run, shared, identity, driver):
    code, out, errors, files = run("--identity", shared[identity], "--driver", shared[driver])
    assert (code, out, files) == (1, "", set())
    assert errors.startswith(f"facecore transfer: {shared['nobody']}: no ") and "\n" not in errors


BAD_USAGE = {
    "no identity": (["--driver", "{y1}"], "--identity"),
    "nothing to do": (["--identity", "{x}"], "give --driver, or without one a --light"),
    "no such picture": (["--identity", "{x}.jpg", "--driver", "{y1}"], "no such file or folder"),
    "no such light": (
        ["--identity", "{x}", "--light", "lamp"],
        "--light lamp: no such file; give one, or one of driver",
    ),
    "empty folder": (["--identity", "{x}", "--driver", "{empty}"], "--driver: no pictures in {empty}"),
    "empty identity": (["--identity", "{empty}", "--driver", "{x}"], "--identity: no pictures in {empty}"),
    "turning and more": (["--identity", "{x}", "--light", "turning", "left"], "give it alone"),
    "lights and drivers": (
        ["--identity", "{x}", "--driver", "{y1}", "{y2}", "--light", "left", "right"],
        "several --light need one --driver or none",
    ),
    "too fast": (["--identity", "{x}", "--driver", "{y1}", "--frames-per-second", "99"], "must lie in (0, 50], got 99"),
    "size": (["--identity", "{x}", "--driver", "{y1}", "--size", "3"], "--size must lie in [32, 1024], got 3"),
    "model": (["--identity", "{x}", "--driver", "{y1}", "--model", "procedural"], "a checkpoint carries its own model"),
}


@pytest.mark.parametrize("case", BAD_USAGE)
def test_bad_usage_is_one_line(run, shared, case, tmp_path):
    arguments, message = BAD_USAGE[case]
    (tmp_path / "empty").mkdir()
    names = {name: str(shared[name]) for name in ("x", "y1", "y2")} | {"empty": str(tmp_path / "empty")}
    code, out, errors, files = run(*(argument.format(**names) for argument in arguments))
    assert (code, out, files) == (2, "", set())
    assert message.format(**names) in errors and "\n" not in errors


def test_no_input_is_overwritten(run, shared, tmp_path):
    (tmp_path / "out").mkdir()
    for suffix in (".png", ".pts"):
        shutil.copy(shared["y1"].with_suffix(suffix), tmp_path / "out")
    picture = tmp_path / "out/y1.png"
    before = picture.read_bytes()
    code, _, errors, files = run("--identity", shared["x"], "--driver", picture)
    assert code == 2 and f"a result would replace the input {picture}; give another folder" in errors
    assert files == {"y1.png", "y1.pts"} and picture.read_bytes() == before


@pytest.mark.parametrize("case", ["a driver called sheet", "a light twice"])
def test_no_result_overwrites_another(run, shared, case, tmp_path):
    for suffix in (".png", ".pts"):
        shutil.copy(shared["y1"].with_suffix(suffix), tmp_path / f"sheet{suffix}")
    more = ["--driver", tmp_path / "sheet.png"] if case == "a driver called sheet" else ["--light", "left", "left"]
    code, _, errors, files = run("--identity", shared["x"], *more)
    assert (code, files) == (2, set()) and "two files would be called " in errors


def test_when_every_frame_fails_nothing_is_written(run, shared, monkeypatch):
    def diverge(*_):
        raise Diverged("the refinement diverged")

    monkeypatch.setattr("facecore.cli.transfer.reconstruct_with_progress", diverge)
    code, out, errors, files = run("--identity", shared["x"], "--driver", shared["y1"])
    assert (code, out, files) == (1, "", set())
    assert errors == f"facecore transfer: {shared['x']}: the refinement diverged"


def test_a_model_without_refinement_says_what_it_shows(shared, capsys, tmp_path):
    arguments = ["--identity", shared["x"], "--light", "left", "--out", tmp_path / "out"]
    assert main.main(["transfer", *map(str, arguments)]) == 0
    assert "every shape is the mean face" in capsys.readouterr().out


def test_light_of_a_picture_without_a_face(run, shared):
    code, _, errors, files = run("--identity", shared["x"], "--light", shared["nobody"])
    assert (code, files) == (1, set())
    assert "no face was found whose light could be estimated" in errors


# ---- reconstruct --average


def test_reconstruct_average(run, shared, tmp_path):
    code, out, errors, files = run(shared["x"], shared["y1"], shared["y2"], "--average", command="reconstruct")
    assert (code, errors) == (0, "")
    assert files == ended("average", *MESHES) | {"average_overlay.png", "index.html"}
    assert "the 3 single faces lie" in out and "1 face of 3 pictures" in out
    average = np.load(tmp_path / "out/average.npz")
    assert run(shared["x"], shared["y1"], shared["y2"], command="reconstruct")[0] == 0
    singles = [np.load(tmp_path / f"out/{name}.npz")["vertices"] for name in ("x", "y1", "y2")]
    # a mean of float32 numbers of up to 150 mm
    np.testing.assert_allclose(average["vertices"], np.mean(singles, 0), atol=1e-4)
    rms = [np.sqrt(np.square(single - average["vertices"]).sum(1).mean()) for single in singles]
    assert f"lie {np.mean(rms):.2f} mm" in out


def test_average_needs_two_faces(run, shared):
    code, _, errors, files = run(shared["x"], shared["nobody"], "--average", command="reconstruct")
    assert (code, files) == (1, set())
    refused, reason = errors.splitlines()
    assert str(shared["nobody"]) in refused
    assert reason == "facecore reconstruct: --average needs a face in at least two pictures, got 1"


def test_average_of_one_picture_is_bad_usage(run, shared):
    code, _, errors, files = run(shared["x"], "--average", command="reconstruct")
    assert (code, files) == (2, set()) and "--average needs at least two pictures of a person" in errors


def test_average_goes_on_without_a_refused_picture(run, shared):
    arguments = [shared["x"], shared["nobody"], shared["y1"], "--average"]
    code, out, errors, files = run(*arguments, command="reconstruct")
    assert code == 1 and "average.glb" in files and "1 face of 2 pictures" in out
    assert errors.startswith(f"facecore reconstruct: refused {shared['nobody']}: no ")
