"""Protocols of `facecore evaluate` on pictures and features: sparse NME, photometric error, verification."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tqdm import tqdm

from facecore.cli.errors import UsageError
from facecore.cli.evaluate_output import Output, why
from facecore.cli.parsing import check_exists

if TYPE_CHECKING:
    import numpy as np

    from facecore.evaluation.feature_files import Pairs
    from facecore.evaluation.results import Evaluation

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
        from facecore.evaluation.picture_folders import label_files
        from facecore.evaluation.published import SPARSE_NME
        from facecore.evaluation.results import Evaluation

        truths = label_files(self.truth)
        rows, skipped = self.measure(truths)
        evaluation = Evaluation(
            protocol="landmarks",
            settings=dataclasses.asdict(self) | {"normalisation": "root of w * h of the box of the true points"},
            summary=[],
            rows=rows,
            total=len(truths),
            skipped=skipped,
            published=SPARSE_NME,
            axes=("NME in %", "share of pictures"),
        )
        if rows:
            self.summarise(evaluation)
        return self.finish(evaluation)

    def measure(self, truths: Mapping[str, pathlib.Path]) -> tuple[list[Row], list[tuple[str, str]]]:
        """A row per picture, and what was skipped."""
        from facecore.evaluation.landmark_error import landmark_nme
        from facecore.evaluation.picture_folders import (
            LANDMARKS,
            files_by_key,
            prediction_of,
            read_68,
            read_yaws,
            yaw_of_mat,
        )

        predictions = files_by_key(self.predictions, (".npz", *LANDMARKS))
        yaws = {} if self.yaws is None else read_yaws(self.yaws)
        rows: list[Row] = []
        skipped: list[tuple[str, str]] = []
        for key, path in tqdm(truths.items(), desc="landmarks", unit="picture", leave=False, disable=None):
            try:
                nme = landmark_nme(read_68(prediction_of(key, predictions, truths)), read_68(path))
                yaw = yaws[path.stem] if path.stem in yaws else yaw_of_mat(path)
            except (ValueError, OSError) as error:
                skipped.append((str(path), why(error, str(path))))
                continue
            rows.append({"picture": key, "nme_percent": nme, "yaw_degrees": yaw})
        return rows, skipped

    def summarise(self, evaluation: Evaluation) -> None:
        """Adds the bins, the means and the curve."""
        from facecore.evaluation.landmark_error import area_under, by_yaw, cumulative_distribution

        nme, yaw, known = columns(evaluation.rows)
        if known.any():
            bins, overall = by_yaw(nme[known], yaw[known])
            evaluation.summary = [{"|yaw|": b.name, "pictures": b.count, "nme_percent": b.nme} for b in bins]
            mean = {"|yaw|": "mean of the bins", "pictures": int(known.sum()), "nme_percent": overall}
            evaluation.summary.append(mean)
        if not known.all():
            evaluation.notes.append(f"{int((~known).sum())} pictures have no yaw and count only in the mean of all.")
        everything = {"|yaw|": "all pictures", "pictures": len(nme), "nme_percent": float(nme.mean())}
        evaluation.summary.append(everything)
        evaluation.curves = {"all pictures": cumulative_distribution(nme)}
        evaluation.notes.append(f"Area under the CED to 10 %: {area_under(evaluation.curves['all pictures']):.4g}.")


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
        from facecore.evaluation.picture_folders import picture_error, pictures_by_key, prediction_of
        from facecore.evaluation.results import Evaluation, summarise

        for name, folder in (("PREDICTIONS", self.predictions), ("TRUTH", self.truth), ("--masks", self.masks)):
            if folder is not None and not folder.is_dir():
                raise UsageError(f"{name} {folder} is not a folder")
        drawn = pictures_by_key(self.predictions, "_overlay")
        found = find_pictures(self.truth, [self.masks, self.out, self.predictions])
        truths = {path.relative_to(self.truth).with_suffix("").as_posix(): path for path in found}
        rows: list[Row] = []
        skipped: list[tuple[str, str]] = []
        for key, path in tqdm(truths.items(), desc="photometric", unit="picture", leave=False, disable=None):
            try:
                error, pixels = picture_error(prediction_of(key, drawn, truths), path, self.masks, self.truth)
            except (ValueError, OSError) as problem:
                skipped.append((str(path), why(problem, str(path))))
                continue
            rows.append({"picture": key, "error_255": error, "pixels": pixels})
        means = summarise(rows, "error_255", subject="picture") if rows else []
        summary = [{"measure": "error_255", **row} for row in means]
        where = f"in the masks of {self.masks}" if self.masks else "over whole pictures"
        note = f"Mean absolute difference of the three colours times 255, {where}; mean over pictures."
        evaluation = Evaluation(
            protocol="photometric",
            settings=dataclasses.asdict(self),
            summary=summary,
            rows=rows,
            total=len(truths),
            skipped=skipped,
            notes=[note],
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
    code: str | None = None
    """Which code of the .npz of 'facecore reconstruct'; default: identity."""
    fuse: pathlib.Path | None = None
    """More features of the same faces, as FEATURES: the similarities of both are summed, each less its mean over its
    standard deviation on the other folds."""
    fuse_code: str | None = None
    """Which code of these; default: identity."""

    def run(self) -> int:
        self.check_output()
        check_exists(PAIRS=self.pairs, FEATURES=self.features, fuse=self.fuse)
        from facecore.evaluation.feature_files import read_pairs
        from facecore.evaluation.published import VERIFICATION_TABLES
        from facecore.evaluation.results import Evaluation
        from facecore.evaluation.verification import FALSE_ACCEPT_RATES

        pairs = read_pairs(self.pairs)
        similarity, kept, skipped = self.similarities(pairs)
        settings = dataclasses.asdict(self) | {
            "similarity": "given"
            if pairs.similarity is not None
            else "cosine"
            if self.fuse is None
            else "fused cosines",
            "threshold": "highest accuracy on the other folds",
            "false_accept_rates": list(FALSE_ACCEPT_RATES),
        }
        evaluation = Evaluation(
            protocol="verification",
            settings=settings,
            summary=[],
            rows=[],
            total=len(pairs.same),
            skipped=skipped,
            published=VERIFICATION_TABLES,
            axes=("false accept rate", "true accept rate"),
            notes=["Percent; mean and standard deviation over folds."],
        )
        if len(kept):
            self.verify(evaluation, similarity, pairs.same[kept], pairs.fold[kept])
        return self.finish(evaluation)

    def similarities(self, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, list[tuple[str, str]]]:
        """Of the pairs that have features, [P], or [2, P] with --fuse; their numbers, and what was skipped."""
        import numpy as np

        from facecore.evaluation.feature_files import FeatureFiles
        from facecore.evaluation.verification import cosine

        self.check_sources(given=pairs.similarity is not None)
        if pairs.similarity is not None:
            return pairs.similarity, np.arange(len(pairs.similarity)), []
        sources = ((self.features, self.code), (self.fuse, self.fuse_code))
        files = [FeatureFiles(path, code or "identity") for path, code in sources if path is not None]
        kept: list[int] = []
        values: list[list[float]] = []
        skipped: list[tuple[str, str]] = []
        for number, (first, second) in enumerate(tqdm(pairs.names, desc="verification", leave=False, disable=None)):
            try:
                values.append([float(cosine(own.of(first)[None], own.of(second)[None])[0]) for own in files])
                kept.append(number)
            except (ValueError, OSError) as error:
                skipped.append((f"{first}, {second}", why(error, first)))
        rows_of = np.array(values).reshape(len(values), len(files)).T
        return rows_of[0] if len(files) == 1 else rows_of, np.array(kept, dtype=np.int64), skipped

    def check_sources(self, given: bool) -> None:
        """UsageError for features that are missing, or that nothing would look at. given: the file has similarities."""
        if given:
            for name, path in (("FEATURES", self.features), ("--fuse", self.fuse)):
                if path is not None:
                    raise UsageError(f"{name}: {self.pairs} brings similarities and names no faces; leave it out")
        elif self.features is None:
            raise UsageError(f"FEATURES: {self.pairs} names faces; give their features")
        for name, code, path in (("--code", self.code, self.features), ("--fuse-code", self.fuse_code, self.fuse)):
            if code is not None and (path is None or not path.is_dir()):
                raise UsageError(f"{name}: only the .npz of a folder have codes to choose among; leave it out")

    def verify(self, evaluation: Evaluation, similarity: np.ndarray, same: np.ndarray, fold: np.ndarray) -> None:
        """Adds the measures, the folds and the curve."""
        import numpy as np

        from facecore.evaluation.verification import fused, roc, verify

        result = verify(similarity, same, fold)
        evaluation.summary = [
            {"measure": NAMES[name], "mean": mean, "std": std} for name, (mean, std) in result.measures.items()
        ]
        evaluation.rows = [
            {"fold": int(number), "threshold": threshold, **row}
            for number, threshold, row in zip(np.unique(fold), result.thresholds, result.folds)
        ]
        false, true = roc(fused(similarity, np.ones_like(fold, dtype=bool)), same)
        evaluation.curves = {"ROC of all pairs": list(zip(false.tolist(), true.tolist()))}


NAMES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "accuracy_at_equal_error": "100 - EER",
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
