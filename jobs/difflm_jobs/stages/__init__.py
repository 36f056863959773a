"""The stages of an experiment, from the table to the report."""
