"""Rows of a benchmark as tests make them."""

from __future__ import annotations


def row(**changes):
    """A row of 1 ms, 0.95 to 1.05."""
    whole = {"op": "sine", "case": "a", "mode": "forward", "device": "cpu", "threads": 1, "provider": "facecore"}
    whole |= {"hardware": "a machine", "median_ms": 1.0, "p20_ms": 0.95, "p80_ms": 1.05, "rounds": 50, "noisy": False}
    return (
        whole | {"sgemm_ms": 10.0, "copy_gb_s": 20.0, "error": 1e-7, "sizes": {"images": 1}, "peak_mib": 1.0} | changes
    )


def scaled(factor: float, **changes):
    return row(**{f"{name}_ms": factor * row()[f"{name}_ms"] for name in ("median", "p20", "p80")} | changes)
