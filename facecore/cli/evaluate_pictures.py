"""Protocols of `facecore evaluate` on pictures and features: sparse NME, photometric error, verification."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tqdm import tqdm

from facecore.cli.errors import UsageError
from facecore.cli.evaluate_output import Output, check_exists, why

if TYPE_CHECKING:
    import numpy as np

Row = dict[str, Any]
Folder = tyro.conf.Positional[pathlib.Path]


@dataclasses.dataclass(frozen=True)
class LandmarkNme(Output):
    """Sparse NME of AFLW2000-3D: mean distance of 68 points over root(w h) of the box of the true ones, in percent; by
    |yaw|, the mean of the bins, and the CED curve.

    Example: facecore evaluate landmarks faces/ AFLW2000/
    """

    predictions: Annotated[Folder, tyro.conf.arg(metavar="PREDICTIONS")]
    """Folder of .npz of 'facecore reconstruct' (`landmarks_2d`), or of landmark files (.pts .txt .csv .mat)."""
    truth: Annotated[Folder, tyro.conf.arg(metavar="TRUTH")]
    """Folder of landmark files; AFLW2000-3D's .mat hold the yaw too."""
    yaws: pathlib.Path | None = None
    """CSV of image,yaw in degrees, for truths other than 300W-LP's and AFLW2000-3D's .mat."""

    def run(self) -> int:
        self.check_output()
        check_exists(PREDICTIONS=self.predictions, TRUTH=self.truth, yaws=self.yaws)
        from facecore.evaluation.landmark_error import area_under, by_yaw, cumulative_distribution, landmark_nme
        from facecore.evaluation.picture_folders import (
            LANDMARKS,
            files_by_key,
            label_files,
            read_68,
            read_yaws,
            yaw_of_mat,
        )
        from facecore.evaluation.published import SPARSE_NME
        from facecore.evaluation.results import Evaluation

        truths = label_files(self.truth)
        predictions = files_by_key(self.predictions, (".npz", *LANDMARKS))
        yaws = {} if self.yaws is None else read_yaws(self.yaws)
        rows: list[Row] = []
        skipped: list[tuple[str, str]] = []
        for key, path in tqdm(truths.items(), desc="landmarks", unit="picture", leave=False, disable=None):
            try:
                if key not in predictions:
                    raise ValueError("no prediction of it")
                nme = landmark_nme(read_68(predictions[key]), read_68(path))
                yaw = yaws.get(path.stem, yaw_of_mat(path))
            except (ValueError, OSError) as error:
                skipped.append((str(path), why(error, str(path))))
                continue
            rows.append({"picture": key, "nme_percent": nme, "yaw_degrees": yaw})
        summary: list[Row] = []
        curves, notes = {}, []
        if rows:
            values, angles, known = columns(rows)
            if known.any():
                bins, overall = by_yaw(values[known], angles[known])
                summary = [{"|yaw|": b.name, "pictures": b.count, "nme_percent": b.nme} for b in bins]
                summary.append({"|yaw|": "mean of the bins", "pictures": int(known.sum()), "nme_percent": overall})
            if not known.all():
                notes.append(f"{int((~known).sum())} pictures have no yaw and count only in the mean of all.")
            summary.append({"|yaw|": "all pictures", "pictures": len(values), "nme_percent": float(values.mean())})
            curves = {"all pictures": cumulative_distribution(values)}
            notes.append(f"Area under the CED to 10 %: {area_under(curves['all pictures']):.4g}.")
        evaluation = Evaluation(
            "landmarks",
            dataclasses.asdict(self) | {"normalisation": "root of w * h of the box of the true points"},
            summary,
            rows,
            len(truths),
            skipped,
            SPARSE_NME,
            curves,
            ("NME in %", "share of pictures"),
            notes=notes,
        )
        return self.finish(evaluation)


@dataclasses.dataclass(frozen=True)
class Photometric(Output):
    """Mean absolute difference of drawn and true pictures in a mask, times 255.

    Example: facecore evaluate photometric faces/ photographs/ --masks masks/
    """

    predictions: Annotated[Folder, tyro.conf.arg(metavar="PREDICTIONS")]
    """Folder of drawn pictures; NAME_overlay.png belongs to NAME as well as NAME.png."""
    truth: Annotated[Folder, tyro.conf.arg(metavar="TRUTH")]
    """Folder of the pictures they should be like, of the same sizes."""
    masks: pathlib.Path | None = None
    """Folder of PNG masks, white = counts, with the names of the true pictures; default: every pixel counts."""

    def run(self) -> int:
        self.check_output()
        check_exists(PREDICTIONS=self.predictions, TRUTH=self.truth, masks=self.masks)
        from facecore.data.search import find_pictures
        from facecore.evaluation.picture_folders import picture_error, pictures_by_key
        from facecore.evaluation.results import Evaluation, summarise

        for name, folder in (("PREDICTIONS", self.predictions), ("TRUTH", self.truth), ("--masks", self.masks)):
            if folder is not None and not folder.is_dir():
                raise UsageError(f"{name} {folder} is not a folder")
        drawn = pictures_by_key(self.predictions, "_overlay")
        truths = find_pictures(self.truth, [self.masks, self.out, self.predictions])
        rows: list[Row] = []
        skipped: list[tuple[str, str]] = []
        for path in tqdm(truths, desc="photometric", unit="picture", leave=False, disable=None):
            key = path.relative_to(self.truth).with_suffix("").as_posix()
            try:
                if key not in drawn:
                    raise ValueError("no prediction of it")
                error, pixels = picture_error(drawn[key], path, self.masks, self.truth)
            except (ValueError, OSError) as problem:
                skipped.append((str(path), why(problem, str(path))))
                continue
            rows.append({"picture": key, "error_255": error, "pixels": pixels})
        summary = summarise(rows, "error_255", subject="picture") if rows else []
        where = f"in the masks of {self.masks}" if self.masks else "over whole pictures"
        note = f"Mean absolute difference of the three colours times 255, {where}; mean over pictures."
        evaluation = Evaluation(
            "photometric", dataclasses.asdict(self), summary, rows, len(truths), skipped, notes=[note]
        )
        return self.finish(evaluation)


