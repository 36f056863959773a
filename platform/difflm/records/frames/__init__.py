"""Frames of pandas, polars and Arrow in and out."""
