"""Free text: columns of people's names and addresses are refused, and rare words with digits in them are made up anew.

A text is a value of one row, and what is fitted to it may repeat it. So text columns that name people are not learned
unless somebody asks for them; and in the others, what looks like a number of something (an account, a telephone, an
address of e-mail, a password) and stands in few rows becomes another one of the same form.
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
_NUMBERED = re.compile(r"[\w@.+/#-]*[\d@][\w@.+/#-]*")
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


def make_up_rare_words(cells: Cells, least: int, made_up: dict[str, str], random: np.random.Generator) -> bool:
    """Replace words with digits or an @ that fewer than `least` rows have; return whether there were any.

    `made_up` holds the words that were made up for other columns: equal texts stay equal.
    """
    rows: Counter[str] = Counter()
    counts = cells.counts_V.tolist()
    for text, count in zip(cells.texts, counts, strict=True):
        for word in set(_NUMBERED.findall(text)):
            rows[word] += count
    rare = {word for word, count in rows.items() if count < least}
    made_up |= {word: _another(word, random) for word in sorted(rare - made_up.keys())}
    if not rare:
        return False
    made = {
        place: _NUMBERED.sub(lambda found: made_up[found[0]] if found[0] in rare else found[0], text)
        for place, text in enumerate(cells.texts)
    }
    cells.respell({place: text for place, text in made.items() if text != cells.texts[place]})
    return True


def _another(word: str, random: np.random.Generator) -> str:
    """Make up a word of the same form: digits for digits, small letters for small ones."""
    return "".join(
        next((kind[int(random.integers(len(kind)))] for kind in _KINDS if letter in kind), letter) for letter in word
    )
