"""Tables that are printed line by line, as results come."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from convlens.client._text import printable
from convlens.client.cli._rows import fitted, print_line


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title and the columns of a terminal that its cells have; 0 for the last one."""

    title: str
    width: int = 0
    is_number: bool = False
    #: Of what is too long the start is left too, not only the end.
    keep_start: bool = True


class Table:
    """Prints a header and then rows to stdout; what is too long for its column is cut."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.console = Console(file=sys.stdout, highlight=False)
        self._columns = columns
        self._started = False

    def row(self, *cells: str) -> None:
        """One line; before the first one, the titles of the columns."""
        if not self._started:
            self._started = True
            titles = [column.title for column in self._columns]
            print_line(self.console, Text(self._laid_out(titles), "bold"))
        print_line(self.console, Text(self._laid_out([printable(cell) for cell in cells])))

    def _laid_out(self, cells: Sequence[str]) -> str:
        pairs = zip(self._columns, cells, strict=True)
        return "  ".join(_cell(column, cell) for column, cell in pairs).rstrip()


def width_of(title: str, texts: Sequence[str], most: int) -> int:
    """How wide a column must be for its title and all texts, `most` at most."""
    return max(cell_len(title), min(most, max((cell_len(printable(t)) for t in texts), default=0)))


def _cell(column: Column, cell: str) -> str:
    width = max(column.width, cell_len(column.title))
    if not column.width:
        return cell
    return (
        cell.rjust(width) if column.is_number else fitted(cell, width, keep_start=column.keep_start)
    )
