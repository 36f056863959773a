"""Encodings: the bytes of a text file as UTF-8, with what they were written in.

A byte order mark decides. Without one it is UTF-8 where every byte is that; a few odd bytes among real UTF-8 are
damage, and an error. Else it is what makes words of one language, cp1252 where what comes out is Western text, or what
charset-normalizer is sure of. A guess is reported with the setting that overrules it.
"""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from difflm.errors import ConfigError, DataError
from difflm.records.files.remedies import setting
from difflm.records.languages import likely_encoding
from difflm.records.notices import Notice, Reporter

UTF8 = "utf-8"
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_OTHERS = [
    "cp1251", "koi8_r", "iso8859_5", "cp1253", "cp1255", "cp1256", "shift_jis", "euc_jp", "cp932", "gb18030", "big5",
    "euc_kr", "cp949",
]  # fmt: skip
"""Encodings of other letters than ours, which are told apart with some certainty; those of accents are not."""
_SAMPLE = 2**16
_END_OF_FILE = b"\x1a"  # of DOS, and of what still writes as it did
_PIECE = 2**20
_SURE = 16  # bytes above ASCII, below which nothing but Western text is guessed
_SEQUENCE = re.compile(rb"[\xc3-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_ODD = re.compile(r"[^\x00-\x7f]+")
_BEFORE = frozenset("€£¥§±©«“‘„‚‹¿¡–—•µ×÷\u00a0")
_AFTER = frozenset("€£¥¢°®™»”’›…·²³¹½¼¾ªº\u00a0") | _BEFORE
"""Signs that stand before a word or number of Western text, or after it."""
_LONGEST_RUN = 3  # of signs and letters in a row, in Western text
_WORDS = frozenset("àáâèéêìíòóôùúåæøöüäÀÁÂÈÉÊÌÍÒÓÔÙÚÅÆØÖÜÄ")
"""Letters that are words of their own, or a cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A text as UTF-8 without a byte order mark, and how its file has it."""

    text: bytes
    encoding: str
    mark: bool


def decoded(data: bytes, path: Path, encoding: str | None, report: Reporter) -> Decoded:
    """Recode the bytes of a text file.

    Raises:
        DataError: bytes that are not of the encoding, or of none that is recognised; names file and line.
        ConfigError: `encoding` is no encoding.
    """
    if encoding is not None:
        _check_known(encoding)
    mark, marked = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", None))
    if marked is not None and (encoding is None or _family(encoding) == _family(marked)):
        found = Decoded(text=_text(data[len(mark) :], path, marked), encoding=marked, mark=True)
    elif encoding is not None:
        found = Decoded(text=_text(data, path, encoding), encoding=codecs.lookup(encoding).name, mark=False)
    else:
        found = _recognised(data, path, report)
    if found.text.endswith(_END_OF_FILE):
        found = replace(found, text=found.text[: -len(_END_OF_FILE)])
    if b"\x00" in found.text:
        line = found.text.count(b"\n", 0, found.text.index(b"\x00")) + 1
        raise DataError(f"{path}, line {line}: a zero byte; give a text file, or {setting('encoding', 'utf-16')}")
    return found


def _recognised(data: bytes, path: Path, report: Reporter) -> Decoded:
    wide = _wide(data)
    if wide is not None:
        _tell(wide, report, why="every other byte is zero")
        return Decoded(text=_text(data, path, wide), encoding=wide, mark=False)
    try:
        if not _is_utf8(data):
            data.decode()  # says where it is not
        return Decoded(text=data, encoding=UTF8, mark=False)
    except UnicodeDecodeError as error:
        fault = error
    guess = None if _is_damaged(data) else _guess(data)
    if guess is None:
        line = data.count(b"\n", 0, fault.start) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{data[fault.start]:02x} is not utf-8; mend it, or "
            f"{setting('encoding', 'cp1252')} or what it was written in"
        ) from fault
    line = data.count(b"\n", 0, fault.start) + 1
    _tell(guess, report, why=f"line {line} is not utf-8")
    return Decoded(text=_text(data, path, guess), encoding=guess, mark=False)


def _tell(encoding: str, report: Reporter, *, why: str) -> None:
    other = "latin-1" if encoding == "cp1252" else "cp1252"
    message = f"read as {encoding}, for {why}; if that is wrong, {setting('encoding', other)} or another one"
    report(Notice(column=None, code="encoding", count=1, message=message))


