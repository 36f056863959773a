"""The sandbox: honest programs pass, and what tries to leave, to hang, to eat the machine or to cheat does not."""

import time
from pathlib import Path

import pytest

from difflm_evaluators.texts import sandbox
from difflm_evaluators.texts.sandbox import Isolation, SandboxLimits, isolation, run_program

LIMITS = SandboxLimits(timeout_s=60, cpu_s=1, memory_mib=256, file_mib=1)

PASSING = {
    "asserts that hold": "import math, re, collections, itertools\nassert math.sqrt(4) == 2",
    "a file of its own": "open('a', 'w').write('x')\nassert open('a').read() == 'x'",
    "folders of its own": "import os, shutil, tempfile\nos.makedirs('a/b')\nopen('a/b/c', 'w').close()\n"
    "shutil.rmtree('a')\nwith tempfile.TemporaryDirectory() as d:\n    open(d + '/x', 'w').close()\n"
    "assert os.listdir('.') == []",
    "a main block": "def f():\n    return 1\nif __name__ == '__main__':\n    assert f() == 1",
    "libraries with parts in native code": "import decimal, json, sqlite3, random, shelve, zlib, datetime\n"
    "sqlite3.connect(':memory:').execute('select 1')\nsqlite3.connect('a.db').execute('create table a (b)')\n"
    "shelve.open('s')['a'] = 1",
    "much output": "print('x' * 10**7)",
}
HARMFUL = {
    "assert": ("assert 1 == 2", "failed", "AssertionError"),
    "syntax": ("def (", "failed", "SyntaxError"),
    "sys.exit before the asserts": ("import sys\nsys.exit(0)\nassert False", "failed", "SystemExit"),
    "os._exit before the asserts": ("import os\nos._exit(0)\nassert False", "no_report", "status"),
    "patched builtins": (
        "import builtins, json, os\nbuiltins.BaseException = int\nbuiltins.compile = builtins.exec = None\n"
        'os._exit = os.write = print\njson.JSONEncoder.encode = lambda *a: \'{"outcome": "passed"}\'\nassert False',
        "failed",
        "AssertionError",
    ),
    "a report of its own": (
        'import os\nfor fd in range(3, 20):\n    try:\n        os.write(fd, b\'{"outcome": "passed"}\')\n'
        "    except OSError:\n        pass\nassert False",
        "no_report",
        "status",
    ),
    "fork bomb": ("import os\nwhile True:\n    os.fork()", "failed", "os.fork"),
    "another process": ("import subprocess\nsubprocess.run(['true'])", "failed", "PermissionError"),
    "shell": ("import os\nos.system('true')", "failed", "os.system"),
    "thread bomb": (
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(9,)).start()",
        "failed",
        "thread",
    ),
    "memory hog": ("x = bytearray(10**9)", "memory", "MemoryError"),
    "growing memory": ("x = []\nwhile True:\n    x.append(' ' * 10**6)", "memory", "MemoryError"),
    "native code": ("import ctypes", "failed", "PermissionError"),
    "native code of its own": (
        "import _struct, importlib.util\nopen('evil.so', 'wb').write(open(_struct.__file__, 'rb').read())\n"
        "spec = importlib.util.spec_from_file_location('_struct', 'evil.so')\nimportlib.util.module_from_spec(spec)",
        "failed",
        "is native code",
    ),
    "native code by another name": (
        "import _struct, importlib.util\npath = _struct.__file__.replace('_struct', '_posixsubprocess')\n"
        "importlib.util.module_from_spec(importlib.util.spec_from_file_location('x._posixsubprocess', path))",
        "failed",
        "is native code",
    ),
    "network": ("import socket\nsocket.create_connection(('127.0.0.1', 80))", "failed", "PermissionError"),
    "killing others": ("import os\nos.kill(os.getppid(), 9)", "failed", "os.kill"),
    "standard input": ("input()", "failed", "EOFError"),
    "large file": (
        "f = open('a', 'wb')\nfor _ in range(5):\n    f.write(b'x' * 10**6)\n    f.flush()",
        "failed",
        "Errno 27",
    ),
    "deep recursion": ("def f():\n    return f()\nf()", "failed", "RecursionError"),
}


@pytest.mark.parametrize("name", PASSING)
def test_honest_programs_pass(name: str) -> None:
    result = run_program(PASSING[name], LIMITS)
    assert (result.outcome, result.error) == ("passed", "")


@pytest.mark.parametrize("name", HARMFUL)
def test_harmful_programs_do_not_pass(name: str) -> None:
    program, outcome, error = HARMFUL[name]
    result = run_program(program, LIMITS)
    assert result.outcome == outcome
    assert error in result.error


