"""The program's own signal handlers, which Ray replaces for good."""

import signal
import threading

import pytest

from difflm.runtime.process import handler_kept


def test_a_handler_that_is_replaced_within_comes_back_also_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="within"), handler_kept(signal.SIGINT):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise ValueError("within")
    assert signal.getsignal(signal.SIGINT) is before


def test_errors_pass_through_in_other_threads() -> None:
    seen: list[str] = []

    def work() -> None:
        with pytest.raises(ValueError, match="within"), handler_kept(signal.SIGINT):
            raise ValueError("within")
        seen.append("passed through")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["passed through"]
