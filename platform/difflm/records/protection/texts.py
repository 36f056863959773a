"""Free text: columns of people's names and addresses are refused, and rare names and numbers in texts are replaced.

A text is a value of one row, and what is fitted to it may repeat it. So text columns that name people are not learned
unless somebody asks for them; and in the others, what looks like a name or like a number of something (an account, a
telephone, an address of e-mail, a password) and stands in few rows becomes another one.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from difflm.records.protection.columns import Cells

_MOSTLY: Final = 0.8
_DISTINCT: Final = 0.9
_PROBES: Final = 2_000
_MAIL = re.compile(r"\S+@\S+\.\S+")
_PERSON = re.compile(
    r"(?:(?:Mr|Mrs|Ms|Dr|Prof)\.? )?"
    r"[^\W\d_]['\u2019\-\w]*\.?(?:,? [^\W\d_]['\u2019\-\w]*\.?){1,3}(?: (?:Jr|Sr|I{1,3})\.?)?"
)
_ONE_NAME = re.compile(r"[^\W\d_]['\u2019\- \w]*\.?(?:,? [^\W\d_]['\u2019\-\w]*\.?){0,3}")
_NAMES_PEOPLE = re.compile(
    r"(?i)(?:^|[_\s.-])(?:(?:first|last|full|sur|given|family|maiden|middle|patient|person|customer|client|employee|user)"
    r"[_\s.-]*name|forename|surname|name|vorname|nachname|nom|prenom|apellido)s?$"
)
_WORD = re.compile(r"[\w@](?:[\w@.+/#'\u2019-]*[\w@])?")
_IP = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?![\w.])")
_PART = re.compile(r"[\w@.+'\u2019-]+")
_KINDS: Final = (string.digits, string.ascii_uppercase, string.ascii_lowercase)


def names_people(name: str, distinct: Sequence[str], *, rows: int) -> str | None:
    """Say what of people a text column holds, "e-mail addresses" or "names of people"; None for neither.

    `rows` are those that have a text.
    """
    probes = distinct[:: max(1, len(distinct) // _PROBES)]
    if not probes:
        return None
    if sum(_MAIL.fullmatch(text) is not None for text in probes) >= _MOSTLY * len(probes):
        return "e-mail addresses"
    called_so = _NAMES_PEOPLE.search(name) is not None
    form = _ONE_NAME if called_so else _PERSON
    fits = sum(form.fullmatch(text) is not None and _is_capital(text) for text in probes)
    if fits < _MOSTLY * len(probes) or (not called_so and len(distinct) < _DISTINCT * rows):
        return None
    return "names of people"


def _is_capital(text: str) -> bool:
    return all(word[0].isupper() for word in re.split(r"[ ,]+", text) if len(word) > 3)


def make_up_rare_words(
    cells: Cells, least: int, made_up: dict[str, str], random: np.random.Generator, *, urls: bool = False
) -> bool:
    """Replace names and numbers that fewer than `least` rows have: words with a capital, a digit or an @ in them.

    A name becomes one that enough rows have, a number another one of its form. `made_up` holds what words of other
    columns became: equal texts stay equal. Of `urls` each part is a word. Returns whether there were any.
    """
    words = _PART if urls else _WORD
    rows: Counter[str] = Counter()
    for text, count in zip(cells.texts, cells.counts_V.tolist(), strict=True):
        for word in filter(_tells, set(words.findall(text))):
            rows[word] += count
    rare = {word for word, count in rows.items() if count < least}
    if not rare:
        return False
    names = sorted(word for word, count in rows.items() if count >= least and not _has_number(word))
    for word in sorted(rare - made_up.keys()):
        made_up[word] = _another(word, names, random)
    made = {
        place: words.sub(lambda found: made_up[found[0]] if found[0] in rare else found[0], text)
        for place, text in enumerate(cells.texts)
    }
    cells.respell({place: text for place, text in made.items() if text != cells.texts[place]})
    return True


def _tells(word: str) -> bool:
    return any(letter.isupper() or letter.isdigit() or letter == "@" for letter in word)


def _has_number(word: str) -> bool:
    return any(letter.isdigit() or letter == "@" for letter in word)


def _another(word: str, names: Sequence[str], random: np.random.Generator) -> str:
    """Draw one of the names, or make up a word of the same form: digits for digits, small letters for small ones."""
    if names and not _has_number(word):
        return names[int(random.integers(len(names)))]
    number = _IP.match(word)
    if number is not None:  # of which no part is above 255
        return ".".join(str(part) for part in random.integers(0, 256, 4)) + word[number.end() :]
    return "".join(
        next((kind[int(random.integers(len(kind)))] for kind in _KINDS if letter in kind), letter) for letter in word
    )
