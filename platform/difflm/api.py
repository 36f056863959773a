"""A generator in this process: rows, imputations and latents out of a bundle, as frames."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from difflm.errors import ConfigError, DataError, SynthesisError
from difflm.printable import printable
from difflm.records.files.source import SourceForm
from difflm.records.frames.frames import Frame, FrameTemplate, filled_in, is_path, pandas_frame, to_table
from difflm.records.relations.given import broken_given
from difflm.records.schema import RecordSchema, read_schema
from difflm.seeding import random_state_kept
from difflm.synthesis.arguments import column_names, row_count, seed_number, share, text_or_none, texts
from difflm.synthesis.blocks import blocks
from difflm.synthesis.open_bundle import OpenBundle
from difflm.synthesis.plans.kept_cells import kept_cells, put_back
from difflm.synthesis.plans.request import (
    Between,
    GivenRecords,
    Impute,
    PlanRequest,
    Use,
    Vary,
    nearest_told,
    table_with_gaps,
)
from difflm.synthesis.sharing.saving import SavedParts
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from difflm_evaluators import Report

BATCH_ROWS = 2048


class Generator:
    """Writes new records of a table that was learned; made by `difflm.fit` and `difflm.load`.

    Rows are addressed: row `i` of a seed is the same however many rows are asked for, and the same that
    `difflm synthesize` writes: exactly so in float32 on a CPU, but for rounding in bfloat16 and on a GPU. What comes
    back is the kind of frame that `fit` was given; a pandas DataFrame where that was a file.
    """

    def __init__(
        self,
        bundle: Path,
        *,
        template: FrameTemplate | None = None,
        sampling: SamplingConfig | None = None,
        make_report: Callable[[], Report] | None = None,
        find_report: Callable[[], Report | None] | None = None,
        kept: object = None,
    ) -> None:
        """Open nothing yet: the models are loaded when first needed.

        ``make_report`` evaluates the run that the bundle is from, ``find_report`` reads the report only where there is
        one; ``kept`` lives as long as the generator, such as a temporary folder that the bundle lies in.
        """
        self._folder = bundle
        self._template = template
        self._sampling = sampling or SamplingConfig()
        self._make_report = make_report
        self._find_report = find_report
        self._report: Report | None = None
        self._kept = kept
        self._open: OpenBundle | None = None
        self._schema = read_schema(bundle)
        self._form = SourceForm.read(bundle)

    def __repr__(self) -> str:
        target = f", target {self._schema.target!r}" if self._schema.target is not None else ""
        about = f"{len(self._schema.fields)} columns{target}, learned from {self._schema.row_count:,} rows"
        return f"<difflm.Generator of {about}: {self._folder}>"

    @property
    def bundle(self) -> Path:
        """The folder of the bundle: all that generation needs, and no row of the table."""
        return self._folder

    @property
    def schema(self) -> RecordSchema:
        """The columns as they were fitted on the training rows."""
        return self._schema

    @property
    def report(self) -> Report:
        """The evaluation of the run that the generator is from: as many synthetic rows as training rows, against its
        own splits. Made on first use and kept beside the run's other results; a saved generator carries what there was.

        Raises:
            ConfigError: the generator is a bundle without its run, and carries no report.
        """
        if self._report is None:
            if self._make_report is None:
                raise ConfigError(
                    f"{self._folder}: a bundle has no splits to be evaluated against; load the run that it is from, or "
                    "use difflm.evaluate(rows, train=..., test=...)"
                )
            self._report = self._make_report()
        return self._report

    def found_report(self) -> Report | None:
        """Return `report` if it is there already, None if it would have to be made first."""
        if self._report is None and self._find_report is not None:
            self._report = self._find_report()
        return self._report

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        where: str | None = None,
        balance: str | None = None,
        constraints: Sequence[str] = (),
        like: Frame | str | Path | None = None,
        strength: float = 0.3,
        between: Frame | str | Path | None = None,
        columns: Sequence[str] | None = None,
        progress: bool = False,
    ) -> Frame:
        """Draw rows 0 to n - 1 of a seed.

        Args:
            n: how many rows.
            seed: the same seed gives the same rows.
            where: what every row satisfies, such as ``"age >= 40 and income == '>50K'"``.
            balance: a column whose values all come up equally often.
            constraints: what every row satisfies across columns, such as ``["start <= end"]``.
            like: a table whose records are varied, by turns.
            strength: how far ``like`` goes, from 0 (the records themselves) to 1 (any record).
            between: a table of two records; the rows lead from one to the other.
            columns: which columns to return, in this order; all by default.
            progress: show a bar.

        Returns:
            A frame of n rows; fewer, with a warning that says why, where an index had no valid draw.

        Raises:
            ConfigError: an argument that cannot be used, or a condition that no record satisfies.
            DataError: the given records do not fit the columns.
            BundleError: the bundle cannot do this, such as one without a prior for conditions.
            SynthesisError: not one draw was valid.
        """
        batches = self.batches(
            n,
            seed=seed,
            where=where,
            balance=balance,
            constraints=constraints,
            like=like,
            strength=strength,
            between=between,
            columns=columns,
            progress=progress,
        )
        return self._frame(pa.Table.from_batches(batches))

    def batches(
        self,
        n: int,
        *,
        seed: int = 0,
        where: str | None = None,
        balance: str | None = None,
        constraints: Sequence[str] = (),
        like: Frame | str | Path | None = None,
        strength: float = 0.3,
        between: Frame | str | Path | None = None,
        columns: Sequence[str] | None = None,
        batch_rows: int = BATCH_ROWS,
        progress: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Draw the rows of `sample` as Arrow record batches of at most ``batch_rows`` rows, in order.

        Memory does not grow with n. The arguments, but for ``batch_rows``, and the errors are those of `sample`; all
        but SynthesisError are raised by the call itself.
        """
        n, seed, batch_rows = row_count(n, name="n"), seed_number(seed), row_count(batch_rows, name="batch_rows")
        wanted = column_names(columns, self._schema.names)
        request, given = self._request(n, where, balance, like, strength, between)
        request = request.model_copy(update={"constraints": texts(constraints, name="constraints")})
        request.check(self._folder, self._schema)
        synthesizer = self._opened().synthesizer(request, given)
        return self._drawn(synthesizer, n, seed, wanted, batch_rows, progress=progress)

    def impute(self, table: Frame | str | Path, *, columns: Sequence[str] | None = None, seed: int = 0) -> Frame:
        """Fill in the missing cells of a table; its other cells, its order and the index of pandas stay as they are.

        Args:
            table: a table with the bundle's columns, in which cells are missing.
            columns: fill in these only; all by default.
            seed: another seed draws other values, for multiple imputation.

        Raises:
            ConfigError: an unknown column.
            DataError: a column is missing or unknown, or a cell holds what training never saw.
            BundleError: the bundle has no prior for conditions.
            SynthesisError: a row has no valid completion.
        """
        name = str(table) if is_path(table) else "table"
        gaps = to_table(table, name=name)
        given = table_with_gaps(gaps, self._schema, name=name)
        for notice in broken_given(given, self._schema, name=name):
            warnings.warn(printable(notice.message), RuntimeWarning, stacklevel=2)
        wanted, seed = column_names(columns, self._schema.names), seed_number(seed)
        use = Impute(columns=None if wanted is None else tuple(wanted))
        request = PlanRequest(given=GivenRecords(use=use, sha256=""))
        request.check(self._folder, self._schema)
        synthesizer = self._opened().synthesizer(request, given)
        made = pa.Table.from_batches(self._drawn(synthesizer, len(given), seed, None, BATCH_ROWS, progress=False))
        if len(made) != len(given):
            raise SynthesisError(
                f"{name}: {len(given) - len(made)} rows have no valid completion within "
                f"{self._sampling.attempts} draws; give those rows fewer given cells"
            )
        made = put_back(made, range(len(made)), kept_cells(gaps, self._schema)).select(gaps.column_names)
        return self._frame(made) if is_path(table) else filled_in(table, made, name=name)

    def encode(self, table: Frame | str | Path) -> npt.NDArray[np.float32]:
        """Encode records: the posterior means of their latents, (rows, Z) float32.

        Raises:
            DataError: a column is missing.
        """
        name = str(table) if is_path(table) else "table"
        return self._opened().encode(nearest_told(to_table(table, name=name), self._schema, name=name))

    def save(self, path: str | Path, *, licence: str | None = None) -> Path:
        """Save the generator, for `difflm.load`, `synthesize` and `serve`: as one file where the path ends in
        ``.difflm``, else as a folder. It holds the bundle, how it is drawn from, the scores where there is a report
        already, and a model card, which names the ``licence``; no row of the table.

        Raises:
            ConfigError: something is there already.
            StorageError: it cannot be written.
        """
        report = self.found_report()
        return SavedParts(
            bundle=self._folder,
            template=None if self._template is None else self._template.dumped(),
            sampling=self._sampling,
            report=None if report is None else report.shared().save,
            licence=licence,
        ).write(path)

    def _opened(self) -> OpenBundle:
        if self._open is None:
            with random_state_kept():
                self._open = OpenBundle(self._folder, self._sampling)
        return self._open

    def _frame(self, table: pa.Table) -> Frame:
        if self._template is not None:
            return self._template.frame(table)
        return pandas_frame(table if self._form is None else self._form.shaped(self._form.widened(table), "arrow"))

    def _request(
        self,
        n: int,
        where: str | None,
        balance: str | None,
        like: Frame | str | Path | None,
        strength: float,
        between: Frame | str | Path | None,
    ) -> tuple[PlanRequest, pa.Table | None]:
        """Return the request for the plan, and the table of the records that it refers to."""
        if like is not None and between is not None:
            raise ConfigError("like and between: give one of them")
        strength = share(strength, name="strength", remedy="a number from 0 (the record itself) to 1 (any record)")
        where = text_or_none(where, name="where", remedy='a condition as text, such as "age >= 40"')
        balance = text_or_none(balance, name="balance", remedy="the name of a column")
        given = like if like is not None else between
        if given is None:
            return PlanRequest(where=where, balance=balance), None
        name = str(given) if is_path(given) else "like" if like is not None else "between"
        table = nearest_told(to_table(given, name=name), self._schema, name=name)
        if between is not None and len(table) != 2:
            raise DataError(f"{name}: a way leads from one record to another; it has {len(table)} rows, give 2")
        use: Use = Between(count=n) if between is not None else Vary(strength=strength)
        return PlanRequest(where=where, balance=balance, given=GivenRecords(use=use, sha256="")), table

    def _drawn(
        self, synthesizer: Synthesizer, n: int, seed: int, columns: list[str] | None, batch_rows: int, *, progress: bool
    ) -> Iterator[pa.RecordBatch]:
        emitted, reasons = 0, Counter[str]()
        for block in blocks(n, batch_rows, BATCH_ROWS, progress=progress):
            drawn, account = synthesizer.draw_valid(block, seed=seed)
            reasons.update(account.rejections)
            emitted += len(drawn)
            table = synthesizer.bundle.codec.table_of(record for _, record in drawn)
            chosen = table if columns is None else table.select(columns)
            empty = pa.RecordBatch.from_pylist([], schema=chosen.schema)
            yield from chosen.combine_chunks().to_batches(batch_rows) or [empty]
        why = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
        if emitted == 0:
            raise SynthesisError(f"{self._folder}: none of the draws of {n:,} rows was valid ({why}); train longer")
        if emitted < n:
            within = f"within {self._sampling.attempts} attempts ({why})"
            warnings.warn(f"{n - emitted:,} of {n:,} rows had no valid draw {within}", RuntimeWarning, stacklevel=3)
