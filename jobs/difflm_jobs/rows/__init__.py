"""Rows from a finished bundle, as a dataset of parts or one file, resumed after a kill."""
