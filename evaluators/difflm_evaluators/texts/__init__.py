"""Scores of tools and code, and programs run in a sandbox."""