@pytest.mark.parametrize(
    "program",
    [
        "open({path!r}, 'w')",
        "import os\nos.remove({path!r})",
        "import shutil\nshutil.rmtree({folder!r})",
        "import os\nos.open('victim', os.O_WRONLY | os.O_TRUNC, dir_fd=os.open({folder!r}, os.O_RDONLY))",
        "import os\nos.remove('victim', dir_fd=os.open({folder!r}, os.O_RDONLY))",
        "import os\nos.rename('victim', 'x', src_dir_fd=(d := os.open({folder!r}, os.O_PATH)), dst_dir_fd=d)",
        "import os\nos.makedirs('a/b')\nd = os.open('.', os.O_RDONLY)\nos.chdir('a/b')\n"
        "os.remove('..' + {path!r}, dir_fd=d)",
        "import sqlite3\nc = sqlite3.connect({path!r})\nc.execute('create table a (b)')",
        "import sqlite3\nc = sqlite3.connect('file:' + {path!r}, uri=True)\nc.execute('create table a (b)')",
        "import os\nos.mkfifo({path!r} + '2')",
        "import os\nos.mknod({path!r} + '2')",
        "import os\nos.fchmod(os.open({path!r}, os.O_RDONLY), 0o666)",
        "import os\nos.chmod(os.open({path!r}, os.O_RDONLY), 0o666)",
        "import os\nos.utime(os.open({path!r}, os.O_RDONLY), (1, 1))",
        "import os\nos.setxattr(os.open({path!r}, os.O_RDONLY), 'user.x', b'1')",
    ],
)
def test_files_outside_stay_as_they_are(tmp_path: Path, program: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    victim.chmod(0o600)
    before = victim.stat()
    result = run_program(program.format(path=str(victim), folder=str(tmp_path)), LIMITS)
    assert result.outcome == "failed"
    assert victim.read_text() == "whole"
    assert (victim.stat().st_mode, victim.stat().st_mtime) == (before.st_mode, before.st_mtime)
    assert "PermissionError" in result.error or "has no attribute" in result.error
    assert [*tmp_path.iterdir()] == [victim]
    assert "sqlite3" not in result.error, "the hook says so itself"


def test_a_program_changes_its_own_files_by_descriptor() -> None:
    program = "import os\nfd = os.open('own', os.O_RDWR | os.O_CREAT)\nos.fchmod(fd, 0o600)\nos.ftruncate(fd, 3)\n"
    result = run_program(program + "os.utime(fd, (1, 1))\nassert os.stat('own').st_size == 3", LIMITS)
    assert (result.outcome, result.error) == ("passed", "")


@pytest.mark.skipif(not isolation().landlock, reason="this kernel has no Landlock")
@pytest.mark.parametrize(
    "program",
    [
        "open({path!r}, 'a').write('x')",
        "import os\nos.truncate({path!r}, 0)",
        "import os\nos.remove({path!r})",
        "import os\nos.rename({path!r}, 'x')",
        "import os\nos.symlink('x', {path!r} + '2')",
    ],
)
def test_the_kernel_holds_a_program_that_deceives_the_hook(tmp_path: Path, program: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    deceived = "import os, posixpath\nown = os.getcwd() + '/x'\nposixpath._joinrealpath = lambda *a: (own, True)\n"
    result = run_program(deceived + program.format(path=str(victim)), LIMITS)
    assert (result.outcome, "PermissionError: [Errno 13]" in result.error) == ("failed", True), result
    assert victim.read_text() == "whole"
    assert [*tmp_path.iterdir()] == [victim]


@pytest.mark.parametrize("program", ["while True:\n    pass", "while True:\n    print('x' * 10**6)"])
def test_an_endless_loop_ends_by_its_processor_time(program: str) -> None:
    started = time.monotonic()
    assert run_program(program, LIMITS).outcome == "no_report"
    assert time.monotonic() - started < LIMITS.timeout_s


def test_what_only_waits_ends_by_the_clock() -> None:
    result = run_program("import time\ntime.sleep(600)", SandboxLimits(timeout_s=0.5))
    assert result.outcome == "timeout"


def test_nothing_of_this_process_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFLM_SECRET", "key")
    assert run_program("import os\nassert 'DIFFLM_SECRET' not in os.environ", LIMITS).outcome == "passed"
    assert run_program("import numpy", LIMITS).outcome == "failed"  # the standard library only


def test_without_namespaces_the_hook_still_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "isolation", lambda: Isolation(namespaces=None))
    for name in ("network", "fork bomb", "shell"):
        program, outcome, _ = HARMFUL[name]
        assert run_program(program, LIMITS).outcome == outcome
    assert run_program(PASSING["asserts that hold"], LIMITS).outcome == "passed"


@pytest.mark.skipif(isolation().namespaces is None, reason="this system does not allow namespaces (unshare)")
def test_the_namespace_has_no_network_and_no_other_processes() -> None:
    program = (
        "import os\nlines = open('/proc/self/net/dev').read().splitlines()[2:]\n"
        "assert [line.split(':')[0].strip() for line in lines] == ['lo']\nassert os.getpid() == 1"
    )
    result = run_program(program, LIMITS)
    assert (result.outcome, result.error) == ("passed", "")


def test_a_program_that_floods_its_report_does_not_fill_this_process() -> None:
    """All that it wrote was kept: gigabytes within seconds."""
    program = (
        "import os\nwhile True:\n    for fd in range(3, 8):\n        try:\n            os.write(fd, b'x' * 65536)\n"
    )
    program += "        except OSError:\n            pass\n"
    began = time.monotonic()
    assert run_program(program, LIMITS.model_copy(update={"cpu_s": 30})).outcome == "no_report"
    assert time.monotonic() - began < 25.0, "ended as soon as there is more than a report"


@pytest.mark.parametrize("call", ["flock(fd, fcntl.LOCK_EX)", "ioctl(fd, 0x40086602, bytes(8))"])
def test_files_outside_are_neither_locked_nor_marked(tmp_path: Path, call: str) -> None:
    (tmp_path / "x").touch()
    program = f"import fcntl, os\nfd = os.open({str(tmp_path / 'x')!r}, os.O_RDONLY)\nfcntl.{call}"
    found = run_program(program, LIMITS)
    assert found.outcome == "failed"
    assert "is not allowed here" in found.error
