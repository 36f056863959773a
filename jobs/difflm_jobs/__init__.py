"""Jobs: the pipeline from a table to a scored synthetic table, its stages and its command line."""
