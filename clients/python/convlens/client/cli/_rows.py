"""How results look to people: one aligned line per picture, printed as it comes."""

import sys
from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from convlens.client import Classification, ClassScore, _text
from convlens.client._text import printable

# In columns of a terminal, and of labels elsewhere, where lines may be as long as they like.
NAME_WIDTH, LABEL_WIDTH, BAR_WIDTH = 28, 14, 10
WIDE_LABEL_WIDTH = 28
EIGHTHS = " ▏▎▍▌▋▊▉█"


class Rows:
    """Prints classifications to stdout in columns.

    On a terminal long names are cut to fit; elsewhere the column is as wide as the longest name,
    and there are no colours. Long labels are cut in the middle.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.console = Console(file=sys.stdout, highlight=False)
        self._started = False
        longest = max((cell_len(printable(name)) for name in names), default=0)
        terminal = self.console.is_terminal
        self._name_width = max(len("picture"), min(longest, NAME_WIDTH) if terminal else longest)
        self._label_width = LABEL_WIDTH if terminal else WIDE_LABEL_WIDTH

    def _header(self) -> None:
        text = Text(style="bold")
        text.append("picture".ljust(self._name_width + 2))
        text.append("answer".ljust(self._label_width + 1))
        text.append("probability".ljust(BAR_WIDTH + 10))
        text.append("runner-up")
        self.line(text)

    def row(self, name: str, result: Classification) -> None:
        """One picture; before the first one, the titles of the columns."""
        if not self._started:
            self._started = True
            self._header()
        text = Text(fitted(printable(name), self._name_width, keep_start=False) + "  ")
        text.append(fitted(printable(result.top.label), self._label_width) + " ", "bold green")
        text.append(self._bar(result.top.probability or 0) + " ", "green")
        text.append(percent(result.top.probability).rjust(7) + "  ")
        text.append(", ".join(_said(score) for score in result.classes[1:]), "dim")
        self.line(text)

    def line(self, text: Text | str = "") -> None:
        """Any other line."""
        print_line(self.console, text)

    def _bar(self, share: float) -> str:
        if not self.console.encoding.lower().startswith("utf"):
            return ("#" * round(share * BAR_WIDTH)).ljust(BAR_WIDTH)
        whole, part = divmod(round(share * BAR_WIDTH * 8), 8)
        return ("█" * whole + EIGHTHS[part].strip()).ljust(BAR_WIDTH)


def print_line(console: Console, text: Text | str) -> None:
    """One line, cut to fit where that is a terminal."""
    cut = console.is_terminal
    console.print(
        text,
        markup=False,
        no_wrap=True,
        soft_wrap=not cut,
        overflow="ellipsis" if cut else None,
    )


def fitted(text: str, width: int, *, keep_start: bool = True) -> str:
    """The text in exactly `width` columns of a terminal; of a long one, its start and its end."""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    start = set_cell_size(text, width // 2) if keep_start else ""
    end = text
    while cell_len(start) + 1 + cell_len(end) > width:
        end = end[1:]
    return set_cell_size(f"{start}…{end}", width)


def percent(share: float | None) -> str:
    """A share of 1 as people write it: "99.7 %", and "–" where it is not known."""
    return "–" if share is None else _text.percent(share, 1)


def _said(score: ClassScore) -> str:
    return f"{printable(score.label)} {percent(score.probability)}"
