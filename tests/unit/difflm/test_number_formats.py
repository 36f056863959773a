"""Number formats: what OpenDocument has in the place of a code says the same code again."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from difflm.number_formats import code_of, currency_of, data_styles, value_type

SPACES = 'xmlns:number="n" xmlns:style="s"'


def back(code: str) -> str | None:
    """Return the code of the styles that a code becomes."""
    made = data_styles("N1", code)
    if made is None:
        return None
    found = {style.get("{s}name", ""): style for style in ElementTree.fromstring(f"<a {SPACES}>{made}</a>")}
    return code_of(found["N1"], found.get)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("0", "float"), ("0.00", "float"), ("00000", "float"), ("#,##0", "float"), ("#,##0.00", "float"),
        ("0.0##", "float"), ('0.00" kg"', "float"), ("0%", "percentage"), ("0.00 %", "percentage"),
        ("#,##0.00 [$€]", "currency"), ("[$EUR] #,##0.00", "currency"), ("[$$]#,##0", "currency"),
        ("#,##0.00 [$€];-#,##0.00 [$€]", "currency"), ("0.00E+00", "float"), ("#,##0,", "float"),
        ("dd.mm.yyyy", "date"), ("d/m/yy", "date"), ("dddd, d mmmm yyyy", "date"), ("yyyy-mm-dd hh:mm:ss", "date"),
        ("mmm yy", "date"), ("mm/dd/yyyy h:mm AM/PM", "date"), ("hh:mm", "date"), ("mm:ss.00", "date"),
        ("[hh]:mm:ss", "date"), ('dd.mm.yyyy hh:mm" Uhr"', "date"), ("@", "float"),
    ],
)  # fmt: skip
def test_a_code_comes_back(code: str, kind: str) -> None:
    assert back(code) == code
    assert value_type(code) == kind


@pytest.mark.parametrize(
    ("code", "read"),
    [
        ('#,##0.00 "€"', "#,##0.00 [$€]"), ("#,##0.00\\ [$€-407]", "#,##0.00 [$€]"), ("$#,##0", "[$$]#,##0"),
        ("_-* #,##0.00_-;-* #,##0.00_-", " #,##0.00 ;-#,##0.00 "), ("0.00;[Red]-0.00", "0.00;-0.00"),
        ("DD.MM.YYYY", "dd.mm.yyyy"), ("d\\-mmm\\-yy", "d-mmm-yy"), ("General", "General"),
    ],
)  # fmt: skip
def test_one_look_has_several_codes(code: str, read: str) -> None:
    assert back(code) == read


@pytest.mark.parametrize("code", ["# ?/?", "", '"yes"', "0.0 0.0", "x" * 256, "@ @", "0 hh"])
def test_what_has_no_counterpart_is_none(code: str) -> None:
    assert data_styles("N1", code) is None


def test_currencies_are_named() -> None:
    codes = ('0.00 "€"', "[$£-809]0", "$0", "[$CHF] 0", "0.00", '0 "€/m"', "R$ 0")
    assert [currency_of(code) for code in codes] == ["EUR", "GBP", "USD", "CHF", None, None, "USD"]


def test_styles_of_others_are_read() -> None:
    """As LibreOffice writes them: what is above zero in a style of its own, numbers without decimals named none."""
    text = (
        f"<a {SPACES}>"
        '<number:currency-style style:name="N104P0"><number:number number:decimal-places="2"'
        ' number:min-decimal-places="2" number:min-integer-digits="1" number:grouping="true"/>'
        '<number:text> </number:text><number:currency-symbol number:language="de" number:country="DE">€'
        "</number:currency-symbol></number:currency-style>"
        '<number:currency-style style:name="N104"><style:text-properties color="#ff0000"/><number:text>-</number:text>'
        '<number:number number:decimal-places="2" number:min-integer-digits="1" number:grouping="true"/>'
        "<number:text> </number:text><number:currency-symbol>€</number:currency-symbol>"
        '<style:map style:condition="value()&gt;=0" style:apply-style-name="N104P0"/></number:currency-style>'
        '<number:number-style style:name="N0"><number:number number:min-integer-digits="1"/></number:number-style>'
        '<number:boolean-style style:name="N99"><number:boolean/></number:boolean-style></a>'
    )
    found = {style.get("{s}name", ""): style for style in ElementTree.fromstring(text)}
    codes = {name: code_of(style, found.get) for name, style in found.items()}
    assert codes == {
        "N104P0": "#,##0.00 [$€]", "N104": "#,##0.00 [$€];-#,##0.00 [$€]", "N0": "General", "N99": None,
    }  # fmt: skip
