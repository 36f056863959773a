"""Generators that are handed on: as one file, or in a repository of a hub."""
