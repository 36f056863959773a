"""Verbs that let somebody else say how good records are: a language model, or people."""

from difflm_jobs.cli.judging import people as people
from difflm_jobs.cli.judging.judge import judge_app

__all__ = ["judge_app"]
