"""The inside of the sandbox: a script of its own, for the standard library alone, that runs one untrusted program.

`sandbox.run_program` starts it as `python -I -S -B sandbox_runner.py` and writes one JSON object to its standard input.
It limits itself, denies by an audit hook (PEP 578; a hook cannot be removed) what a solution of an exercise has no use
for, runs the program, and reports over a pipe of its own how it ended. A report counts only with the token that it was
given: a program that leaves early, by `os._exit` for instance, ends without one.
"""

import ctypes
import json
import os
import resource
import signal
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any

MEBIBYTE = 1024 * 1024
ERROR_CHARACTERS = 500
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_DENIED = (
    *("socket.", "ctypes.", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.system", "os.startfile"),
    *("subprocess.", "os.kill", "os.killpg", "pty.", "signal.pthread_kill", "sys.addaudithook", "syslog.", "fcntl."),
    *("urllib.", "http.", "ftplib.", "smtplib.", "poplib.", "imaplib.", "telnetlib.", "nntplib.", "webbrowser."),
)
_CHANGING = (
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod"),
    *("os.chown", "os.utime", "os.setxattr", "os.removexattr", "shutil."),
)
_NATIVE = frozenset(
    {
        *("ctypes", "_ctypes", "_ctypes_test", "_posixsubprocess", "_testcapi", "_testinternalcapi"),
        *("_xxsubinterpreters", "_interpreters"),
    }
)
_OPTIONAL = frozenset({"_dbm", "_gdbm", "readline", "_tkinter", "_posixshmem"})  # the library goes on without them
_UNHEARD = ("mkfifo", "mknod", "chroot")  # of os: no hook hears of them

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # system calls, see landlock(7)
_ASK_VERSION, _PATH_BENEATH, _NO_NEW_PRIVILEGES = 1, 1, 38
_EXECUTE, _WRITE_FILE, _TRUNCATE = 1 << 0, 1 << 1, 1 << 14
_BELOW = sum(1 << bit for bit in range(4, 13))  # remove and make files, folders, links, pipes, devices
_REFER = 1 << 13
_ANY_TCP, _SIGNALS_AND_SOCKETS = 0b11, 0b11


def limit_resources(limits: dict[str, Any]) -> None:
    """Set limits of the kernel: processor seconds, address space, size of files, number of processes, core dumps."""
    for kind, most in (
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_AS, limits["memory_mib"] * MEBIBYTE),
        (resource.RLIMIT_FSIZE, limits["file_mib"] * MEBIBYTE),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        ceiling = resource.getrlimit(kind)[1]
        most = most if ceiling == resource.RLIM_INFINITY else min(most, ceiling)
        resource.setrlimit(kind, (most, most))


def landlock_version() -> int:
    """Return which rules this kernel can hold a process to; 0 for none."""
    try:
        return max(0, int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)))
    except (OSError, AttributeError, TypeError):  # not Linux
        return 0


def confine(folder: str) -> bool:
    """Let the kernel allow this process and its children changes below a folder only, no other program, and, where it
    can, no TCP and no signal to others. False where it cannot do the first.
    """
    version = landlock_version()
    if version < 1:
        return False
    system, word = ctypes.CDLL(None, use_errno=True).syscall, ctypes.c_uint64
    files = _WRITE_FILE | _BELOW | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    handled = [
        files | _EXECUTE,
        *([_ANY_TCP] if version >= 4 else []),
        *([_SIGNALS_AND_SOCKETS] if version >= 6 else []),
    ]
    attributes = (word * len(handled))(*handled)
    rules = system(_CREATE_RULESET, attributes, ctypes.c_size_t(ctypes.sizeof(attributes)), 0)
    if rules < 0:
        return False
    for path, allowed in ((folder, files), (os.devnull, files & (_WRITE_FILE | _TRUNCATE))):
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = allowed.to_bytes(8, sys.byteorder) + opened.to_bytes(4, sys.byteorder)
        added = system(_ADD_RULE, rules, _PATH_BENEATH, rule, 0)
        os.close(opened)
        if added < 0:
            return False
    unprivileged = ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    held = system(_RESTRICT_SELF, rules, 0)
    os.close(rules)
    return bool(unprivileged == 0 and held == 0)


def hide() -> None:
    """Take away what the hook would not hear of, and the native code that this script itself needed."""
    for name in [name for name in sys.modules if name.partition(".")[0] in _NATIVE]:
        del sys.modules[name]
    for name in _UNHEARD:
        for module in (os, sys.modules[os.name]):
            vars(module).pop(name, None)


