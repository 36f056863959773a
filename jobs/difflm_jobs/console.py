"""The console that everything is shown on: texts of others appear as they are, and do nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from difflm.printable import printable


class PrintableConsole(Console):
    """A console on which no text is markup, an emoji's name, or a sequence that the terminal would obey."""

    def __init__(
        self, *, file: IO[str] | None = None, stderr: bool = False, width: int | None = None, quiet: bool = False
    ) -> None:
        super().__init__(file=file, stderr=stderr, width=width, quiet=quiet, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does; what steers is rich's own only."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)