def _is_utf8(data: bytes) -> bool:
    """Tell whether bytes are UTF-8, piece by piece: as one text they could take four times their size."""
    decoder, view = codecs.getincrementaldecoder("utf-8")(), memoryview(data)
    try:
        for start in range(0, len(data), _PIECE):
            decoder.decode(view[start : start + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _wide(data: bytes) -> str | None:
    """Return UTF-16 where a text has a zero in nearly every other place, as ASCII letters give it."""
    sample = data[:_SAMPLE]
    even, odd = sample[0::2], sample[1::2]
    for encoding, zeros, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if len(sample) >= 4 and zeros.count(0) > 0.5 * len(zeros) and others.count(0) < 0.05 * len(others):
            return encoding
    return None


def _is_damaged(data: bytes) -> bool:
    """Tell whether most of what is not ASCII is good UTF-8: a text in one byte per letter hardly has any such pair."""
    good = sum(len(found) for found in _SEQUENCE.findall(data))
    high = len(data) - len(data.translate(None, bytes(range(128, 256))))
    return good > 0 and good >= 0.5 * high


def _guess(data: bytes) -> str | None:
    sample = _around_high(data)
    sure = len(sample.translate(None, bytes(range(128)))) >= _SURE
    likely = likely_encoding(sample) if sure else None
    for encoding in ("cp1252", likely) if likely in (None, "cp1252") else (likely, "cp1252"):
        with suppress(UnicodeDecodeError):
            western = encoding == "cp1252" and _is_western(sample.decode("cp1252"))
            if encoding is not None and (western or encoding == likely) and data.decode(encoding):
                return encoding
    if not sure:
        return None
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=_OTHERS).best()
    if best is None or best.percent_chaos > 10:
        return None
    try:
        data.decode(best.encoding)
    except UnicodeDecodeError:
        return None
    return codecs.lookup(best.encoding).name


def _around_high(data: bytes) -> bytes:
    """Return the lines that are not ASCII, as many as a guess needs."""
    lines = [line for line in data.splitlines(keepends=True) if not line.isascii()]
    return b"".join(lines)[:_SAMPLE]


def _is_western(text: str) -> bool:
    """Tell whether accented letters stand among plain ones and signs stand apart, as nearly everywhere in such text."""
    good = bad = 0
    for found in _ODD.finditer(text):
        run = found.group()
        before, after = text[max(0, found.start() - 1) : found.start()], text[found.end() : found.end() + 1]
        if all(letter.isalpha() and letter not in _AFTER for letter in run):
            alone = not before.isalnum() and not after.isalnum()
            fine = len(run) <= 2 and (before.isalpha() or after.isalpha() or (alone and run in _WORDS))
        else:
            inside = before.isalpha() and after.isalpha() and run not in ("’", "·")
            leads = run[-1] in _BEFORE or not after.isalnum() or run[-1].isalpha()
            digits = before.isdigit() and (after.isdigit() or run[0] in "¹²³")  # as a flipped bit makes of three digits
            fine = not inside and not digits and leads and len(run) <= _LONGEST_RUN
            fine = fine and all(letter in _AFTER or letter.isalpha() for letter in run)
        good, bad = good + fine, bad + (not fine)
    return good > 0 and bad <= 0.05 * good


def _text(data: bytes, path: Path, encoding: str) -> bytes:
    if _family(encoding) == UTF8:
        encoding = UTF8
    try:
        if encoding == UTF8:
            data.decode()
            return data
        return data.decode(encoding).removeprefix("\ufeff").encode()
    except UnicodeDecodeError as error:
        width = 4 if "32" in encoding else 2 if "16" in encoding else 1
        ends = "\n".encode(encoding) if width > 1 else b"\n"
        line = data.count(ends, 0, error.start) + 1
        cut = width > 1 and error.end >= len(data) - width
        if cut:
            raise DataError(f"{path}, line {line}: its last character is cut off; is the file complete?") from error
        remedy = f"mend it, or {setting('encoding', 'cp1252')} or what it was written in"
        raise DataError(f"{path}, line {line}: byte 0x{data[error.start]:02x} is not {encoding}; {remedy}") from error
    except UnicodeEncodeError as error:  # halves of surrogate pairs, which UTF-16 decoders may let through
        raise DataError(f"{path}: a text that is no Unicode ({error.reason}); mend it") from error
    except UnicodeError as error:  # of encodings that are none of letters, such as punycode
        raise DataError(f"{path}: is not {encoding} ({error}); {setting('encoding', UTF8)} or another one") from error


def _family(encoding: str) -> str:
    name = codecs.lookup(encoding).name
    if name in ("utf-8-sig", "utf-8"):
        return UTF8
    return name.removesuffix("-le").removesuffix("-be")


def _check_known(encoding: str) -> None:
    try:
        " ".encode(encoding)
        codecs.getincrementalencoder(encoding)("replace").encode(" é")  # as made rows are written
    except (LookupError, ValueError) as error:  # also base64 and its like, which are none of text
        raise ConfigError(f"encoding: {encoding!r} is not known; take utf-8, latin-1, cp1252 or utf-16") from error
