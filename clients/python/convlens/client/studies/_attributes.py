"""What else is known of pictures: a table of files with textures, sizes, and the like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convlens.client._errors import InvalidRequest
from convlens.client._picture_files import Name
from convlens.client._text import printable, shown

if TYPE_CHECKING:
    from pandas import DataFrame, Series

# A column of more different numbers than these is cut into so many groups of equal size.
MOST_VALUES, GROUPS = 8, 4
# What a cell says that says nothing.
NOTHING = ("", "nan")
# The columns that say which picture it is, and what it shows.
FILE, LABEL = "file", "label"


@dataclass(frozen=True, slots=True)
class Attribute:
    """What a column says of each picture, "" where it says nothing.

    `values` are in the order in which they are shown; `is_ordered` where that has a meaning.
    """

    name: str
    values: Sequence[str]
    of: Sequence[str]
    is_ordered: bool


def title_of(attribute: Attribute) -> str:
    """What a table or chart of accuracy by it is called."""
    return f"Accuracy by {'the factor ' * (attribute.name == 'class')}{attribute.name}"


def attributes_of(file: Name, folder: Name, pictures: Sequence[Path]) -> list[Attribute]:
    """The columns of a CSV for the pictures; its column `file` names them within the folder.

    Numbers are cut into quarters where there are many; an empty cell and NaN say nothing. Raises
    InvalidRequest where it is no such table, names a picture twice, or none of these.
    """
    file, folder = Path(file), Path(folder)
    frame = _read(file)
    names = [str((folder / str(name)).absolute()) for name in frame[FILE]]
    frame = frame.set_axis(names)
    if twice := [names[place] for place in frame.index.duplicated().nonzero()[0]]:
        raise InvalidRequest(f"{shown(file)} has {printable(twice[0])} twice; name it once.")
    wanted = [str(path.absolute()) for path in pictures]
    if not frame.index.isin(wanted).any():
        raise InvalidRequest(
            f"{shown(file)} has none of the pictures of {shown(folder)}; its column file must name "
            "them as they are within the folder."
        )
    known = frame.reindex(wanted, fill_value="")
    return [
        _attribute(str(name), known[name]) for name in known.columns if name not in (FILE, LABEL)
    ]


def _read(file: Path) -> "DataFrame":
    import pandas

    try:
        frame = pandas.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except OSError as error:
        raise InvalidRequest(f"{shown(file)} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{shown(file)} is no text in UTF-8.") from error
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
        words = printable(str(error).strip())
        raise InvalidRequest(f"{shown(file)} is no CSV: {words}.") from error
    frame.columns = [str(name).strip() for name in frame.columns]
    others = [name for name in frame.columns if name not in (FILE, LABEL)]
    if FILE not in frame.columns or not others:
        written = ",".join(frame.columns)
        raise InvalidRequest(
            f"{shown(file)}, line 1: the header is {printable(written)!r}; it must have the column "
            "file and at least one more, such as texture."
        )
    return frame


def _attribute(name: str, column: "Series[str]") -> Attribute:
    import pandas

    column = column.str.strip()
    column = column.mask(column.str.lower().isin(NOTHING), "")
    said = column[column != ""]
    numbers: Series[float] = pandas.to_numeric(said, errors="coerce")
    if not len(said) or not np.isfinite(numbers).all():
        return Attribute(name, sorted(set(said)), list(column), False)
    distinct = sorted(set(numbers))
    if len(distinct) <= MOST_VALUES:
        words: Mapping[float, str] = {each: f"{each:g}" for each in distinct}
        groups = numbers.map(words)
    else:
        codes = pandas.qcut(numbers, GROUPS, labels=False, duplicates="drop")
        words = {
            code: f"{numbers[codes == code].min():.3g} to {numbers[codes == code].max():.3g}"
            for code in sorted(set(codes))
        }
        groups = codes.map(words)
    return Attribute(
        name, list(words.values()), list(groups.reindex(column.index, fill_value="")), True
    )
