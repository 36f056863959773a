"""Encodings: byte order marks are obeyed, guesses are reported, damage is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from difflm.errors import ConfigError, DataError
from difflm.records.files.reading import ReadConfig, read_table
from difflm.records.notices import Notice

TEXT = "Stadt,Größe,Zahl\r\nZürich,€ low,90\r\nKöln,5 € – „ab“,29\r\nBesançon,€ high,49\r\n"
ROWS = {
    "Stadt": ["Zürich", "Köln", "Besançon"],
    "Größe": ["€ low", "5 € – „ab“", "€ high"],
    "Zahl": ["90", "29", "49"],
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_an_encoding_is_recognised(tmp_path: Path, encoding: str) -> None:
    notices: list[Notice] = []
    (tmp_path / "t.csv").write_bytes(TEXT.encode(encoding))
    assert read_table(tmp_path / "t.csv", report=notices.append).to_pydict() == ROWS
    guessed = [notice.message for notice in notices if notice.code == "encoding"]
    assert bool(guessed) == (encoding in ("cp1252", "utf-16-le", "utf-16-be"))
    if encoding == "cp1252":
        assert "read: {encoding: latin-1} (--set data.read.encoding=latin-1)" in guessed[0]


def test_a_mark_of_bytes_in_the_wide_order(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("\ufeff".encode("utf-16-be") + TEXT.encode("utf-16-be"))
    assert read_table(tmp_path / "t.csv").to_pydict() == ROWS


@pytest.mark.parametrize(
    ("encoding", "word"),
    [("cp1251", "Привет мир, как дела сегодня"), ("shift_jis", "日本語の文章です")],
)
def test_other_encodings_are_guessed_from_enough_text(tmp_path: Path, encoding: str, word: str) -> None:
    notices: list[Notice] = []
    text = "a;b\n" + "".join(f"{word} {row};{row}\n" for row in range(40))
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    table = read_table(tmp_path / "t.csv", report=notices.append)
    assert table.column("a")[0].as_py() == f"{word} 0"
    assert "encoding" in {notice.code for notice in notices}


LANGUAGES = {
    "cp1250": "Łódź Kraków Gdańsk Świdnica", "iso8859-2": "Łódź Kraków Gdańsk Świdnica", "cp1257": "Šiauliai Klaipėda",
    "cp1254": "İstanbul Muğla Kütahya Şırnak", "cp1251": "Москва Казань Тверь", "koi8-r": "Москва Казань Тверь",
    "cp866": "Москва Казань Тверь", "cp1253": "Αθήνα Θεσσαλονίκη Πάτρα", "cp1255": "ירושלים חיפה",
    "cp1256": "الرياض جدة",
    "cp850": "München Köln Düsseldorf", "mac-roman": "München Köln Düsseldorf", "cp949": "서울 부산 대구",
    "gb18030": "北京 上海 广州 深圳", "big5": "台北 高雄 臺中", "shift_jis": "東京都 大阪府 京都府",
}  # fmt: skip


@pytest.mark.parametrize("encoding", LANGUAGES)
def test_names_of_one_language_say_the_encoding(tmp_path: Path, encoding: str) -> None:
    notices, words = list[Notice](), LANGUAGES[encoding].split()
    text = "nr,place\n" + "".join(f"{row},{words[row % len(words)]}\n" for row in range(60))
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    assert set(read_table(tmp_path / "t.csv", report=notices.append).column("place").to_pylist()) == set(words)
    assert "encoding" in {notice.code for notice in notices}


def test_czech_is_not_western_and_letters_of_several_languages_are(tmp_path: Path) -> None:
    for encoding, words in (
        ("cp1250", ["Plzeň", "České Budějovice", "Příbram"]),
        ("cp1252", ["Señor", "Größe", "Gøteborg"]),
    ):
        (tmp_path / "t.csv").write_bytes(
            ("a;b\n" + "".join(f"{words[n % 3]};{n}\n" for n in range(60))).encode(encoding)
        )
        assert set(read_table(tmp_path / "t.csv").column("a").to_pylist()) == set(words)


def test_letters_of_no_language_are_refused_rather_than_guessed(tmp_path: Path) -> None:
    rows = b"".join(b"z%cz%c;%d\n" % (letter, letter, letter) for letter in range(128, 256))
    (tmp_path / "t.csv").write_bytes(b"a;b\n" + rows)
    with pytest.raises(DataError, match="is not utf-8"):
        read_table(tmp_path / "t.csv")
    assert read_table(tmp_path / "t.csv", ReadConfig(encoding="cp437")).column("a")[1].as_py() == "züzü"


def test_damaged_utf8_is_not_another_encoding(tmp_path: Path) -> None:
    text = bytearray(("name,n\n" + "".join(f"Müller,{row}\nJosé,{row}\n" for row in range(20))).encode())
    text[text.index("ü".encode())] ^= 0x20
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(DataError, match=r"t.csv, line 2: byte 0x.. is not utf-8; mend it, or set read: {encoding"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("cell", [b"3\xb9", b"\xb39", b"1\xb12", b"\xfe"])
def test_a_flipped_bit_in_a_number_is_damage(tmp_path: Path, cell: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(b"n,g\n12,a\n" + cell + b",b\n14,c\n")
    with pytest.raises(DataError, match=r"line 3: byte 0x.. is not utf-8"):
        read_table(tmp_path / "t.csv")


def test_a_given_encoding_is_kept_to(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("a,b\né,€\n".encode("cp1252"))
    assert read_table(tmp_path / "t.csv", ReadConfig(encoding="latin-1")).to_pydict() == {"a": ["é"], "b": ["\x80"]}
    with pytest.raises(DataError, match="line 2: byte 0xe9 is not ascii"):
        read_table(tmp_path / "t.csv", ReadConfig(encoding="ascii"))
    with pytest.raises(ConfigError, match="'base64' is not known"):
        read_table(tmp_path / "t.csv", ReadConfig(encoding="base64"))


def test_half_a_character_at_the_end_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("a,b\n1,2\n3,4\n".encode("utf-16")[:-1])
    with pytest.raises(DataError, match="line 3: its last character is cut off; is the file complete"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("text", ["a,b\r\n1,2\r\n\x1a", "a,b\n1,2\x1a"])
def test_the_mark_at_the_end_of_files_of_dos_is_no_row(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    assert read_table(tmp_path / "t.csv").to_pydict() == {"a": ["1"], "b": ["2"]}
