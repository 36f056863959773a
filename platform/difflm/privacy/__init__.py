"""Differential privacy: the budget, private summaries of a table, and rows that are drawn from these alone."""
