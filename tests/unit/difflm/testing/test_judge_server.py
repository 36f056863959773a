"""The judge's double: clients that go away are no failure, what fails in a test's own script is."""

import socketserver
from typing import Never

import pytest

from difflm.testing.judge_server import Server


def fail(error: Exception) -> Never:
    raise error


@pytest.mark.parametrize(("error", "told"), [(BrokenPipeError(), False), (KeyError("script"), True)])
def test_only_a_client_that_went_away_is_passed_over(
    error: Exception, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with Server(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        try:
            fail(error)
        except Exception:
            server.handle_error(None, ("127.0.0.1", 1))
    assert ("Exception occurred" in capsys.readouterr().err) is told
