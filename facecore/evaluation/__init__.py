"""Errors on held-out data, and pages that show results."""
