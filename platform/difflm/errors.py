"""The tree of errors that the platform raises on purpose.

Every message is one line that names the file, key, row or column, the offending value and the remedy::

    DiffLMError
    +-- UserError               the user can mend it; exit code 2
    |   +-- ConfigError         a configuration key or value
    |   +-- DataError           a table, a record file or a row
    |   |   +-- SchemaError     a schema, or a record that does not fit its schema
    |   +-- ArtifactError       an artifact or its manifest
    |   |   +-- BundleError     a bundle, or its format version
    |   +-- ModelError          a pretrained model or a tokenizer
    |   +-- StorageError        a disk: full, missing or without permission
    +-- RunError                something failed while running; exit code 1
        +-- TrainingError
        +-- SynthesisError
        +-- EvaluationError
        +-- ClusterError
        +-- OverloadError
"""

import re
from typing import ClassVar

# Bounded, so that a long message takes time in proportion; greedy, for a password may hold an @.
_IN_URLS = re.compile(r"(\b[a-z][a-z0-9+.-]{0,40}:/{1,2}[^\s:/@]{0,200}):\S{0,2000}@", re.IGNORECASE)
_IN_QUERIES = re.compile(r"([?&;](?:password|passwd|pwd|sslpassword)=)[^\s&;]+", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """Return a message without the passwords of URLs, which stand in it where a path or a known URL was meant."""
    return _IN_QUERIES.sub(r"\1***", _IN_URLS.sub(r"\1:***@", text))


class DiffLMError(Exception):
    """Root of every error raised on purpose; `exit_code` is what a command line returns for it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(without_passwords(message))


class UserError(DiffLMError):
    """The user can mend it: the message says where and how."""

    exit_code: ClassVar[int] = 2


class ConfigError(UserError):
    """A configuration file, key or value that cannot be used."""


class DataError(UserError):
    """A table, a record file or a row that cannot be used."""


class SchemaError(DataError):
    """A schema that cannot be used, or a record that does not fit its schema."""


class ArtifactError(UserError):
    """An artifact that is missing, incomplete or changed since it was written."""


class BundleError(ArtifactError):
    """A bundle that is incomplete or of another format version."""


class ModelError(UserError):
    """A pretrained model or a tokenizer that is missing or does not fit."""


class StorageError(UserError):
    """A disk that is full, missing or without permission."""


class RunError(DiffLMError):
    """Something failed while running; the input was acceptable."""


class TrainingError(RunError):
    """Training cannot go on, for instance because the loss is not finite."""


class SynthesisError(RunError):
    """Synthesis cannot go on, for instance because no draw is valid."""


class EvaluationError(RunError):
    """An evaluation could not be computed."""


class ClusterError(RunError):
    """The cluster is out of reach, or a worker failed too often."""


class OverloadError(RunError):
    """A server has as much to do as it may take on; the same request succeeds later."""


MISFITS: tuple[type[Exception], ...] = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What code raises that is given values of a form that nobody foresaw, such as those of somebody else's files."""


def reason_of(error: BaseException) -> str:
    """Say in one line what a library raised, for the message of an error of this tree."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def is_fault(error: BaseException) -> bool:
    """Tell whether what a library raised is about what it was given: any exception, or a panic of one written in Rust,
    which is none by its class.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"
