"""The table of a folder of rendered pictures: what was varied, and in which picture how."""

import csv
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convlens.client._errors import InvalidRequest
from convlens.client._text import percent, printable, shown

FILE = "file"
# The share of a grid that may be missing: shares of the variance add up to 1 only nearly then.
MOST_MISSING = 0.1
# Missing combinations, or files, that are named.
NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """Something that was varied: its values, and the number of each picture's value.

    Values are sorted where all of them are numbers; else they are in the order of the table.
    """

    name: str
    values: tuple[str, ...]
    levels: NDArray[np.int64]

    @property
    def is_ordered(self) -> bool:
        """Whether its values are numbers."""
        return all(_number(value) is not None for value in self.values)

    def cells(self, places: Sequence[int]) -> list[str]:
        """The values of the pictures in these places."""
        levels: list[int] = self.levels[list(places)].tolist()
        return [self.values[level] for level in levels]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Pictures with the factors that make them, of which each has two values or more.

    `constant` are the names of those that have one only.
    """

    files: tuple[Path, ...]
    factors: tuple[Factor, ...]
    constant: tuple[str, ...] = ()

    def of(self, kept: Sequence[Path]) -> "Grid":
        """The grid of these of its files; raises InvalidRequest where too much is missing."""
        chosen = set(kept)
        places = [number for number, file in enumerate(self.files) if file in chosen]
        columns = [(each.name, each.cells(places)) for each in self.factors]
        return _grid(tuple(self.files[place] for place in places), columns, self.constant)

    @property
    def missing(self) -> tuple[int, int]:
        """How many combinations of values no picture has, and how many there are."""
        size = math.prod(len(each.values) for each in self.factors)
        return size - len(self._there()), size

    def holes(self) -> str:
        """The first combinations that no picture has, in words."""
        there, named = self._there(), list[str]()
        for levels in product(*(range(len(each.values)) for each in self.factors)):
            if levels not in there:
                pairs = zip(self.factors, levels, strict=True)
                named.append(" ".join(f"{each.name}={each.values[level]}" for each, level in pairs))
            if len(named) == NAMED:
                break
        more = self.missing[0] - len(named)
        return printable("; ".join(named)) + (f"; and {more} more" if more else "")

    def _there(self) -> set[tuple[int, ...]]:
        return set(zip(*(each.levels.tolist() for each in self.factors), strict=True))


def read_grid(table: Path, folder: Path) -> Grid:
    """The grid of a CSV with a column "file", relative to the folder, and one for each factor.

    Raises InvalidRequest that says where it is none: a file that is not there, or is there twice, a
    cell that is empty, no factor with two values, or more than a tenth of the grid missing.
    """
    heads, *lines = list(_lines(table))
    where, names = zip(*((where, cells[FILE]) for where, cells in lines), strict=True)
    files = tuple(Path(os.path.abspath(folder / name)) for name in names)
    _check_files(files, names, where)
    columns = [(head, [cells[head] for _, cells in lines]) for head in heads[1] if head != FILE]
    return _grid(files, columns, ())


def _lines(table: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The header as names of themselves, then each line, with where it stands."""
    rows = csv.reader(StringIO(_text(table), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(rows, list[str]())]
        if header.count(FILE) != 1 or len(header) < 2 or not all(header):
            raise InvalidRequest(
                f"{shown(table)}, line 1: the header is {printable(','.join(header))!r}; it must "
                "have a column file and one for each factor, each with a name."
            )
        if twice := next((name for name in header if header.count(name) > 1), None):
            raise InvalidRequest(f"{shown(table)}, line 1: there are two columns {twice!r}.")
        yield "", dict(zip(header, header, strict=True))
        count = 0
        for row in rows:
            cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
            if any(cells.values()):
                count += 1
                yield _checked(f"{shown(table)}, line {rows.line_num}", cells, header)
        if not count:
            raise InvalidRequest(f"{shown(table)} has no pictures, only a header.")
    except csv.Error as error:
        where = f"{shown(table)}, line {rows.line_num}"
        raise InvalidRequest(f"{where}: this is no CSV: {error}.") from error


def _text(table: Path) -> str:
    try:
        return table.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidRequest(f"{shown(table)} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{shown(table)} is no text in UTF-8.") from error


def _checked(
    where: str, cells: dict[str, str], header: Sequence[str]
) -> tuple[str, dict[str, str]]:
    if empty := next((name for name in header if not cells.get(name)), None):
        raise InvalidRequest(f"{where}: there is no {printable(empty)}.")
    return where, cells


def _check_files(files: Sequence[Path], names: Sequence[str], where: Sequence[str]) -> None:
    gone = [number for number, file in enumerate(files) if not file.is_file()]
    if gone:
        others = f", and {len(gone) - 1} more are missing" if len(gone) > 1 else ""
        named = printable(names[gone[0]])
        raise InvalidRequest(f"{where[gone[0]]}: there is no file {named!r}{others}.")
    first: dict[Path, str] = {}
    for file, name, line in zip(files, names, where, strict=True):
        if first.setdefault(file, line) != line:
            raise InvalidRequest(f"{line}: {printable(name)!r} is in {first[file]} already.")


def _grid(
    files: tuple[Path, ...], columns: Sequence[tuple[str, Sequence[str]]], constant: tuple[str, ...]
) -> Grid:
    factors = [_factor(name, cells) for name, cells in columns]
    varied = tuple(each for each in factors if len(each.values) > 1)
    same = tuple(each.name for each in factors if len(each.values) == 1)
    if not varied:
        raise InvalidRequest(
            f"Each factor has one value only: {printable(', '.join(same))}; give pictures in which "
            "one is varied."
        )
    grid = Grid(files, varied, (*constant, *same))
    missing, size = grid.missing
    if missing > MOST_MISSING * size:
        counts = ", ".join(f"{each.name} {len(each.values)}" for each in varied)
        raise InvalidRequest(
            f"The grid is not complete: of {size} combinations of values ({printable(counts)}), "
            f"{missing} have no picture: {grid.holes()}. At most "
            f"{percent(MOST_MISSING)} may be missing."
        )
    return grid


def _factor(name: str, cells: Sequence[str]) -> Factor:
    values = list(dict.fromkeys(cells))
    numbers = {value: _number(value) for value in values}
    if None not in numbers.values():
        values.sort(key=lambda value: numbers[value] or 0.0)
    place = {value: number for number, value in enumerate(values)}
    return Factor(name, tuple(values), np.array([place[cell] for cell in cells]))


def _number(text: str) -> float | None:
    with suppress(ValueError):
        number = float(text)
        return number if math.isfinite(number) else None
    return None
