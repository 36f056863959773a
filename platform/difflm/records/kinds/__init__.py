"""Kinds of columns: what a column holds, how it is recognised, and how its values are spelled."""
