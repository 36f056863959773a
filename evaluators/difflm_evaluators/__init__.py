"""Scores for synthetic tables: how close to the real table, how useful, how private, how valid.

Evaluators take tables and a schema and return numbers; they never see models. Start at `evaluation.evaluate_table`
and `report.write_report`.
"""
