"""Scores of a synthetic table: shape, trend, detection, usefulness and the others."""
