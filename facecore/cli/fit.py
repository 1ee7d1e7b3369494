"""`facecore fit`: one identity of a morphable model from the landmarks of several photographs of a person."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import sys
from typing import TYPE_CHECKING, Annotated

import tyro
from tqdm import tqdm

from facecore.cli.errors import UsageError
from facecore.cli.parsing import parse_options
from facecore.cli.reconstruct import Reconstruct

if TYPE_CHECKING:
    import torch

    from facecore.evaluation.report import Report
    from facecore.morphable import MorphableModel
    from facecore.systems.inference import FoundFace
    from facecore.systems.landmark_fit import LandmarkFit

DESCRIPTION = """Fits a morphable model to the landmarks of photographs of one person: an identity that all share, an \
expression and a pose for each. Needs no training and no pixels.

Writes identity.glb, identity.obj (the face without expression), fit.npz (coefficients of the model), for each \
photograph NAME.glb, NAME.obj, NAME.npz and NAME_overlay.png, and index.html.

Example: facecore fit person/ --model BFM.mat --out fitted

68 landmarks lie beside each photograph (portrait.pts, .txt, .mat, .csv) or come by --landmarks; for a photograph \
without, the largest face is found (pip install 'facecore[landmarks]', or networks of your own)."""

NAME, FIT = "identity", "fit"  # files of the result, which no photograph's may be called


@dataclasses.dataclass(frozen=True)
class Fit:
    """Options of `facecore fit`."""

    images: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional]
    """Photographs of one person, or folders of them."""
    out: pathlib.Path = pathlib.Path("fit")
    """Folder for the results."""
    model: str = "procedural"
    """Morphable model: 'procedural', a file or a folder."""
    ridge: float = 1.0
    """Weight of the model's prior: 1 = as likely as it says, with landmarks exact to 1 % of their box; 0 = none."""
    iterations: int = 30
    """Rounds over expressions, identity and poses, at most."""
    landmarks: pathlib.Path | None = None
    """Landmarks: a folder, a table of several pictures, or a CSV manifest `image,landmark_file`."""
    redetect: bool = False
    """Find faces even where landmarks are given."""
    detector: str = "mediapipe"
    """Face detector for pictures without landmarks: 'mediapipe', 'none', or the manifest of a network."""
    landmark_network: str = "mediapipe"
    """What finds the 68 points in a detected face: 'mediapipe', or the manifest of a network."""
    cache: pathlib.Path | None = None
    """Folder in which the faces that were found are kept for other runs on the same pictures."""
    size: int = 160
    """Side of the crop in which the light is estimated, 32 to 1024."""

    def run(self) -> int:
        """0 when every photograph took part and was written; 1 otherwise. Raises ValueError when none is left."""
        self.check()
        from facecore.systems.landmark_fit import fit_landmarks

        model = self.load_model()
        faces, refused = self.find_faces()
        if not faces:
            for reason in refused:
                print(f"facecore fit: refused {reason}", file=sys.stderr)
            raise ValueError("no photograph with 68 landmarks is left: put NAME.pts of 68 points beside each")
        fit = fit_landmarks(model, self.points(faces), ridge=self.ridge, max_iterations=self.iterations)
        written = self.write(model, faces, fit, refused)
        for reason in refused:
            print(f"facecore fit: refused {reason}", file=sys.stderr)
        print(
            f"1 identity of {len(faces)} photographs, {fit.iterations} rounds, landmarks within "
            f"{100 * float(fit.residual.mean()):.1f} % of their box: {written}"
        )
        return 1 if refused else 0

    @property
    def finding(self) -> Reconstruct:
        """The options that find the faces."""
        return Reconstruct(
            self.images,
            out=self.out,
            model=self.model,
            landmarks=self.landmarks,
            faces="all",  # the largest is taken here, of each picture
            redetect=self.redetect,
            detector=self.detector,
            landmark_network=self.landmark_network,
            cache=self.cache,
            size=self.size,
        )

    def check(self) -> None:
        self.finding.check()
        if not 0 <= self.ridge < float("inf"):
            raise UsageError(f"--ridge must be at least 0, got {self.ridge}")
        if self.iterations < 1:
            raise UsageError(f"--iterations must be at least 1, got {self.iterations}")

    def load_model(self) -> MorphableModel:
        """The model; one without colours gets those of the procedural model, to be seen."""
        from facecore.morphable import MorphableModel
        from facecore.morphable.albedo import attach_procedural_albedo

        model = self.finding.load_source()
        assert isinstance(model, MorphableModel)
        return model if model.albedo_mean is not None else attach_procedural_albedo(model)

    def find_faces(self) -> tuple[list[FoundFace], list[str]]:
        """The largest face of each photograph, and why photographs were refused."""
        from facecore.cli.one_person import largest_of_each

        found, refused = self.finding.find_faces()
        faces = []
        for path, face in largest_of_each(found).items():
            if face.landmarks is not None and face.landmarks.kind == "68":
                faces.append(face)
            else:
                refused.append(f"{path}: a fit needs 68 landmarks, these are 5; give others, or --redetect")
        return faces, refused

    def points(self, faces: list[FoundFace]) -> torch.Tensor:
        """Landmarks in the NDC of each crop, float64 [M, 68, 2]."""
        import torch

        from facecore.render import pixel_to_ndc

        size = self.size
        points = [face.crop.resized(size, size).to_crop(face.landmarks.points) for face in faces if face.landmarks]
        return pixel_to_ndc(torch.stack(points).double(), size, size)

    def write(
        self, model: MorphableModel, faces: list[FoundFace], fit: LandmarkFit, refused: list[str]
    ) -> pathlib.Path:
        """Every file; returns the page's path."""
        from facecore.evaluation.report import Report
        from facecore.systems.export import output_names

        names = output_names([NAME, FIT, *(face.path for face in faces)])[2:]
        report = Report(
            "facecore fit",
            f"{model.name}, ridge {self.ridge:g}: {fit.iterations} rounds over expressions, identity and poses. The "
            "shapes are those of the landmarks alone; the colours are the model's mean, the light is estimated.",
        )
        self.out.mkdir(parents=True, exist_ok=True)
        add_tables(report, names, fit)
        for number, (name, found) in enumerate(zip(tqdm(names, unit="photograph", leave=False), faces)):
            try:
                self.write_photograph(report, name, found, number, model, fit)
            except ValueError as error:
                refused.append(f"to write {found.path}, which took part in the fit: {error}")
        write_identity(self.out, model, names, fit)
        report.write(self.out / "index.html")
        return self.out / "index.html"

    def write_photograph(
        self, report: Report, name: str, found: FoundFace, number: int, model: MorphableModel, fit: LandmarkFit
    ) -> None:
        """The identity in one photograph, with its expression and pose, in its light."""
        from facecore.systems.export import export_face
        from facecore.systems.inference import observe
        from facecore.systems.parameterization import CoefficientParameters
        from facecore.systems.refinement import solve_light, typical_light

        face = found.read()
        pose = fit.pose[number : number + 1]
        coefficients = {"identity": fit.identity[None], "expression": fit.expression[number : number + 1]}
        parameters = CoefficientParameters(model, pose, typical_light(pose.new_zeros(1, 9, 3)), coefficients)
        solve_light(parameters, observe([face], self.size))
        result = parameters.reconstruction(self.size, self.size)
        files = export_face(self.out, name, result, face.image, face.crop)
        links = {"GLB": files.glb.name, "OBJ": files.obj.name, "NPZ": files.npz.name}
        report.add_face(name, result, face.image, face.crop, landmarks=face.landmarks, links=links)


