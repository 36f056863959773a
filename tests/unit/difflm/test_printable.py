"""Remedies that are copied into a shell; what terminals are shown stands in tests/security/test_terminal.py."""

import shlex

from difflm.config import apply_overrides
from difflm.printable import setting


def test_a_setting_for_a_column_is_one_word_of_a_shell() -> None:
    """What a column is called is up to whoever made the table, and a remedy is copied."""
    assert setting("data.read.drop", "age") == "--set 'data.read.drop=[age]'"
    assert setting("protect.columns", "age", "off") == "--set protect.columns.age=off"
    name = "x]';touch PWNED;'["
    words = shlex.split(setting("privacy.leave_out", name))
    assert words[0] == "--set"
    assert apply_overrides({}, words[1:]) == {"privacy": {"leave_out": [name]}}
    assert len(shlex.split(setting("schema.kinds", name, "text"))) == 2
