"""The command line: what it writes, and that bad input gets one line, the right exit code and nothing half-written."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import resource
import shutil
import types
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import trimesh
import yaml
from tiny_settings import TINY_MODEL

from facecore.cli import demo, main
from facecore.cli.errors import UsageError
from facecore.cli.main import COMMANDS
from facecore.cli.parsing import parse_options
from facecore.cli.reconstruct import Reconstruct
from facecore.data import LabelledRenders, read_image, read_landmarks, write_png
from facecore.morphable import load
from facecore.systems.semi_supervised_config import PRESETS, StageConfig
from facecore.training.checkpoint import Checkpoint
from facecore.training.config import overlay
from facecore.training.loop import Interrupted, NotFinite

VERTICES = TINY_MODEL["num_vertices"]
SETTINGS = {
    "model": TINY_MODEL,
    "stages": {f.name: 0 for f in dataclasses.fields(StageConfig) if f.name.endswith("_iterations")}
    | {"warmup_iterations": 1, "hybrid_iterations": 1},
    "data": {"labelled_batch": 2},
    "run": {"validation_size": 2},
}
WRITTEN = ("glb", "npz", "obj")


@dataclasses.dataclass
class Shared:
    """Made once: a folder with face.png and face.pts, a model file, training settings, a checkpoint."""

    folder: pathlib.Path
    picture: pathlib.Path
    model: pathlib.Path
    settings: pathlib.Path
    checkpoint: pathlib.Path


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Shared:
    folder = tmp_path_factory.mktemp("cli")
    files = Shared(folder, *(folder / name for name in ("face.png", "model.npz", "tiny.yaml", "run/model.safetensors")))
    model = load("procedural", num_vertices=VERTICES)
    model.save(files.model)
    batch = LabelledRenders(model, 96, 96, seed=1, occluders=0.0).batch(torch.tensor([0]))
    write_png(files.picture, batch.image[0])
    points = "\n".join(f"{u + 0.5} {v + 0.5}" for u, v in batch.landmarks[0].tolist())
    files.picture.with_suffix(".pts").write_text(f"version: 1\nn_points: 68\n{{\n{points}\n}}\n")
    files.settings.write_text(yaml.safe_dump(SETTINGS))
    assert main.main(["train", "--config", str(files.settings), "--run.out", str(folder / "run")]) == 0
    return files


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: exit code, output, errors (without the progress bars)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        errors = [line.split("\r")[-1].strip() for line in captured.err.split("\n")]
        return code, captured.out, "\n".join(line for line in errors if line)

    return run


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Lets no file of this process grow beyond a number of bytes, as a disk that fills up in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def pictures(folder: pathlib.Path, shared: Shared, *names: str) -> list[pathlib.Path]:
    """Copies of the shared picture with its landmarks under other names."""
    for name in names:
        shutil.copy(shared.picture, folder / f"{name}.png")
        shutil.copy(shared.picture.with_suffix(".pts"), folder / f"{name}.pts")
    return [folder / f"{name}.png" for name in names]


def everything_below(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# ---- the dispatcher


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_overview_lists_every_command(run, arguments):
    code, out, errors = run(*arguments)
    assert code == 0 and errors == ""
    assert all(f"\n  {name} " in out for name in COMMANDS)


def test_version(run):
    import facecore

    assert run("--version") == (0, f"facecore {facecore.__version__}\n", "")


def test_unknown_command(run):
    code, out, errors = run("reconstuct")
    assert (code, out) == (2, "")
    assert errors == f"facecore: no command 'reconstuct'; choose one of {', '.join(COMMANDS)}"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(run, command):
    code, out, errors = run(command, "--help")
    assert code == 0 and errors == ""
    assert f"Example: facecore {command}" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_option_is_one_line(run, command):
    code, out, errors = run(command, "--no-such-option")
    assert (code, out) == (2, "") and errors.count("\n") == 0
    assert errors.startswith(f"facecore {command}: ")
    sub_commands = ("list, show, convert", "prepare, check")
    assert "--no-such-option" in errors or any(names in errors for names in sub_commands)
    assert f"facecore {command} --help" in errors


@pytest.mark.parametrize("utf8", [True, False])
def test_tyros_boxes_become_one_line(utf8, monkeypatch):
    """However wide the terminal and whatever it can draw."""
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8" if utf8 else "ascii"))
    with pytest.raises(UsageError) as caught:
        parse_options(Reconstruct, ["a.png", "--size", "x"], prog="facecore x", description="")
    assert str(caught.value).startswith("Error parsing --size: invalid literal for int() with base 10: 'x'; Argument ")
    assert str(caught.value).endswith("(default: 160); For full helptext, see facecore x --help")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device", "a.glb"), 1, "[Errno 28] No space left on device: 'a.glb'"),
        (RuntimeError("two\nlines"), 1, "two lines"),
        (KeyError("x"), 1, "KeyError: 'x'; this is a bug: report it with the output of --debug"),
        (KeyboardInterrupt(), 1, "stopped"),
        (UsageError("--x must be 1"), 2, "--x must be 1"),
    ],
)
def test_errors_become_one_line_and_a_code(run, monkeypatch, error, code, message):
    def fail(_):
        raise error

    monkeypatch.setattr("facecore.cli.model.main", fail)
    assert run("model", "list") == (code, "", f"facecore model: {message}")
    if isinstance(error, Exception):
        with pytest.raises(type(error)):
            main.main(["model", "list", "--debug"])


# ---- reconstruct


@pytest.mark.parametrize("source", ["model", "checkpoint"])
def test_reconstruct(run, shared, tmp_path, source):
    out = tmp_path / "new" / "out"
    options = ["--out", out, "--refine", 4, "--size", 48, f"--{source}", getattr(shared, source)]
    code, text, errors = run("reconstruct", shared.picture, *options)
    assert (code, errors) == (0, "") and "index.html" in text
    assert everything_below(out) == ["face.glb", "face.npz", "face.obj", "face_overlay.png", "index.html"]
    arrays = np.load(out / "face.npz")
    assert arrays["vertices"].shape == (VERTICES, 3)
    millimetres, metres = (trimesh.load_mesh(out / f"face.{kind}", process=False) for kind in ("obj", "glb"))
    for mesh, scale in ((millimetres, 1.0), (metres, 1000.0)):
        assert len(mesh.vertices) == VERTICES and len(mesh.faces) == len(arrays["triangles"])
        # eight decimals of a millimetre in OBJ, float32 in GLB
        np.testing.assert_allclose(np.asarray(mesh.vertices) * scale, arrays["vertices"], atol=1e-3)
    height = float(np.ptp(arrays["vertices"][:, 1]))
    assert 120 < height < 300, "a face in millimetres"
    given = read_landmarks(shared.picture.with_suffix(".pts"))[0].points.numpy()
    box = np.sqrt(np.prod(np.ptp(given, axis=0)))
    # four steps: the face lies on its landmarks, roughly; the untrained network starts anywhere near the middle
    allowed = {"model": 0.1, "checkpoint": 0.4}[source]
    assert np.linalg.norm(arrays["landmarks_2d"] - given, axis=1).mean() < allowed * box
    if source == "model":
        start = f"the mean face of {shared.model}"
    else:
        start = f"model.safetensors (configuration {Checkpoint.load(shared.checkpoint).plain['config_hash']})"
    page = (out / "index.html").read_text(encoding="utf-8")
    assert f"facecore reconstruct</h1><p>Started from {start}; 4 refinement steps" in page


def test_one_refused_picture_does_not_stop_the_others(run, shared, tmp_path):
    good = pictures(tmp_path, shared, "a", "b")
    lonely, text = tmp_path / "lonely.png", tmp_path / "text.jpg"
    shutil.copy(shared.picture, lonely)
    text.write_text("not a picture")
    options = ["--model", shared.model, "--size", 48, "--detector", "none", "--out", tmp_path / "out"]
    code, _, errors = run("reconstruct", good[0], lonely, text, good[1], *options)
    assert code == 1
    refused_lonely, refused_text = errors.splitlines()
    assert f"refused {lonely}: no landmarks; put lonely.pts (68 or 5 points) beside it" in refused_lonely
    assert f"refused {text} is not a picture" in refused_text
    assert {f"{name}.{kind}" for name in "ab" for kind in WRITTEN} <= set(everything_below(tmp_path / "out"))
    assert not any("lonely" in name or "text" in name for name in everything_below(tmp_path / "out"))
    cropped = run("reconstruct", lonely, "--assume-cropped", *options[:-1], tmp_path / "out2")
    assert cropped[0] == 0 and "lonely.glb" in everything_below(tmp_path / "out2")


def test_a_face_that_diverges_does_not_stop_the_others(run, shared, tmp_path, monkeypatch):
    from facecore.cli import reconstruct
    from facecore.systems.refinement import Diverged

    plain = reconstruct.reconstruct_with_progress

    def diverge_on_a(face, *rest):
        if face.path.stem == "a":
            raise Diverged("the refinement diverged")
        return plain(face, *rest)

    monkeypatch.setattr(reconstruct, "reconstruct_with_progress", diverge_on_a)
    good = pictures(tmp_path, shared, "a", "b")
    code, _, errors = run("reconstruct", *good, "--model", shared.model, "--size", 48, "--out", tmp_path / "out")
    assert (code, errors) == (1, f"facecore reconstruct: refused {good[0]}: the refinement diverged")
    assert "b.glb" in everything_below(tmp_path / "out") and "a.glb" not in everything_below(tmp_path / "out")


def test_a_face_that_cannot_be_exported_does_not_stop_the_others(run, shared, tmp_path, monkeypatch):
    from facecore.systems import export

    plain = export.export_face

    def refuse_a(folder, name, *rest):
        if name == "a":
            raise ValueError("a: the reconstruction has NaN")
        return plain(folder, name, *rest)

    monkeypatch.setattr(export, "export_face", refuse_a)
    good = pictures(tmp_path, shared, "a", "b")
    code, out, errors = run("reconstruct", *good, "--model", shared.model, "--size", 48, "--out", tmp_path / "out")
    assert (code, errors) == (1, f"facecore reconstruct: refused {good[0]}: a: the reconstruction has NaN")
    assert "1 faces" in out and {"b.glb", "index.html"} <= set(everything_below(tmp_path / "out"))


def test_landmarks_of_one_picture_serve_one_picture(run, shared, tmp_path):
    (picture,) = pictures(tmp_path, shared, "a")
    points = picture.with_suffix(".pts").rename(tmp_path / "points.pts")
    options = ["--model", shared.model, "--size", 48, "--out", tmp_path / "out"]
    code, out, errors = run("reconstruct", picture, "--landmarks", points, *options)
    assert (code, errors) == (0, "") and "every shape is the mean face" in out
    assert "every shape" not in run("reconstruct", picture, "--landmarks", points, *options, "--refine", 1)[1]


def test_hidden_pictures_masks_and_results_are_not_faces(run, shared, tmp_path):
    """As in training (PhotoFolder); masks are found by the pictures' paths in their folder."""
    root = tmp_path / "in"
    for name in (".hidden", "masks/deep", "deep", "masks", "faces"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in (".hidden", "deep", "faces"):
        pictures(root / name, shared, "a")
    size = read_image(shared.picture).shape[1:]
    write_png(root / "masks" / "deep" / "a.png", torch.ones(size))
    write_png(root / "masks" / "a.png", torch.ones(3, 3))
    options = ["--model", shared.model, "--size", 48, "--masks", root / "masks", "--out", root / "faces"]
    code, out, errors = run("reconstruct", root, *options)
    assert (code, errors) == (0, "") and "1 faces" in out


def test_a_folder_is_searched_and_its_manifest_read(run, shared, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (picture,) = pictures(tmp_path / "in" / "deep", shared, "a")
    (tmp_path / "in" / "points").mkdir()
    picture.with_suffix(".pts").rename(tmp_path / "in" / "points" / "p.pts")
    (tmp_path / "in" / "index.csv").write_text("image,landmark_file\ndeep/a.png,points/p.pts\n")
    code, _, errors = run(
        "reconstruct", tmp_path / "in", "--model", shared.model, "--size", 48, "--out", tmp_path / "out"
    )
    assert (code, errors) == (0, "") and "a.glb" in everything_below(tmp_path / "out")


def damaged(content: bytes) -> Callable[[Shared, pathlib.Path], object]:
    def make(shared: Shared, folder: pathlib.Path) -> object:
        path = folder / "bad.file"
        path.write_bytes(content)
        return path

    return make


def half_checkpoint(shared: Shared, folder: pathlib.Path) -> object:
    path = folder / "bad.file"
    path.write_bytes(shared.checkpoint.read_bytes()[:100_000])
    return path


def changed_checkpoint(change: Callable[[Checkpoint], object]) -> Callable[[Shared, pathlib.Path], object]:
    def make(shared: Shared, folder: pathlib.Path) -> object:
        checkpoint = Checkpoint.load(shared.checkpoint)
        change(checkpoint)
        checkpoint.save(folder / "bad.file")
        return folder / "bad.file"

    return make


def changed_model(name: str, value: float) -> Callable[[Shared, pathlib.Path], object]:
    def make(shared: Shared, folder: pathlib.Path) -> object:
        arrays = dict(np.load(shared.model))
        arrays[name] = arrays[name].copy()
        arrays[name][7, 1] = value
        with open(folder / "bad.file", "wb") as file:
            np.savez(file, **arrays)
        return folder / "bad.file"

    return make


BAD_RECONSTRUCTIONS = {
    "no pictures named": ([], 2, "name at least one picture or folder of pictures"),
    "no such picture": (["{folder}/none.png"], 2, "{folder}/none.png: no such file or folder"),
    "empty folder": (["{empty}"], 2, "no pictures in {empty}"),
    "negative steps": (["{picture}", "--refine", "-1"], 2, "--refine must be at least 0, got -1"),
    "size": (["{picture}", "--size", "8"], 2, "--size must lie in [32, 1024], got 8"),
    "not a number": (["{picture}", "--size", "big"], 2, "Error parsing --size: invalid literal"),
    "out is a file": (["{picture}", "--out", "{picture}"], 2, "--out {picture} is a file; give a folder"),
    "masks are a file": (["{picture}", "--masks", "{picture}"], 2, "--masks {picture} is not a folder"),
    "no such model": (["{picture}", "--model", "flame"], 2, "--model flame: no such file or folder; give 'procedural'"),
    "landmarks of one face": (
        ["{picture}", "{second}", "--landmarks", "{points}"],
        1,
        "{points} has the landmarks of one picture",
    ),
    "two sources": (
        ["{picture}", "--model", "procedural", "--checkpoint", "{points}"],
        2,
        "--model and --checkpoint: a",
    ),
    "no such checkpoint": (["{picture}", "--checkpoint", "none.safetensors"], 2, "none.safetensors: no such file"),
}


@pytest.mark.parametrize("case", BAD_RECONSTRUCTIONS)
def test_bad_reconstructions_write_nothing(run, shared, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    names = {"folder": tmp_path, "empty": tmp_path / "empty", "picture": shared.picture}
    names["points"] = shared.picture.with_suffix(".pts")
    names["second"] = shutil.copy(shared.picture, shared.folder / "second.png")
    arguments, code, message = BAD_RECONSTRUCTIONS[case]
    result = run("reconstruct", *(argument.format(**names) for argument in arguments))
    assert result[:2] == (code, "") and result[2].count("\n") == 0
    assert result[2].startswith("facecore reconstruct: " + message.format(**names))
    assert everything_below(tmp_path) == ["empty"]


BAD_FILES = {
    "text as checkpoint": ("checkpoint", damaged(b"hello" * 100), "bad.file is damaged"),
    "half a checkpoint": ("checkpoint", half_checkpoint, "bad.file is damaged"),
    "checkpoint of another system": (
        "checkpoint",
        changed_checkpoint(lambda c: c.plain.update(system="of-another-time")),
        "bad.file holds the system 'of-another-time'",
    ),
    "checkpoint without weights": (
        "checkpoint",
        changed_checkpoint(lambda c: c.tensors["model"].pop("pose_head.weight")),
        "bad.file is damaged or of another version",
    ),
    "checkpoint without settings": (
        "checkpoint",
        changed_checkpoint(lambda c: c.plain.update(config=[])),
        "bad.file is damaged or of another version",
    ),
    "checkpoint of another size": (
        "checkpoint",
        changed_checkpoint(lambda c: c.plain["config"]["model"].update(identity_size=9)),
        "bad.file is damaged or of another version",
    ),
    "checkpoint whose triangles are out of range": (
        "checkpoint",
        changed_checkpoint(lambda c: c.tensors["assets"]["triangles"].__setitem__((5, 0), VERTICES)),
        "bad.file is damaged or of another version: triangles must index vertices 0 to 2499",
    ),
    "checkpoint whose template has NaN": (
        "checkpoint",
        changed_checkpoint(lambda c: c.tensors["assets"]["template"].__setitem__((5, 0), float("nan"))),
        "bad.file is damaged or of another version: vertices must be finite",
    ),
    "text as model": ("model", damaged(b"hello" * 100), "bad.file is not a morphable model of a known kind"),
    "model whose triangles are out of range": (
        "model",
        changed_model("triangles", VERTICES),
        "triangles must hold indices from 0 to 2499, got 0 to 2500",
    ),
    "model with NaN vertices": ("model", changed_model("template", float("nan")), "template must be finite"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_named_and_nothing_is_written(run, shared, tmp_path, case):
    option, make, message = BAD_FILES[case]
    path = make(shared, tmp_path)
    code, out, errors = run("reconstruct", shared.picture, f"--{option}", path, "--out", tmp_path / "out")
    assert (code, out) == (1, "") and errors.count("\n") == 0
    assert "bad.file" in errors and message in errors
    assert everything_below(tmp_path) == ["bad.file"]
    with pytest.raises(ValueError, match=r"bad\.file"):
        run("reconstruct", shared.picture, f"--{option}", path, "--out", tmp_path / "out", "--debug")


def test_weights_that_are_not_finite_write_nothing(run, shared, tmp_path):
    make = changed_checkpoint(lambda c: c.tensors["model"]["pose_head.bias"].fill_(float("nan")))
    path = make(shared, tmp_path)
    code, _, errors = run("reconstruct", shared.picture, "--checkpoint", path, "--size", 48, "--out", tmp_path / "out")
    assert code == 1 and errors.count("\n") == 0 and "NaN or infinity" in errors
    assert everything_below(tmp_path / "out") == []


def test_a_full_disk_leaves_nothing_of_the_face(run, shared, tmp_path, full_disk):
    """The NPZ fits under the limit, the OBJ does not: neither appears."""
    options = ["--model", shared.model, "--size", 48, "--out", tmp_path]
    full_disk(200_000)
    code, _, errors = run("reconstruct", shared.picture, *options)
    assert code == 1 and errors.count("\n") == 0
    assert "File too large; make room or choose another folder" in errors and str(tmp_path / "face.") in errors
    assert everything_below(tmp_path) == []


def with_a_crowded_edge(shared: Shared, folder: pathlib.Path) -> pathlib.Path:
    """The model with one triangle more, at an edge that has two already."""
    model = load(shared.model)
    first, second = model.triangles[1000, :2].tolist()
    extra = torch.tensor([[first, second, int(model.triangles[50, 0])]], dtype=torch.int32)
    dataclasses.replace(model, triangles=torch.cat([model.triangles, extra])).save(folder / "crowded.npz")
    return folder / "crowded.npz"


def test_non_manifold_edges_work_with_a_warning(run, shared, tmp_path):
    path = with_a_crowded_edge(shared, tmp_path)
    for command in (
        ["reconstruct", shared.picture, "--model", path, "--size", 48, "--out", tmp_path / "out"],
        ["train", "--config", shared.settings, "--model.morphable", path, "--run.out", tmp_path / "run"],
    ):
        with pytest.warns(UserWarning, match="1 non-manifold edges"):
            assert run(*command)[0] == 0
    assert "face.glb" in everything_below(tmp_path / "out")


# ---- train

BAD_TRAININGS = {
    "no such preset": (["--preset", "huge"], 2, "argument --preset: invalid choice: 'huge'"),
    "no such system": (["--system", "x"], 2, "argument --system: invalid choice: 'x'"),
    "no such configuration": (["--config", "none.yaml"], 2, "cannot read the configuration none.yaml"),
    "unknown setting": (["--config", "{bad}"], 2, "unknown setting 'model.colour'"),
    "wrong type in a list": (["--config", "{list}"], 2, "setting 'model.factors' must be int, got 'four'"),
    "odd labelled half": (["--data.labelled-batch", "3"], 2, "--data.labelled-batch must be even"),
    "no logging": (["--run.log-every", "0"], 2, "--run.log-every must be at least 1, got 0"),
    "tiny pictures": (["--model.image-size", "8"], 2, "--model.image-size must be at least 32, got 8"),
    "rate": (["--stages.learning-rate", "nan"], 2, "--stages.learning-rate must be positive and finite, got nan"),
    "no rate": (["--stages.critic-learning-rate", "0"], 2, "--stages.critic-learning-rate must be positive and finite"),
    "infinite norm": (["--stages.clip-norm", "inf"], 2, "--stages.clip-norm must be positive and finite, got inf"),
    "one render": (["--stages.encoder-batch", "1"], 2, "--stages.encoder-batch must be at least 2, got 1"),
    "nothing to do": (
        ["--stages.warmup-iterations", "0", "--stages.hybrid-iterations", "0"],
        2,
        "--stages: iterations must be at least 0 and not all 0",
    ),
    "widths of the critic": (["--model.critic-channels", "8"], 2, "--model.critic-channels must have as many widths"),
    "no such model": (["--model.morphable", "ict"], 2, "--model.morphable ict: no such file or folder"),
    "not a model": (["--model.morphable", "{bad}"], 1, "{bad} is not a morphable model of a known kind"),
    "no such weights": (["--model.encoder-weights", "w.pth"], 2, "--model.encoder-weights w.pth: no such file"),
    "too many modes": (
        ["--world.labelled-modes", "9999"],
        2,
        "--world.labelled-modes must be at most 66, the identity modes of procedural",
    ),
    "too few vertices": (["--model.num-vertices", "10"], 2, "--model.num-vertices must be an integer from 2500 to"),
    "no factor": (["--model.factors", "1", "4"], 2, "--model.factors must be at least 2 each, got [1, 4]"),
    "no width": (
        ["--model.critic-channels", "0", "8"],
        2,
        "--model.critic-channels must be at least 1 each, got [0, 8]",
    ),
    "features of no points": (["--model.surface-points", "0"], 2, "--model.point-features are of surface points"),
    "points": (["--model.surface-points", "5"], 2, "--model.surface-points must be 0 or from 68 (the landmarks) to"),
    "features": (["--model.point-features", "-1"], 2, "--model.point-features must be at least 0, got -1"),
    "heads at rest": (["--stages.head-rate", "0"], 2, "--stages.head-rate must be positive and finite, got 0.0"),
    "a dent": (
        ["--world.bumps", "4", "--world.bump-mm", "-1"],
        2,
        "--world.bump-mm must be positive and finite, got -1.0",
    ),
    "a weight of no number": (["--weights.pair", "nan"], 2, "--weights.pair must be at least 0 and finite, got nan"),
    "a weight below 0": (["--weights.pair", "-1"], 2, "--weights.pair must be at least 0 and finite, got -1.0"),
    "a seed of many digits": (["--run.seed", "9" * 25], 2, "--run.seed must lie in [-2**62, 2**62], got 99"),
    "photographs in a file": (["--data.photos", "{bad}"], 2, "--data.photos {bad} is a file; give a folder"),
    "masks in a file": (
        ["--data.photos", "{folder}", "--data.masks", "{bad}"],
        2,
        "--data.masks {bad} is a file; give a folder",
    ),
    "no such photographs": (["--data.photos", "none"], 2, "--data.photos none: no such file or folder"),
    "another data set's options": (
        ["--data.photos", "{folder}", "--data.dataset", "300w-lp", "--data.landmarks", "{folder}"],
        2,
        "--data.landmarks: 300w-lp brings its own landmarks; leave it out",
    ),
    "a share above 1": (["--data.max-skipped", "2"], 2, "--data.max-skipped must be a share from 0 to 1, got 2.0"),
    "a texture of odd size": (
        ["--model.albedo-decoder", "both", "--model.image-size", "40"],
        2,
        "--model.image-size must be a multiple of 32 for a texture decoder, got 40",
    ),
    "no usable photographs": (["--data.photos", "{folder}"], 1, "{folder} has no usable photograph of 0 pictures"),
    "out is a file": (["--run.out", "{bad}"], 2, "--run.out {bad} is a file; give a folder"),
    "out is not empty": (["--run.out", "{folder}"], 2, "--run.out {folder} is not empty and has no checkpoint"),
    "nothing to resume": (["--run.resume"], 2, "--run.resume: there is no checkpoint"),
}


@pytest.mark.parametrize("case", BAD_TRAININGS)
def test_bad_trainings_write_nothing(run, shared, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "bad.yaml").write_text("model: {colour: red}\n")
    (folder / "list.yaml").write_text("model: {factors: [4, four]}\n")
    before = everything_below(tmp_path)
    names = {"folder": folder, "bad": folder / "bad.yaml", "list": folder / "list.yaml"}
    arguments, code, message = BAD_TRAININGS[case]
    filled = [argument.format(**names) for argument in arguments]
    base = [] if "--config" in filled else ["--config", shared.settings]
    result = run("train", *base, "--run.out", tmp_path / "out", *filled)
    assert result[:2] == (code, "") and result[2].count("\n") == 0
    assert result[2].startswith("facecore train: ") and message.format(**names) in result[2]
    assert everything_below(tmp_path) == before


def test_a_run_that_failed_early_says_how_to_start_again(run, shared, tmp_path):
    """Weights that leave a stage without a term are found out in its first step, when the folder is there."""
    out = tmp_path / "run"
    weights = [name for name, value in vars(PRESETS["quick"].weights).items() if isinstance(value, float)]
    zero = [f"--weights.{name.replace('_', '-')}=0" for name in weights]
    base = ["train", "--config", shared.settings, "--run.out", out]
    code, _, errors = run(*base, *zero)
    assert code == 1 and "every term of this stage has weight 0 (shape, " in errors and "by --weights" in errors
    for arguments, message in (
        ([], f"--run.out {out} is not empty and has no checkpoint to go on from; delete it or choose another"),
        (["--run.resume"], f"--run.resume: there is no checkpoint in {out}; leave --run.resume out for a new folder"),
    ):
        code, _, errors = run(*base, *arguments)
        assert code == 2 and message in errors
    folder = shared.checkpoint.parent
    code, _, errors = run("train", "--config", shared.settings, "--run.out", folder)
    assert code == 2 and f"--run.out {folder} is not empty; choose another folder, or add --run.resume" in errors


def test_a_refused_resumption_keeps_the_settings_of_the_run(run, shared):
    folder = shared.checkpoint.parent
    before = (folder / "config.yaml").read_bytes()
    base = ["train", "--config", shared.settings, "--run.out", folder, "--run.resume"]
    code, _, errors = run(*base, "--stages.hybrid-iterations", 5)
    assert code == 1 and "resume with the settings saved in config.yaml" in errors
    assert (folder / "config.yaml").read_bytes() == before


def test_a_gpu_without_kernels_is_left_unused(run, shared, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("facecore.training.device._C", types.SimpleNamespace(built_with_cuda=False))
    code, out, _ = run("train", "--config", shared.settings, "--run.out", tmp_path / "run")
    assert code == 0 and "0 photographs, cpu" in out
    (line,) = [line for line in out.splitlines() if "a GPU is left unused" in line]
    assert "FACECORE_CUDA=ON" in line


def test_training_writes_what_it_says(shared):
    written = everything_below(shared.checkpoint.parent)
    assert {"config.yaml", "last.safetensors", "metrics.jsonl", "model.safetensors"} <= set(written)
    assert not any(name.startswith(".") or name.endswith("tmp") for name in written)


def test_training_on_a_full_disk_keeps_no_half_checkpoint(run, shared, tmp_path, full_disk):
    out = tmp_path / "run"
    full_disk(1_000_000)
    code, _, errors = run("train", "--config", shared.settings, "--run.out", out)
    assert code == 1
    assert "cannot write the checkpoint" in errors and str(out) in errors and "free some space" in errors
    assert not [name for name in everything_below(out) if "safetensors" in name]


def test_ict_models_take_their_options(run, shared, data_dir, tmp_path, monkeypatch):
    """--model.region reaches the ICT loader, and a facecore npz, which has no such option, loads all the same."""
    from facecore.cli.train_data import load_morphable

    narrow = overlay(PRESETS["quick"], {"model": {"morphable": str(data_dir / "ict_facekit.npz"), "region": "narrow"}})
    assert load_morphable(narrow).num_vertices == 6706
    assert load_morphable(overlay(narrow, {"model": {"morphable": str(shared.model)}})).num_vertices == VERTICES


# ---- demo


@pytest.fixture
def quick_demo(monkeypatch):
    monkeypatch.setitem(PRESETS, "quick", overlay(PRESETS["quick"], SETTINGS))
    monkeypatch.setattr(demo, "REFINEMENT_STEPS", 3)
    monkeypatch.setattr(demo, "SIZE", 48)


def test_demo(run, shared, tmp_path, quick_demo):
    out = tmp_path / "out"
    code, text, _ = run("demo", "--out", out, "--picture", shared.picture)
    assert code == 0 and "index.html" in text
    kept = ["face.glb", "face.npz", "face.obj", "face_overlay.png", "index.html", "model.safetensors"]
    assert everything_below(out) == kept, "the training folder is gone"
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "held-out render 4" in page and "mean face" in page
    assert f"Configuration {Checkpoint.load(out / 'model.safetensors').plain['config_hash']}, seed 0." in page
    again = ["reconstruct", shared.picture, "--checkpoint", out / "model.safetensors", "--size", 48]
    assert run(*again, "--out", tmp_path / "again")[0] == 0


def test_demo_has_a_portrait_of_its_own(run, tmp_path, quick_demo):
    pytest.importorskip("skimage", reason="the portrait comes with scikit-image (facecore[demo])")
    code, _, _ = run("demo", "--out", tmp_path / "out")
    assert code == 0 and "portrait.glb" in everything_below(tmp_path / "out")
    assert "Eileen Collins" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            Interrupted("stopped by SIGINT after 3 iterations", "go on with --run.resume"),
            "after 3 iterations; the demo",
        ),
        (NotFinite("the loss 'total' is nan", "lower the rate"), "the loss 'total' is nan; run the demo again with"),
        (OSError(28, "No space left on device", "events.out"), "cannot write to {out}: No space left on device; make"),
    ],
)
def test_a_demo_that_stops_names_remedies_of_its_own(run, shared, tmp_path, quick_demo, monkeypatch, error, message):
    def stop(*_):
        raise error

    monkeypatch.setattr("facecore.training.loop.train", stop)
    code, _, errors = run("demo", "--out", tmp_path / "out", "--picture", shared.picture)
    assert code == 1 and message.format(out=tmp_path / "out") in errors and "--run" not in errors
    assert everything_below(tmp_path / "out") == []


def test_a_demo_on_a_full_disk_names_its_folder(run, shared, tmp_path, quick_demo, full_disk):
    full_disk(1_000_000)
    code, _, errors = run("demo", "--out", tmp_path / "out", "--picture", shared.picture)
    assert code == 1 and f"the demo cannot write to {tmp_path / 'out'}: " in errors and "--run" not in errors
    assert "choose another folder by --out" in errors and everything_below(tmp_path / "out") == []


BAD_DEMOS = {
    "no such picture": (["--picture", "none.png"], 2, "none.png: no such file"),
    "landmarks alone": (["--landmarks", "{points}"], 2, "--landmarks belong to --picture; give both"),
    "out is a file": (["--out", "{points}"], 2, "--out {points} is a file; give a folder"),
    "no landmarks": (["--picture", "{lonely}"], 1, "{lonely}: no landmarks; put lonely.pts beside it or give"),
    "not landmarks": (["--picture", "{lonely}", "--landmarks", "{lonely}"], 1, "{lonely} is not a landmark file"),
    "not a picture": (["--picture", "{points}"], 1, "{points} is not a picture"),
    "points at one place": (["--picture", "{lonely}", "--landmarks", "{same}"], 1, "{lonely}: the landmarks must be"),
}


@pytest.mark.parametrize("case", BAD_DEMOS)
def test_bad_demos_train_and_write_nothing(run, shared, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    names = {"points": shared.picture.with_suffix(".pts"), "lonely": tmp_path / "lonely.png"}
    names["same"] = shared.folder / "same.txt"
    names["same"].write_text("9 9\n" * 5)
    shutil.copy(shared.picture, names["lonely"])
    arguments, code, message = BAD_DEMOS[case]
    result = run("demo", *(argument.format(**names) for argument in arguments))
    assert result[:2] == (code, "") and result[2].count("\n") == 0
    assert result[2].startswith("facecore demo: " + message.format(**names))
    assert everything_below(tmp_path) == ["lonely.png"]
