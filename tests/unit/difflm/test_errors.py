"""Errors: no message shows a password, whatever raised it and wherever it is shown."""

from __future__ import annotations

import pickle
import time

import pytest

from difflm.errors import ConfigError, without_passwords


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("https://ann:s3cret@host/x.csv: no such file", "https://ann:***@host/x.csv: no such file"),
        ("s3:/key:s3/cr@et@bucket/x", "s3:/key:***@bucket/x"),
        ("redis://:s3cret@host", "redis://:***@host"),
        ("jdbc:x://h/d?user=a&password=s3cret&b=1: none", "jdbc:x://h/d?user=a&password=***&b=1: none"),
        ("http://host:8000/a: ask ann@host", "http://host:8000/a: ask ann@host"),
        ("condition 'password == 3': none", "condition 'password == 3': none"),
    ],
)
def test_messages_have_no_passwords(message: str, shown: str) -> None:
    error = ConfigError(message)
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == shown


def test_long_messages_take_time_in_proportion() -> None:
    began = time.process_time()
    for piece in ("a.", "a:/x:", "?pwd=", "a" * 40 + ":/"):
        without_passwords(piece * (100_000 // len(piece)))
    assert time.process_time() - began < 5.0