def add_tables(report: Report, names: list[str], fit: LandmarkFit) -> None:
    """How well each photograph is explained, and the objective's way down."""
    from facecore.evaluation.report import table

    degrees = fit.pose[:, :3].rad2deg().tolist()
    rows = [
        [name, *(f"{angle:+.1f}°" for angle in angles), f"{100 * float(residual):.2f} %"]
        for name, angles, residual in zip(names, degrees, fit.residual)
    ]
    rounds = [[str(number), value] for number, value in enumerate(fit.objective.tolist())]
    report.add_table(
        "Photographs",
        ["photograph", "pitch", "yaw", "roll", "RMS distance of the landmarks over their box"],
        rows,
        more=table(["round", "objective"], rounds, "objective", folded="the objective, round by round"),
    )


def write_identity(out: pathlib.Path, model: MorphableModel, names: list[str], fit: LandmarkFit) -> None:
    """identity.glb, identity.obj and fit.npz."""
    import numpy as np

    from facecore.files import write_atomically
    from facecore.mesh import save_glb, save_obj

    vertices, colors = model.shape(fit.identity[None])[0], model.require("albedo_mean").clamp(0, 1)
    save_glb(out / f"{NAME}.glb", vertices, model.triangles, colors=colors)
    save_obj(out / f"{NAME}.obj", vertices, model.triangles, colors=colors)
    arrays = {
        "identity": fit.identity.numpy(),
        "expression": fit.expression.numpy(),
        "pose": fit.pose.numpy(),
        "objective": fit.objective.numpy(),
        "residual": fit.residual.numpy(),
        "photographs": np.array(names, dtype=np.str_),
        "neutral_vertices": vertices.numpy(),
        "triangles": model.triangles.numpy(),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # mypy takes the arrays for allow_pickle
    write_atomically(out / f"{FIT}.npz", buffer.getvalue())


def main(argv: list[str]) -> int:
    command: Fit = parse_options(Fit, argv, prog="facecore fit", description=DESCRIPTION)
    return command.run()