@dataclasses.dataclass(frozen=True)
class VerificationPairs(Output):
    """Verification of LFW and YTF over folds: accuracy, 100 - EER, AUC, TAR at FAR 10 % and 1 %, by cosine similarity.

    Example: facecore evaluate verification pairs.csv faces/ --code identity
    """

    pairs: Annotated[Folder, tyro.conf.arg(metavar="PAIRS")]
    """CSV of fold,first,second,same (same = 1 or 0); or of fold,similarity,same, which needs no features."""
    features: Annotated[tyro.conf.Positional[pathlib.Path | None], tyro.conf.arg(metavar="FEATURES")] = None
    """Folder of .npz of 'facecore reconstruct' by name, or one .npz of `names` [N] and `features` [N, F]."""
    code: str = "identity"
    """Which code of the .npz of 'facecore reconstruct'."""

    def run(self) -> int:
        self.check_output()
        check_exists(PAIRS=self.pairs, FEATURES=self.features)
        import numpy as np

        from facecore.evaluation.feature_files import FeatureFiles, read_pairs
        from facecore.evaluation.published import VERIFICATION_TABLES
        from facecore.evaluation.results import Evaluation
        from facecore.evaluation.verification import FALSE_ACCEPT_RATES, cosine, roc, verify

        pairs = read_pairs(self.pairs)
        if pairs.similarity is None and self.features is None:
            raise UsageError(f"FEATURES: {self.pairs} names faces; give their features")
        skipped: list[tuple[str, str]] = []
        if pairs.similarity is not None:
            similarity, kept = pairs.similarity, np.arange(len(pairs.similarity))
        else:
            assert self.features is not None
            files = FeatureFiles(self.features, self.code)
            found, values = [], []
            numbers = tqdm(range(len(pairs.names)), desc="verification", unit="pair", leave=False, disable=None)
            for number in numbers:
                first, second = pairs.names[number]
                try:
                    values.append(cosine(files.of(first)[None], files.of(second)[None])[0])
                    found.append(number)
                except (ValueError, OSError) as error:
                    skipped.append((f"{first}, {second}", why(error, first)))
            similarity, kept = np.array(values), np.array(found, dtype=np.int64)
        summary: list[Row] = []
        rows: list[Row] = []
        curves = {}
        if len(kept):
            result = verify(similarity, pairs.same[kept], pairs.fold[kept])
            summary = [{"measure": NAMES[n], "mean": mean, "std": std} for n, (mean, std) in result.measures.items()]
            rows = [
                {"fold": int(number), "threshold": threshold, **row}
                for number, threshold, row in zip(np.unique(pairs.fold[kept]), result.thresholds, result.folds)
            ]
            false, true = roc(similarity, pairs.same[kept])
            curves = {"ROC of all pairs": list(zip(false.tolist(), true.tolist()))}
        settings = dataclasses.asdict(self) | {
            "similarity": "cosine" if pairs.similarity is None else "given",
            "threshold": "highest accuracy on the other folds",
            "false_accept_rates": list(FALSE_ACCEPT_RATES),
        }
        evaluation = Evaluation(
            "verification",
            settings,
            summary,
            rows,
            len(pairs.same),
            skipped,
            VERIFICATION_TABLES,
            curves,
            ("false accept rate", "true accept rate"),
            notes=["Percent; mean and standard deviation over folds."],
        )
        return self.finish(evaluation)


NAMES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "equal_error": "100 - EER",
    "auc": "AUC",
    "tar_10": "TAR at FAR 10 %",
    "tar_1": "TAR at FAR 1 %",
}


def columns(rows: list[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NME, yaw (0 where unknown), and where it is known."""
    import numpy as np

    nme = np.array([row["nme_percent"] for row in rows])
    known = np.array([row["yaw_degrees"] is not None for row in rows])
    yaw = np.array([row["yaw_degrees"] or 0.0 for row in rows])
    return nme, yaw, known
