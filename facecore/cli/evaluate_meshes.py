"""Protocols of `facecore evaluate` on folders of meshes: point-to-plane, RMSE, exact correspondence, dense NME."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from facecore.cli.errors import UsageError
from facecore.cli.evaluate_mesh_pairs import MeshOptions, Row
from facecore.cli.parsing import check_exists
from facecore.evaluation.alignment import Alignment
from facecore.evaluation.point_to_plane import IcpAlignmentSettings, PointToPlaneSettings

if TYPE_CHECKING:
    import torch

    from facecore.evaluation.error_maps import ErrorMap
    from facecore.evaluation.mesh_folders import MeshFile, MeshFolder, Pair
    from facecore.evaluation.published import PublishedTable
    from facecore.evaluation.results import Evaluation

Settings = Annotated[PointToPlaneSettings, tyro.conf.arg(name="")]


@dataclasses.dataclass(frozen=True)
class PointToPlane(MeshOptions):
    """MICC: distance between a predicted face and a scan, after ICP with isotropic scale; the scan is cropped to 95 mm
    around its nose tip.

    Example: facecore evaluate point-to-plane predictions/ scans/ --truth-landmarks landmarks/ --pairs micc.csv
    """

    settings: Settings = dataclasses.field(default_factory=PointToPlaneSettings)

    protocol = "point-to-plane"

    def compare(self, prediction: MeshFile, truth: MeshFile) -> tuple[Row, ErrorMap]:
        import torch

        from facecore.evaluation.error_maps import ErrorMap
        from facecore.evaluation.point_to_plane import point_to_plane

        found = point_to_plane(prediction.face, truth.face, self.settings)
        row: Row = {
            "error_mm": found.error_mm,
            "prediction_to_scan_mm": found.prediction_to_scan_mm,
            "scan_to_prediction_mm": found.scan_to_prediction_mm,
            "prediction_share": found.prediction_share,
            "scan_share": found.scan_share,
        }
        if found.registration is not None:
            row |= {
                "icp_iterations": found.registration.iterations,
                "icp_converged": found.registration.converged,
                "icp_scale": float(found.registration.similarity.scale),
            }
        arrays = (found.scan.vertices, found.scan.triangles, found.scan_distance, found.scan_counted)
        vertices, triangles, error, counted = map(torch.from_numpy, arrays)
        return row, ErrorMap(vertices.float(), triangles.int(), error.float(), counted)

    def published(self) -> Sequence[PublishedTable]:
        from facecore.evaluation.published import POINT_TO_PLANE

        return POINT_TO_PLANE

    def notes(self) -> Iterator[str]:
        s = self.settings
        yield (
            f"Direction {s.direction}, {s.statistic} over points, scan cropped to {s.crop_mm:g} mm, alignment "
            f"{s.alignment}; {self.aggregation()}."
        )


@dataclasses.dataclass(frozen=True)
class Rmse(MeshOptions):
    """RMSE of Liu et al. 2018: Procrustes by 68 landmarks, the truth cropped to 95 mm around its nose tip, root mean
    square over its vertices (to corresponding vertices, or closest points where the triangles differ).

    Example: facecore evaluate rmse predictions/ truth/ --prediction-landmarks vertices68.txt
    """

    crop_mm: float = 95.0
    """Radius of the part of the truth around its nose tip that counts."""

    protocol = "rmse"

    def check(self) -> None:
        super().check()
        if not self.crop_mm > 0:
            raise UsageError(f"--crop-mm must be positive, got {self.crop_mm}")

    def compare(self, prediction: MeshFile, truth: MeshFile) -> tuple[Row, ErrorMap]:
        import torch

        from facecore.evaluation.error_maps import ErrorMap
        from facecore.evaluation.point_to_plane import procrustes_distances, same_topology

        distance, inside = procrustes_distances(prediction.face, truth.face, self.crop_mm)
        row = {
            "error_mm": float((distance[inside] ** 2).mean() ** 0.5),
            "vertices": int(inside.sum()),
            "same_topology": same_topology(prediction.face.surface, truth.face.surface),
        }
        error, counted = torch.from_numpy(distance).float(), torch.from_numpy(inside)
        return row, ErrorMap(truth.mesh.vertices, truth.mesh.triangles, error, counted)

    def published(self) -> Sequence[PublishedTable]:
        from facecore.evaluation.published import EXPRESSIONS, RMSE

        return (*RMSE, *EXPRESSIONS)

    def notes(self) -> Iterator[str]:
        yield f"Similarity by 68 landmarks, truth cropped to {self.crop_mm:g} mm; {self.aggregation()}."


@dataclasses.dataclass(frozen=True)
class Correspondence(MeshOptions):
    """Mean distance of corresponding vertices: both meshes have the same triangles. Full shape, identity shape where
    both files have `neutral_vertices`, and by region.

    Example: facecore evaluate correspondence faces/ truth/ --regions regions.npz --alignment similarity
    """

    alignment: Alignment = "similarity"
    """Least squares over all vertices; none leaves both faces where they are."""
    regions: pathlib.Path | None = None
    """.npz of vertex masks, bool [V], by region; or a morphable model, whose regions count."""

    protocol = "correspondence"

    def check(self) -> None:
        super().check()
        check_exists(regions=self.regions)

    def compare(self, prediction: MeshFile, truth: MeshFile) -> tuple[Row, ErrorMap]:
        from facecore.evaluation.alignment import regional_errors, vertex_distances
        from facecore.evaluation.error_maps import ErrorMap
        from facecore.evaluation.point_to_plane import same_topology

        if not same_topology(prediction.face.surface, truth.face.surface):
            raise ValueError("the triangles differ from the truth's; use point-to-plane or rmse")
        pairs = [("error_mm", prediction.mesh.vertices, truth.mesh.vertices)]
        if prediction.neutral_vertices is not None and truth.neutral_vertices is not None:
            pairs.append(("identity_mm", prediction.neutral_vertices, truth.neutral_vertices))
        row: Row = {}
        full = None
        for name, predicted, true in pairs:
            distances = vertex_distances(predicted[None].double(), true[None].double(), self.alignment)
            full = distances if full is None else full
            for region, error in regional_errors(distances, self.region_masks()).items():
                row[name if region == "all" else f"{name.removesuffix('_mm')} {region} mm"] = float(error)
        assert full is not None
        return row, ErrorMap(truth.mesh.vertices, truth.mesh.triangles, full[0].float())

    def region_masks(self) -> dict[str, torch.Tensor]:
        from facecore.evaluation.mesh_folders import read_regions

        return {} if self.regions is None else read_regions(self.regions)

    def evaluate(self, pairs: list[Pair], predictions: MeshFolder, truths: MeshFolder) -> Evaluation:
        """The summary has a column per measure: identity shape and regions beside the full shape."""
        from facecore.evaluation.results import summarise

        self.region_masks()  # a damaged file is said at once, not once a pair
        evaluation = super().evaluate(pairs, predictions, truths)
        measures = dict.fromkeys(name for row in evaluation.rows for name in row if name.endswith("mm"))
        evaluation.summary = [
            {"measure": name, **row}
            for name in measures
            for row in summarise([row for row in evaluation.rows if name in row], name)
        ]
        return evaluation

    def notes(self) -> Iterator[str]:
        yield f"Corresponding vertices, alignment {self.alignment} over all vertices; {self.aggregation()}."


@dataclasses.dataclass(frozen=True)
class DenseNme(MeshOptions):
    """Dense NME of Wen et al. 2021: after ICP, mean distance of the truth's vertices from the predicted surface over
    the truth's outer interocular distance, in percent.

    Example: facecore evaluate dense-nme predictions/ truth/ --region vertices.txt
    """

    region: pathlib.Path | None = None
    """Numbers of the truth's vertices that count, one a row, from 0; default: those of the crop."""
    settings: Annotated[IcpAlignmentSettings, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=IcpAlignmentSettings
    )

    protocol = "dense-nme"
    value = "nme_percent"

    def compare(self, prediction: MeshFile, truth: MeshFile) -> tuple[Row, ErrorMap]:
        import torch

        from facecore.evaluation.error_maps import ErrorMap
        from facecore.evaluation.point_to_plane import dense_distances

        found = dense_distances(prediction.face, truth.face, self.settings, self.vertices())
        error = torch.zeros(truth.mesh.num_vertices)
        counted = torch.zeros(truth.mesh.num_vertices, dtype=torch.bool)
        chosen = torch.from_numpy(found.vertices)
        error[chosen], counted[chosen] = torch.from_numpy(found.distance).float(), True
        row = {"nme_percent": found.nme, "vertices": len(chosen), "interocular_mm": found.interocular_mm}
        return row, ErrorMap(truth.mesh.vertices, truth.mesh.triangles, error, counted)

    def vertices(self) -> Any:
        from facecore.evaluation.mesh_folders import read_vertex_numbers

        return None if self.region is None else read_vertex_numbers(self.region)

    def check(self) -> None:
        super().check()
        check_exists(region=self.region)
        self.vertices()

    def evaluate(self, pairs: list[Pair], predictions: MeshFolder, truths: MeshFolder) -> Evaluation:
        import numpy as np

        from facecore.evaluation.landmark_error import cumulative_distribution

        evaluation = super().evaluate(pairs, predictions, truths)
        if evaluation.rows:
            values = np.array([row["nme_percent"] for row in evaluation.rows])
            evaluation.curves = {"dense NME": cumulative_distribution(values)}
            evaluation.axes = ("NME in %", "share of faces")
        return evaluation

    def published(self) -> Sequence[PublishedTable]:
        from facecore.evaluation.published import DENSE_NME

        return DENSE_NME

    def notes(self) -> Iterator[str]:
        where = (
            f"truth cropped to {self.settings.crop_mm:g} mm" if self.region is None else f"vertices of {self.region}"
        )
        yield f"Closest points after ICP ({self.settings.alignment}), {where}; {self.aggregation()}."
