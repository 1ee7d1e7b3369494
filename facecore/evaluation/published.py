"""What the papers print (METHODS 8.2), to show beside own results, never to be compared across papers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

WARNING = (
    "Published values of the same method differ between papers (Genova et al. 2018 on MICC Cooperative: 1.50, 1.78 and "
    "1.372 mm): crop, alignment, direction and aggregation are not the same. Compare within one paper only, and your "
    "own numbers with numbers of the same settings only."
)


@dataclasses.dataclass(frozen=True)
class PublishedTable:
    """columns: after the method's name. rows: (method, values); None = the paper has no value."""

    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, Sequence[float | None]], ...]

    def cells(self) -> list[list[str | float]]:
        return [[method, *("" if value is None else value for value in values)] for method, values in self.rows]


MEAN_STD = tuple(f"{place} {what}" for place in ("cooperative", "indoor", "outdoor") for what in ("mean", "std"))
MEASURES = ("accuracy", "100 - EER", "AUC", "TAR at 10 %", "TAR at 1 %")
VERIFICATION = tuple(f"{measure}{what}" for measure in MEASURES for what in ("", " std"))

POINT_TO_PLANE = (
    PublishedTable(
        "Semi-supervised system (2020), Table 1: MICC, mm",
        MEAN_STD[:4],
        (
            ("Tran et al. 2017", (1.397, 0.290, 1.381, 0.322)),
            ("Tewari et al. 2017", (1.370, 0.321, 1.286, 0.266)),
            ("Genova et al. 2018", (1.372, 0.353, 1.260, 0.310)),
            ("Wu et al. 2019, several views", (1.220, 0.247, 1.228, 0.236)),
            ("the paper's own", (1.163, 0.295, 1.238, 0.302)),
        ),
    ),
    PublishedTable(
        "Deng et al. 2019, Table 2: MICC, mm (per subject root mean square)",
        MEAN_STD,
        (
            ("Tran et al. 2017", (1.97, 0.49, 2.03, 0.45, 1.93, 0.49)),
            ("Genova et al. 2018", (1.78, 0.54, 1.78, 0.52, 1.76, 0.54)),
            ("the paper's own", (1.66, 0.52, 1.66, 0.46, 1.69, 0.53)),
        ),
    ),
    PublishedTable(
        "Genova et al. 2018, Table 1: MICC, mm",
        MEAN_STD,
        (
            ("Tran et al. 2017", (1.93, 0.27, 2.02, 0.25, 1.86, 0.23)),
            ("the paper's own", (1.50, 0.13, 1.50, 0.11, 1.48, 0.11)),
        ),
    ),
)
RMSE = (
    PublishedTable(
        "Liu et al. 2018, Table 2: MICC, RMSE in mm",
        ("RMSE",),
        (("VRN", (5.34,)), ("3DDFA", (2.73,)), ("3DMM-CNN", (2.20,)), ("3DSR", (2.07,)), ("the paper's own", (2.00,))),
    ),
)
POSE_SWEEP = (
    PublishedTable(
        "Liu et al. 2018, Table 1: BU-3DFE, RMSE in mm by |yaw|",
        (*(f"{yaw}°" for yaw in range(90, -1, -10)), "mean"),
        (
            ("VRN", (6.96, 6.20, 6.14, 6.01, 5.91, 5.50, 4.93, 3.86, 3.70, 3.66, 5.29)),
            ("3DDFA", (2.90, 2.88, 2.81, 2.82, 2.77, 2.79, 2.76, 2.73, 2.55, 2.48, 2.75)),
            ("3DMM-CNN", (None, None, None, None, 2.30, 2.26, 2.23, 2.22, 2.19, 2.17, 2.23)),
            ("3DSR", (2.11, 2.11, 2.12, 2.13, 2.16, 2.14, 2.12, 2.10, 2.10, 2.09, 2.12)),
            ("the paper's own", (2.09, 2.04, 2.03, 2.03, 2.00, 1.99, 2.03, 2.01, 1.97, 1.93, 2.01)),
        ),
    ),
)
SPARSE_NME = (
    PublishedTable(
        "Public code of Deng et al. 2019: AFLW2000-3D, sparse NME in %",
        ("[0, 30]", "(30, 60]", "(60, 90]", "mean of the bins"),
        (("its own", (2.56, 3.11, 4.45, 3.37)),),
    ),
)
DENSE_NME = (
    PublishedTable(
        "Wen et al. 2021: dense NME in %",
        ("AFLW2000-3D", "MICC"),
        (
            ("CEST", (3.37, 3.14)),
            ("3DDFA", (5.37, 6.38)),
            ("PRN", (3.96, 3.76)),
            ("nonlinear 3DMM", (None, 3.20)),
        ),
    ),
)
VERIFICATION_TABLES = (
    PublishedTable(
        "Liu et al. 2018, Table 3: LFW, % (S shape, T texture)",
        VERIFICATION,
        (
            ("3DMM, S", (66.13, 2.79, 65.70, 2.81, 72.24, 2.75, 35.90, 3.74, 12.37, 4.81)),
            ("3DMM, T", (74.93, 1.14, 74.50, 1.21, 82.94, 1.14, 60.40, 3.15, 28.73, 7.17)),
            ("3DMM, S + T", (75.25, 2.12, 74.73, 2.56, 83.21, 1.93, 59.40, 4.64, 29.67, 4.73)),
            ("3DDFA, S", (66.98, 2.56, 67.13, 1.90, 73.30, 2.49, 36.76, 6.27, 10.00, 3.22)),
            ("3DMM-CNN, S", (90.53, 1.34, 90.63, 1.61, 96.60, 0.79, 91.13, 2.62, 58.20, 12.14)),
            ("3DMM-CNN, T", (90.60, 1.07, 90.70, 1.17, 96.75, 0.59, 91.23, 2.42, 52.60, 8.14)),
            ("3DMM-CNN, S + T", (92.35, 1.29, 92.33, 1.33, 97.71, 0.64, 94.20, 2.00, 65.57, 6.93)),
            ("the paper's own, S", (94.43, 1.47, 94.40, 1.52, 98.12, 0.90, 95.07, 2.39, 74.54, 4.33)),
        ),
    ),
    PublishedTable(
        "Liu et al. 2018, Table 3: YTF, % (S shape, T texture)",
        VERIFICATION,
        (
            ("3DMM, S", (73.26, 2.51, 73.08, 2.65, 80.41, 2.60, 51.36, 5.11, 24.04, 4.56)),
            ("3DMM, T", (77.34, 2.54, 76.96, 2.64, 85.32, 2.63, 63.16, 5.07, 31.36, 5.21)),
            ("3DMM, S + T", (79.56, 2.08, 79.20, 2.07, 87.35, 1.92, 69.08, 5.00, 34.56, 6.89)),
            ("3DDFA, S", (68.10, 2.93, 67.96, 3.12, 74.95, 3.04, 40.52, 3.65, 12.20, 2.67)),
            ("3DMM-CNN, S", (88.28, 1.84, 88.32, 2.16, 95.95, 1.38, 86.60, 3.95, 51.12, 8.86)),
            ("3DMM-CNN, T", (87.56, 2.56, 87.68, 2.25, 94.44, 1.38, 84.80, 4.89, 40.92, 8.26)),
            ("3DMM-CNN, S + T", (88.80, 2.21, 88.84, 2.40, 95.37, 1.43, 87.92, 4.18, 46.56, 6.20)),
            ("the paper's own, S", (88.74, 1.03, 88.70, 1.15, 96.28, 0.63, 89.00, 2.40, 53.44, 4.51)),
        ),
    ),
)
EXPRESSIONS = (
    PublishedTable(
        "Liu et al. 2018, Figures 6 and 7: BU-3DFE, RMSE in mm",
        ("full shape", "identity shape"),
        (
            ("VRN", (4.68, None)),
            ("3DDFA", (2.56, None)),
            ("3DMM-CNN", (None, 2.21)),
            ("3DSR", (None, 2.10)),
            ("the paper's own", (2.19, 2.00)),
        ),
    ),
)

RECOGNISABILITY = (
    PublishedTable(
        "Genova et al. 2018, Table 3: share of renders with the right person among the nearest photographs (VGG-Face)",
        ("MoFA-Test top 1", "top 5", "LFW top 1", "top 5"),
        (
            ("random", (0.01, 0.06, 0.0002, 0.001)),
            ("MoFA", (0.19, 0.54, None, None)),
            ("Tran et al. 2017", (0.25, 0.62, 0.001, 0.002)),
            ("the paper's own", (0.87, 0.96, 0.16, 0.51)),
        ),
    ),
    PublishedTable(
        "Genova et al. 2018, Table 2: earth mover's distance to the similarities of pairs of LFW (VGG-Face)",
        ("LFW same", "different", "MICC same", "different", "MoFA-Test same", "different"),
        (
            ("MoFA", (None, None, None, None, 0.30, 0.11)),
            ("Tran et al. 2017", (0.32, 0.09, 0.32, 0.09, 0.27, 0.14)),
            ("the paper's own", (0.14, 0.26, 0.09, 0.32, 0.09, 0.32)),
            ("scans", (None, None, 0.03, 0.41, None, None)),
        ),
    ),
)
