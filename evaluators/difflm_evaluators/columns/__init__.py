"""Columns of a table as the scores read them, and statistics of columns that come in batches."""
