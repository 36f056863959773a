"""The pipeline: stages in order, reused or run, recorded, with their progress."""