def guard(folder: str) -> Callable[[str, tuple[Any, ...]], None]:
    """Make the audit hook: no network, no other process, no native code, and changes of files below `folder` only."""
    inside, fspath, absolute = folder + os.sep, os.fspath, os.path.realpath
    look, is_folder, up, target = os.stat, stat.S_ISDIR, os.pardir, os.readlink
    libraries = tuple(sys.path)

    def is_outside(path: Any) -> bool:
        if isinstance(path, int):
            return False
        text = fspath(path)
        text = text.decode(errors="surrogateescape") if isinstance(text, bytes) else text
        return text != os.devnull and not absolute(text).startswith(inside)

    def leads_out(path: Any) -> bool:
        """Whether a path, relative to a folder that is open, may lead out of it: no event says which folder that is."""
        text = fspath(path)
        text = text.decode(errors="surrogateescape") if isinstance(text, bytes) else text
        return not text.startswith(os.sep) and up in text.split(os.sep)

    def is_open_folder(path: Any) -> bool:
        try:
            return is_folder(look(path).st_mode)
        except OSError:
            return False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(_DENIED):
            raise PermissionError(f"{event} is not allowed here")
        if event == "import":
            name, file = arguments[:2]  # a file of native code, which has another name where a program says so
            last = name.rpartition(".")[2]
            if last in _OPTIONAL:
                raise ImportError(f"{name!r} is not there")
            if last in _NATIVE or (file is not None and file.rpartition(os.sep)[0] not in libraries):
                raise PermissionError(f"{name!r} is native code")
        elif event == "sqlite3.connect":
            if arguments[0] not in (":memory:", "") and (
                is_outside(arguments[0]) or fspath(arguments[0])[:5] == "file:"
            ):
                raise PermissionError(f"{arguments[0]!r} is outside of the program's folder")
        elif event == "open":
            path, mode, flags = arguments
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & _WRITING)
            by_descriptor = mode is None and not isinstance(path, int)  # os.open, whose descriptor may be of a folder
            if by_descriptor and absolute(path) != folder and is_outside(path) and is_open_folder(path):
                raise PermissionError(f"{path!r} is a folder outside of the program's own")
            if writes and (is_outside(path) or (by_descriptor and leads_out(path))):
                raise PermissionError(f"{path!r} is outside of the program's folder")
        elif event.startswith(_CHANGING):
            if arguments and isinstance(arguments[0], int):  # a file that may have been opened anywhere, to be read
                arguments = (target(f"/proc/self/fd/{arguments[0]}"), *arguments[1:])
            for path in arguments:
                if isinstance(path, str | bytes) and (is_outside(path) or leads_out(path)):
                    raise PermissionError(f"{path!r} is outside of the program's folder")

    return hook


def silence() -> int:
    """Cut the program off from its standard streams; returns the descriptor that reports go to."""
    report = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    return report


def run(task: dict[str, Any], report: int) -> None:
    """Run the program in a thread whose stack holds none of this script's frames, and report how it ended."""
    write, encode, text, leave = os.write, json.JSONEncoder().encode, str, os._exit
    base, kind_of, memory = BaseException, type, MemoryError
    ended: dict[str, Any] = {"outcome": "failed", "error": "the program never began"}
    start = threading.Lock()
    start.acquire()

    def body() -> None:
        try:
            exec(compile(task["program"], "program.py", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
            ended.update(outcome="passed", error="")
        except memory:
            ended.update(outcome="memory", error="MemoryError")
        except base as error:  # SystemExit too: a program that leaves before its end has not passed
            ended.update(outcome="failed", error=f"{kind_of(error).__name__}: {text(error)[:ERROR_CHARACTERS]}")
        finally:
            start.release()

    threading.stack_size(64 * MEBIBYTE)
    threading.Thread(target=body, daemon=True).start()
    start.acquire()
    write(report, encode({"token": task["token"], **ended}).encode())
    leave(0)


def main() -> None:
    """Read the task, lock the door, run."""
    task = json.loads(sys.stdin.buffer.read())
    report = silence()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    os.umask(0o077)
    folder = os.path.realpath(task["folder"])
    os.chdir(folder)
    limit_resources(task["limits"])
    confine(folder)
    hide()
    sys.addaudithook(guard(folder))
    run(task, report)


if __name__ == "__main__":
    main()
