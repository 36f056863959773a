"""Doubles and helpers for tests, shipped with the package so that workers can import them."""
