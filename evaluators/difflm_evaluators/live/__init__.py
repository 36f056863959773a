"""Scores of a dataset while it grows, and the gates that they have to pass."""
