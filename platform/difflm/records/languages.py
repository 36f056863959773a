"""Languages: which encoding of one byte per letter makes words of one language out of a text's odd bytes.

Every such encoding makes letters of them, but hardly ever those of one alphabet, with capitals where words have them.
"""

from __future__ import annotations

import re
from typing import Final

_WESTERN: Final = (
    "äöüß", "àâæçéèêëîïôœùûüÿ", "áéíñóúüº", "áâãàçéêíóôõúüº", "àèéìíîòóùú", "åäöé", "æøåé", "éëïöüè", "áðéíóúýþæö",
    "àçèéíïòóúü",
)  # fmt: skip
_CENTRAL: Final = (
    "ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîșşțţ",
)  # fmt: skip
_CYRILLIC: Final = (
    "абвгдеёжзийклмнопрстуфхцчшщъыьэюя№",
    "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя№’",
    "абвгдђежзијклљмнњопрстћуфхцчџш",
)
_GREEK: Final = ("αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ",)
_ENCODINGS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("cp1252", _WESTERN),
    ("cp1250", _CENTRAL),
    ("iso8859-2", _CENTRAL),
    ("cp1254", ("çğıİöşüâîû",)),
    ("cp1257", ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž")),
    ("cp1255", ("אבגדהוזחטיךכלםמןנסעףפץצקרשת",)),
    ("cp1251", _CYRILLIC),
    ("koi8-r", _CYRILLIC[:1]),
    ("cp866", _CYRILLIC[:1]),
    ("iso8859-5", _CYRILLIC),
    ("cp1253", _GREEK),
    ("iso8859-7", _GREEK),
    ("cp1256", ("ابتثجحخدذرزسشصضطظعغفقكلمنهويىةءآأإؤئ،؛؟",)),
    ("cp850", _WESTERN),
    ("mac-roman", _WESTERN),
)
"""Encodings by how often text comes in them, and the letters beyond ASCII of the languages that are written so."""
_SIGNS: Final = frozenset("€£¥§©®™°±²³«»“”‘’‚„–—…•·×½¼¾µ\u00a0")
_WORDS = re.compile(r"[^\W\d_]+")
_INSIDE = re.compile(r"(?<=[^\W\d_])[€£¥§©®™°±²³«»“”‘‚„–—…•×½¼¾µ](?=[^\W\d_])")
"""Signs that no word has within."""
_MOST: Final = 0.98  # of the odd letters


def likely_encoding(sample: bytes) -> str | None:
    """Return the first encoding that makes words of one language of the bytes above ASCII; None where none does."""
    for encoding, alphabets in _ENCODINGS:
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        if any(_is_written_in(text, frozenset(alphabet + alphabet.upper())) for alphabet in alphabets):
            return encoding
    return None


def _is_written_in(text: str, alphabet: frozenset[str]) -> bool:
    """Tell whether nearly all that is not ASCII is letters of an alphabet in well formed words, or common signs."""
    odd = sum(not letter.isascii() for letter in text)
    fine = sum(letter in _SIGNS for letter in text) - len(_INSIDE.findall(text))
    if alphabet == frozenset("".join(alphabet).upper()):  # scripts without capitals
        return odd > 0 and fine + sum(map(alphabet.__contains__, text)) >= _MOST * odd
    own_script = not any(letter.isalpha() and letter < "\u0370" for letter in alphabet)
    for found in _WORDS.findall(text):
        if found.isascii() or not _is_cased(found) or (own_script and any(map(str.isascii, found))):
            continue
        fine += sum(letter in alphabet for letter in found)
    return odd > 0 and fine >= _MOST * odd


def _is_cased(word: str) -> bool:
    """Tell whether capitals stand where words have them: at the beginning, or everywhere."""
    return word == word.upper() or word[1:] == word[1:].lower()
