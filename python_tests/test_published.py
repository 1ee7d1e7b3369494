"""Published tables: every row has a value, or None, for each column."""

from __future__ import annotations

from facecore.evaluation import published
from facecore.evaluation.published import PublishedTable


def test_tables_are_complete():
    tables = [t for value in vars(published).values() if isinstance(value, tuple) for t in value]
    tables = [t for t in tables if isinstance(t, PublishedTable)]
    assert len(tables) >= 9
    for table in tables:
        for method, values in table.rows:
            assert len(values) == len(table.columns), (table.source, method)


def test_the_same_method_differs_between_papers():
    """What the warning is about: Genova et al. on MICC Cooperative."""
    values = {
        value[0]
        for table in published.POINT_TO_PLANE
        for name, value in table.rows
        if name == "Genova et al. 2018" or (table.source.startswith("Genova") and name == "the paper's own")
    }
    assert values == {1.372, 1.78, 1.50}
    for value in ("1.50", "1.78", "1.372"):
        assert value in published.WARNING


def test_absent_values_are_empty_cells():
    table = PublishedTable("x", ("a", "b"), (("m", (None, 2.0)),))
    assert table.cells() == [["m", "", 2.0]]
