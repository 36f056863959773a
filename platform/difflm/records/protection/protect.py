"""Protecting a training split: the rows as models may see them, and their schema, without values that few rows have.

Everything that is learned, written or drawn is fitted to what comes out of here, so that it holds no such value by
construction. What each kind of column does with them:

- categories, true and false, words beside numbers, forms of codes: drawn as others of the column, or merged (`rare`)
- numbers and dates: the ends are cut to values that enough rows share (`extremes`)
- free text: rare names and numbers become others; columns of people's names are refused unless asked for (`texts`)
- identifiers: are not learned; the form of their names is that of enough rows
- a target that is a class: rows of a rare class are left out, since another class would be a wrong one

Rows that no longer keep a relation between columns are left out as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from difflm.errors import DataError
from difflm.printable import setting
from difflm.records.kinds.inference import infer_schema
from difflm.records.large.rows import Rows
from difflm.records.notices import Notice
from difflm.records.protection.columns import BoolArray, Cells
from difflm.records.protection.extremes import cut_extremes
from difflm.records.protection.rare import MAX_ALIKE, PARTNERS, rare_values, replace_rare
from difflm.records.protection.rounding import rounded_count, rounded_schema
from difflm.records.protection.settings import ProtectConfig, Protected, protection_line
from difflm.records.protection.texts import make_up_rare_words, names_people
from difflm.records.schema import (
    CategoricalField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    GivenKind,
    IdentifierField,
    IntegerField,
    JsonField,
    RecordSchema,
    SchemaConfig,
    TextField,
)

_KINDS: Final[Mapping[str, GivenKind]] = {
    "categorical": "categorical",
    "integer": "number",
    "decimal": "number",
    "datetime": "datetime",
    "code": "code",
    "identifier": "identifier",
    "text": "text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectedRows:
    """Training rows that may be learned: `whole` as they were read, `fitted` protected, row by row the same.

    `changed_N` marks the rows of which a cell that is no free text was replaced; `differs` says whether any was.
    """

    whole: pa.Table
    fitted: pa.Table
    changed_N: BoolArray
    differs: bool
    notices: tuple[Notice, ...]


def check_protection(table: pa.Table, schema: RecordSchema, config: ProtectConfig, *, asked: Iterable[str]) -> None:
    """Refuse what cannot be protected: unknown columns, too few rows, or people's names that nobody asked for.

    `table` are the training rows; `asked` are the columns whose kind somebody gave.

    Raises:
        DataError: names the column or the number of rows, and the remedy.
    """
    unknown = next((name for name in config.columns if name not in table.column_names), None)
    if unknown is not None:
        known = ", ".join(map(repr, table.column_names))
        raise DataError(f"protect.columns: the table has no column {unknown!r}; it has {known}")
    if not config.enabled:
        return
    if table.num_rows < config.least_rows:
        raise DataError(
            f"{table.num_rows} training rows are too few to hide a value among {config.threshold} others: "
            f"{config.least_rows} are needed; give more rows, lower protect.threshold, or learn them unprotected with "
            "--protect off"
        )
    known_kinds = set(asked)
    for field in schema.fields:
        if not isinstance(field, TextField) or field.name in known_kinds or not config.covers(field.name):
            continue
        cells = Cells.of(field.name, table.column(field.name))
        people = names_people(field.name, cells.texts, rows=int(cells.counts_V.sum()))
        if people is not None:
            raise DataError(
                f"column {field.name!r} looks like {people}, and free text of them is not learned unless it is asked "
                f"for: leave it out ({setting('data.read.drop', field.name)}), or ask for it with "
                f"{setting('schema.kinds', field.name, 'text')}"
            )


def protect_rows(
    train: pa.Table, schema: RecordSchema, config: ProtectConfig, *, seed: int, texts: bool = True
) -> ProtectedRows:
    """Protect the training rows, of which `schema` was inferred; rows of rare classes of the target are left out.

    Without `texts`, free text stays as it is: records that are texts as a whole are asked for.

    Raises:
        DataError: protection leaves nothing of a column; names it and the remedy.
    """
    whole, notices = train, list[Notice]()
    classes = next((f for f in schema.fields if f.name == schema.target and schema.task == "classification"), None)
    if classes is not None and config.covers(classes.name):
        whole, notices = _common_classes(whole, classes, config)
    made_up: dict[str, str] = {}
    every = _kept_cells(whole, [field.name for field in schema.fields])
    fitted, changed_N = whole, np.zeros(len(whole), dtype=np.bool_)
    for place, field in enumerate(schema.fields):
        if field is classes or not config.covers(field.name) or (isinstance(field, TextField) and not texts):
            continue
        cells = every.get(field.name) or Cells.of(field.name, whole.column(field.name))
        random = np.random.default_rng((seed, place))
        what = _protect(cells, field, every.values(), config, made_up, random)
        if what is None:
            continue
        if not isinstance(field, TextField):
            changed_N |= cells.changed_N
        fitted = fitted.set_column(whole.column_names.index(field.name), field.name, cells.protected())
        notices.append(_notice(field.name, int(cells.changed_N.sum()), what, config.threshold, len(whole)))
    return ProtectedRows(
        whole=whole, fitted=fitted, changed_N=changed_N, differs=fitted is not whole, notices=tuple(notices)
    )


def _kept_cells(table: pa.Table, names: Sequence[str]) -> dict[str, Cells]:
    """Read the cells that rows may be told alike by: of a large table the columns of fewest values, else all."""
    if not isinstance(table, Rows):
        return {name: Cells.of(name, table.column(name)) for name in names}
    kept: dict[str, Cells] = {}
    sizes = {name: size for name in names if (size := table.distinct(name)) is not None and 1 < size <= MAX_ALIKE}
    for name in sorted(sizes, key=lambda name: sizes[name])[: PARTNERS + 1]:  # one of them may be the column itself
        kept[name] = Cells.of(name, table.column(name))
    return {name: kept[name] for name in names if name in kept}


def _common_classes(table: pa.Table, field: Field, config: ProtectConfig) -> tuple[pa.Table, list[Notice]]:
    cells = Cells.of(field.name, table.column(field.name))
    rare_V: BoolArray = cells.counts_V < config.threshold
    if len(rare_V) - int(rare_V.sum()) < 2:
        raise DataError(
            f"target {field.name!r}: fewer than two classes have {config.threshold} training rows, so that hardly one "
            f"can be learned; give more rows, or {setting('protect.columns', field.name, 'off')}"
        )
    if not rare_V.any():
        return table, []
    rows_N = cells.rows_of(rare_V)
    what = "rows of rare classes are left out"
    notice = _notice(field.name, int(rows_N.sum()), what, config.threshold, table.num_rows)
    return table.filter(pa.array(~rows_N)), [notice]


def _protect(
    cells: Cells,
    field: Field,
    others: Iterable[Cells],
    config: ProtectConfig,
    made_up: dict[str, str],
    random: np.random.Generator,
) -> str | None:
    """Protect one column; return what was done, None for nothing."""
    least = config.threshold
    done: list[str] = []
    if isinstance(field, ConstantField | IdentifierField | JsonField):
        return None
    if int(cells.counts_V.sum()) < least:
        raise _emptied(field.name, least)
    if isinstance(field, TextField):
        written = pa.types.is_string(cells.type) and field.language not in ("json", "python")  # forms are kept
        made = written and make_up_rare_words(cells, least, made_up, random, urls=field.language == "url")
        return "rare names and numbers in texts are others" if made else None
    rare_V = rare_values(cells, field, least)
    if rare_V.all():
        raise _emptied(field.name, least)
    if rare_V.any():
        merge = config.rare == "merge" and isinstance(field, CategoricalField)
        replace_rare(cells, rare_V, others, least=least, merge=merge, random=random)
        done.append("rare values are drawn as others of the column" if not merge else "rare values are one category")
    if isinstance(field, IntegerField | DecimalField | DatetimeField):
        if not cut_extremes(cells, field, least):
            raise _emptied(field.name, least)
        done.append("the ends are cut")
    return " and ".join(done) if cells.changed_N.any() else None


def _emptied(name: str, least: int) -> DataError:
    return DataError(
        f"column {name!r}: protection leaves nothing of it, as hardly a value has {least} training rows; leave the "
        f"column out ({setting('data.read.drop', name)}), say what it is ({setting('schema.kinds', name, 'text')}, "
        f"code or identifier), or learn it as it is ({setting('protect.columns', name, 'off')})"
    )


def _notice(column: str, rows: int, what: str, least: int, of: int) -> Notice:
    count = rounded_count(rows, least)
    share = f" (about {100 * rows / of:.0f} % of the rows)" if rows >= 0.01 * of and rows > least else ""
    message = f"protected: {what}{share}"
    return Notice(column=column, code="protected", count=count, message=message)


def protected_schema(
    rows: ProtectedRows, raw: RecordSchema, config: ProtectConfig, *, inference: SchemaConfig
) -> RecordSchema:
    """Infer the schema of protected rows: columns are of the kinds that `raw` found; figures of rows are rounded."""
    kinds = {
        field.name: _KINDS[field.kind]
        for field in raw.fields
        if field.kind in _KINDS and not (isinstance(field, CategoricalField) and field.ordered) and not _is_json(field)
    }
    given = inference.model_copy(update={"kinds": {**kinds, **inference.kinds}, "task": raw.task or inference.task})
    schema = infer_schema(rows.fitted, target=raw.target, config=given)
    unprotected = tuple(name for name in schema.names if not config.covers(name))
    notices = [*rows.notices, *schema.notices]
    return rounded_schema(schema, rows.whole, config).model_copy(
        update={
            "notices": tuple(notices),
            "protected": Protected(threshold=config.threshold, unprotected=unprotected),
        }
    )


def _is_json(field: Field) -> bool:
    """Tell whether a column holds JSON: free text, if its kind were given."""
    return isinstance(field, TextField) and field.language == "json"


def protection_summary(notices: Sequence[Notice], config: ProtectConfig) -> str:
    """Say in a line how many columns were touched, and which."""
    if not config.enabled:
        return protection_line(config)
    touched = list(dict.fromkeys(notice.column or "" for notice in notices if notice.code == "protected"))
    named = ", ".join(map(repr, touched[:8])) + (f" and {len(touched) - 8} more" if len(touched) > 8 else "")
    return (
        f"values that fewer than {config.threshold} training rows have are not learned: "
        + (f"{len(touched)} columns have such ({named})" if touched else "no column has such")
        + "; --protect off learns all"
    )
