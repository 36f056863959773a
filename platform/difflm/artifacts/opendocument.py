"""OpenDocument: a sheet of an .ods file, written row by row.

The libraries for such files hold every cell as an object of its own: two million take gigabytes. Here a row is text
(ODF 1.3, part 3, chapters 9 and 19) that goes into the archive at once; the same rows are the same bytes.
"""

from __future__ import annotations

import datetime as dt
import re
import zipfile
from collections.abc import Sequence
from decimal import Decimal
from typing import IO, Any, Final
from xml.sax.saxutils import escape, quoteattr

from difflm.errors import DataError
from difflm.number_formats import CURRENCY, DATE, FLOAT, TIME, currency_of, data_styles, value_type

_MIME: Final = "application/vnd.oasis.opendocument.spreadsheet"
_NAMES: Final = "urn:oasis:names:tc:opendocument:xmlns"
_VERSION: Final = 'office:version="1.3"'
_MANIFEST: Final = (
    f'<manifest:manifest xmlns:manifest="{_NAMES}:manifest:1.0" manifest:version="1.3">'
    f'<manifest:file-entry manifest:full-path="/" manifest:version="1.3" manifest:media-type="{_MIME}"/>'
    '<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/>'
    "</manifest:manifest>"
)
_USUAL: Final = {
    "day": "YYYY-MM-DD", "moment": "YYYY-MM-DD HH:MM:SS", "time": "HH:MM:SS", "span": "[HH]:MM:SS",
}  # fmt: skip
"""How cells look that have no format of their own."""
_NO_XML: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPACES: Final = re.compile(r"^ +|(?<= ) +| +$")
_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'


class DocumentPage:
    """A sheet of an .ods file. `formats` are the codes that cells of each column may be given."""

    def __init__(self, sink: IO[bytes], title: str, formats: Sequence[str | None]) -> None:
        codes = dict.fromkeys([*_USUAL.values(), *(code for code in formats if code is not None)])
        written = {code: data_styles(f"N{number}", code) for number, code in enumerate(codes)}
        self._styles = {code: f"ce{number}" for number, code in enumerate(codes) if written[code] is not None}
        self._archive = zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED)
        self._whole("mimetype", _MIME, packed=False)
        self._whole("META-INF/manifest.xml", _DECLARATION + _MANIFEST)
        self._content = self._archive.open(_entry("content.xml"), "w", force_zip64=True)
        spaces = "".join(
            f' xmlns:{short}="{_NAMES}:{name}:1.0"'
            for short, name in (("office", "office"), ("style", "style"), ("table", "table"), ("text", "text"),
                                ("number", "datastyle"))
        )  # fmt: skip
        self._write(f"{_DECLARATION}<office:document-content{spaces} {_VERSION}><office:automatic-styles>")
        for number, style in enumerate(written.values()):
            if style is not None:
                family = f'style:name="ce{number}" style:family="table-cell" style:data-style-name="N{number}"'
                self._write(f"{style}<style:style {family}/>")
        self._write("</office:automatic-styles><office:body><office:spreadsheet>")
        self._write(f"<table:table table:name={quoteattr(_NO_XML.sub(' ', title))}><table:table-column")
        self._write(f' table:number-columns-repeated="{max(1, len(formats))}"/>')

    def append(self, values: Sequence[Any], formats: Sequence[str | None]) -> None:
        cells = "".join(map(self._cell, values, formats)) or "<table:table-cell/>"
        self._write(f"<table:table-row>{cells}</table:table-row>\n")

    def save(self) -> None:
        self._write("</table:table></office:spreadsheet></office:body></office:document-content>")
        self._content.close()
        self._archive.close()

    def drop(self) -> None:
        self._content.close()
        self._archive.close()

    def _write(self, text: str) -> None:
        self._content.write(text.encode())

    def _whole(self, name: str, text: str, *, packed: bool = True) -> None:
        self._archive.writestr(_entry(name), text, None if packed else zipfile.ZIP_STORED)

    def _cell(self, value: Any, code: str | None) -> str:
        if value is None:
            return "<table:table-cell/>"
        kind, given, usual = _typed(value, code)
        style = self._styles.get(usual if code is None or code not in self._styles else code)
        looks = "" if style is None else f' table:style-name="{style}"'
        texts = "".join(f"<text:p>{_spelled(line)}</text:p>" for line in _shown(value).split("\n"))
        return f'<table:table-cell{looks} office:value-type="{kind}"{given}>{texts}</table:table-cell>'


def _entry(name: str) -> zipfile.ZipInfo:
    """Describe a file of the archive; none has the time of today."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _typed(value: Any, code: str | None) -> tuple[str, str, str]:
    """Return the type of a cell, the attribute that says its value, and the code of its usual look."""
    match value:
        case str():
            return "string", "", ""
        case bool():
            return "boolean", f' office:boolean-value="{str(value).lower()}"', ""
        case int() | float() | Decimal():
            kind = FLOAT if code is None else value_type(code)
            kind = FLOAT if kind in (DATE, TIME) else kind
            currency = currency_of(code) if kind == CURRENCY and code is not None else None
            more = "" if currency is None else f" office:currency={quoteattr(currency)}"
            return kind, f'{more} office:value="{value}"', ""
        case dt.datetime():
            return DATE, f' office:date-value="{value.isoformat()}"', _USUAL["moment"]
        case dt.date():
            return DATE, f' office:date-value="{value.isoformat()}"', _USUAL["day"]
        case dt.time():
            return TIME, f' office:time-value="{_span(_since_midnight(value))}"', _USUAL["time"]
        case dt.timedelta():
            return TIME, f' office:time-value="{_span(value)}"', _USUAL["span"]
        case _:
            raise TypeError(f"{type(value).__name__}: no cell holds it")


def _since_midnight(value: dt.time) -> dt.timedelta:
    return dt.timedelta(hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond)


def _span(value: dt.timedelta) -> str:
    """Write a span as ISO 8601 has it, in hours, minutes and seconds."""
    sign, micro = ("-" if value < dt.timedelta() else ""), abs(value) // dt.timedelta(microseconds=1)
    seconds, micro = divmod(micro, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{sign}PT{hours:02d}H{minutes:02d}M{seconds:02d}{f'.{micro:06d}' if micro else ''}S"


def _shown(value: Any) -> str:
    """Return the text of a cell, for what shows no values."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"  # which pandas looks at, not at the value
    if isinstance(value, dt.timedelta):
        return re.sub(r"PT(\d+)H(\d+)M([\d.]+)S", r"\1:\2:\3", _span(value))
    return str(value)


def _spelled(line: str) -> str:
    """Write a line of text as XML, in which spaces in a row and tabs are elements.

    Raises:
        DataError: a character that XML cannot hold; names it.
    """
    if (found := _NO_XML.search(line)) is not None:
        raise DataError(
            f"{line[:40]!r}: an .ods file cannot hold the character U+{ord(found[0]):04X}; write .xlsx, .csv or "
            ".parquet"
        )
    made = escape(line, {"\r": "&#13;"})
    made = _SPACES.sub(lambda found: f'<text:s text:c="{len(found[0])}"/>', made)
    return made.replace("\t", "<text:tab/>")
