"""Number formats: the codes of Excel, such as `#,##0.00 "€"` or `DD.MM.YYYY`, and what OpenDocument has in their place.

OpenDocument calls them data styles and spells each part as an element (ODF 1.3, part 3, 16.29). What one side cannot
say, such as fractions, has no counterpart: None, and the cells look as cells of their type do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

PERCENTAGE, CURRENCY, FLOAT, DATE, TIME = "percentage", "currency", "float", "date", "time"
_TOKEN: Final = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|_(?P<pad>.)|\*.|\[\$(?P<symbol>[^\]\-]*)(?:-[^\]]*)?\]'
    r"|\[(?P<elapsed>h+|m+|s+)\]|\[[^\]]*\]|(?P<half>AM/PM|A/P)|(?P<general>General|Standard)"
    r"|(?P<second>s+(?:[.,]0+)?)|(?P<moment>y+|m+|d+|h+)"
    r"|(?P<number>[#0?][#0?,]*(?:\.[#0?]*)?(?:E[+-]?(?P<exponent>0+))?,*)|(?P<percent>%)|(?P<text>@)|(?P<other>.)",
    re.IGNORECASE,
)
_SYMBOLS: Final = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₹": "INR", "zł": "PLN", "R$": "BRL", "₽": "RUB"}
_PARTS: Final = {"y": "year", "d": "day", "h": "hours"}
_LETTERS: Final = {"year": "yy", "month": "m", "day": "d", "hours": "h", "minutes": "m", "seconds": "s"}
_LONGEST = 255  # characters of a code, as Excel has it
Parts = Sequence[re.Match[str]]


def _parts(code: str) -> Parts:
    return list(_TOKEN.finditer(code)) if len(code) <= _LONGEST else []


def sections(code: str) -> list[str]:
    """Divide a code at its semicolons: what is above zero, below zero, zero, text."""
    found = [""]
    for part in _parts(code):
        if part["other"] == ";":
            found.append("")
        else:
            found[-1] += part[0]
    return found


def value_type(code: str) -> str:
    """Say what OpenDocument calls the type of the numbers that have a code."""
    parts = _parts(code)
    if any(part["moment"] or part["second"] for part in parts):
        return DATE
    if any(part["elapsed"] for part in parts):
        return TIME
    if any(part["percent"] for part in parts):
        return PERCENTAGE
    return FLOAT if _symbol(parts) is None else CURRENCY


def currency_of(code: str) -> str | None:
    """Return the ISO code of the currency whose symbol stands in a code; None where it is not a known one."""
    symbol = _symbol(_parts(code))
    if symbol is None:
        return None
    return symbol if re.fullmatch(r"[A-Z]{3}", symbol) else _SYMBOLS.get(symbol)


def _symbol(parts: Parts) -> str | None:
    for part in parts:
        said = part["symbol"] or part["quoted"] or part["escaped"] or part["other"] or ""
        if part["symbol"] or said.strip() in _SYMBOLS:
            return said.strip()
    return None


def data_styles(name: str, code: str) -> str | None:
    """Write a code as data styles, of which the one of this name is for cells; None for one that has no counterpart."""
    above, *others = sections(code)
    whole = _style(name, above, "")
    if whole is None or not others or not others[0] or value_type(code) in (DATE, TIME):
        return whole
    first = _style(f"{name}P0", above, "")
    chosen = f'<style:map style:condition="value()&gt;=0" style:apply-style-name={quoteattr(name + "P0")}/>'
    below = _style(name, others[0], chosen)
    return whole if below is None or first is None else first + below


def _style(name: str, code: str, end: str) -> str | None:
    parts = _parts(code)
    kind = value_type(code)
    if any(part["text"] for part in parts):
        return _element("text", name, "<number:text-content/>") if code == "@" else None
    if not parts or (kind in (DATE, TIME)) == any(part["number"] or part["general"] for part in parts):
        return None
    if kind in (DATE, TIME):
        day = any((part["moment"] or "")[:1].lower() in ("y", "d") for part in parts) or _is_month(parts)
        inner = "".join(_moments(parts))
        return _element("date", name, inner) if day else _element("time", name, inner, _overflow(parts))
    numbers = [part for part in parts if part["number"] or part["general"]]
    if len(numbers) != 1 or any(part["half"] for part in parts):
        return None
    return _element("number" if kind == FLOAT else kind, name, "".join(map(_number_part, parts)) + end)


def _element(kind: str, name: str, inner: str, more: str = "") -> str:
    return f"<number:{kind}-style style:name={quoteattr(name)}{more}>{inner}</number:{kind}-style>"


def _overflow(parts: Parts) -> str:
    return ' number:truncate-on-overflow="false"' if any(part["elapsed"] for part in parts) else ""


def _literal(part: re.Match[str]) -> str:
    said = part["quoted"] or part["escaped"] or part["percent"] or part["other"] or (" " if part["pad"] else "")
    return f"<number:text>{escape(said)}</number:text>" if said else ""


def _number_part(part: re.Match[str]) -> str:
    if part["symbol"] or (part["number"] is None and _symbol([part]) is not None):
        said = part["symbol"] or part["quoted"] or part["escaped"] or part["other"]
        spaces = [f"<number:text>{found}</number:text>" if found else "" for found in _around(said)]
        return f"{spaces[0]}<number:currency-symbol>{escape(said.strip())}</number:currency-symbol>{spaces[1]}"
    if part["general"]:
        return '<number:number number:min-integer-digits="1"/>'
    if not part["number"]:
        return _literal(part)
    shown = part["number"].rstrip(",")
    thousands = len(part["number"]) - len(shown)
    whole, _, decimals = shown.partition("E")[0].partition("e")[0].partition(".")
    figures = {"decimal-places": len(decimals), "min-integer-digits": whole.count("0")}
    figures |= {"min-decimal-places": decimals.count("0")} if decimals else {}
    given = {key: str(value) for key, value in figures.items()}
    given |= {"grouping": "true"} if "," in whole else {}
    given |= {"display-factor": str(1000**thousands)} if 0 < thousands < 4 else {}
    given |= {"min-exponent-digits": str(len(part["exponent"]))} if part["exponent"] else {}
    attributes = "".join(f' number:{key}="{value}"' for key, value in given.items())
    return f"<number:{'scientific-' if part['exponent'] else ''}number{attributes}/>"


def _around(text: str) -> tuple[str, str]:
    bare = text.strip()
    before = text[: len(text) - len(text.lstrip())]
    return before, text[len(before) + len(bare) :]


def _is_minutes(parts: Parts, place: int) -> bool:
    """Tell whether an `m` counts minutes: it stands behind hours or before seconds."""
    shown = [part for part in parts if part["moment"] or part["second"] or part["elapsed"]]
    at = shown.index(parts[place])
    before, after = shown[at - 1] if at else None, shown[at + 1] if at + 1 < len(shown) else None
    hours = before is not None and (before["moment"] or before["elapsed"] or "").lower().startswith("h")
    return hours or (after is not None and after["second"] is not None)


def _is_month(parts: Parts) -> bool:
    return any(
        (part["moment"] or "").lower().startswith("m") and not _is_minutes(parts, place)
        for place, part in enumerate(parts)
    )


def _moments(parts: Parts) -> Iterator[str]:
    long = ' number:style="long"'
    for place, part in enumerate(parts):
        letters = (part["moment"] or part["elapsed"] or part["second"] or "").lower()
        if letters.startswith("s"):
            seconds, _, decimals = letters.replace(",", ".").partition(".")
            more = f' number:decimal-places="{len(decimals)}"' if decimals else ""
            yield f"<number:seconds{long if len(seconds) > 1 else ''}{more}/>"
        elif letters.startswith("m") and not part["elapsed"] and not _is_minutes(parts, place):
            text = ' number:textual="true"' if len(letters) > 2 else ""
            yield f"<number:month{long if len(letters) in (2, 4) else ''}{text}/>"
        elif letters.startswith("m"):
            yield f"<number:minutes{long if len(letters) > 1 else ''}/>"
        elif letters.startswith("d") and len(letters) > 2:
            yield f"<number:day-of-week{long if len(letters) > 3 else ''}/>"
        elif letters:
            least = 3 if letters.startswith("y") else 2
            yield f"<number:{_PARTS[letters[0]]}{long if len(letters) >= least else ''}/>"
        elif part["half"]:
            yield "<number:am-pm/>"
        else:
            yield _literal(part)


def code_of(style: Element, named: Callable[[str], Element | None]) -> str | None:
    """Return the code of a data style; `named` finds the one of a name, for numbers that are not below zero."""
    kind = _local(style.tag)
    if kind == "boolean-style":
        return None
    if kind == "text-style":
        return "@"
    own, above = _read(style)
    if above is not None and _attribute(above, "condition").replace(" ", "") == "value()>=0":
        other = named(_attribute(above, "apply-style-name"))
        if other is not None and other is not style:
            own = _read(other)[0] + ";" + own
    return own if 0 < len(own) <= _LONGEST else None


@lru_cache(maxsize=2**15)  # as many as the columns of a sheet may need: some may be long, and be those of every column
def _read(style: Element) -> tuple[str, Element | None]:
    """Return the code of a style by itself, cut off behind what is too long anyway, and what leads to another one."""
    own = "".join(_codes(style, _local(style.tag)))[: _LONGEST + 1]
    return own, next((part for part in style if _local(part.tag) == "map"), None)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _attributes(element: Element) -> Mapping[str, str]:
    return {_local(name): value for name, value in element.attrib.items()}


def _attribute(element: Element, name: str) -> str:
    return _attributes(element).get(name, "")


def _codes(style: Element, kind: str) -> Iterator[str]:
    elapsed = kind == "time-style" and _attribute(style, "truncate-on-overflow") == "false"
    plain = " -/.:," if kind in ("date-style", "time-style") else " -+()"
    plain += "%" if kind == "percentage-style" else ""
    for part in style:
        given, tag = _attributes(part), _local(part.tag)
        long = given.get("style") == "long"
        match tag:
            case "text":
                said = (part.text or "").replace('"', "")
                yield said if all(letter in plain for letter in said) else f'"{said}"'
            case "currency-symbol":
                yield f"[${(part.text or '').replace(']', '')}]"
            case "number" | "scientific-number":
                yield _number_code(given)
            case "month" if given.get("textual") == "true":
                yield "mmmm" if long else "mmm"
            case "day-of-week":
                yield "dddd" if long else "ddd"
            case "am-pm":
                yield "AM/PM"
            case "year" | "month" | "day" | "hours" | "minutes" | "seconds":
                letters = _LETTERS[tag] * (2 if long else 1)
                decimals = _figure(given, "decimal-places", 0)
                letters += "." + "0" * decimals if tag == "seconds" and decimals else ""
                yield f"[{letters}]" if elapsed and tag == "hours" else letters


def _figure(given: Mapping[str, str], name: str, usual: int) -> int:
    found = given.get(name, "")
    return min(int(found), 30) if re.fullmatch(r"[0-9]{1,4}", found) else usual


def _number_code(given: Mapping[str, str]) -> str:
    if "decimal-places" not in given and "min-exponent-digits" not in given and given.get("grouping") != "true":
        return "General"
    zeros, decimals = _figure(given, "min-integer-digits", 1), _figure(given, "decimal-places", 0)
    whole = "0" * zeros or "#"
    if given.get("grouping") == "true":
        digits = ("#" * 4 + whole)[-max(4, len(whole)) :] if zeros else "####"
        whole = ",".join(re.findall(r".{1,3}", digits[::-1]))[::-1]
    least = min(_figure(given, "min-decimal-places", decimals), decimals)
    shown = whole + ("." + "0" * least + "#" * (decimals - least) if decimals else "")
    exponent = _figure(given, "min-exponent-digits", 0)
    scaled = {"1000": ",", "1000000": ",,", "1000000000": ",,,"}.get(given.get("display-factor", ""), "")
    return shown + (f"E+{'0' * exponent}" if exponent else scaled)
