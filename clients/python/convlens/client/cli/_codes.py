"""Writes the codes of many pictures to one file, a block at a time."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile

import click
import numpy as np
from numpy.typing import NDArray

from convlens.client._spool import Entry, Spool

# Bytes of codes that are in memory at a time.
BLOCK_BYTES = 16 * 2**20
# What the file has beside the layers.
PICTURES, ERRORS, FAILED, RUN = "pictures", "errors", "failed", "run"
RESERVED = frozenset({"picture", "error", PICTURES, ERRORS, FAILED, RUN})
COPY_BYTES = 2**20


def write_npz(spool: Spool, run: dict[str, Any], file: BinaryIO) -> None:
    """An archive that numpy.load reads: an array for each layer, and the names of the pictures.

    Row i of every layer is of `pictures[i]`; `failed` and `errors` are of those without a row, and
    `run` says in JSON what was computed.
    """
    good = [entry.picture for entry in spool.entries() if entry.error is None]
    bad = [(entry.picture, entry.error) for entry in spool.entries() if entry.error is not None]
    with ZipFile(file, "w") as archive:
        _strings(archive, PICTURES, good)
        _strings(archive, FAILED, [picture for picture, _ in bad])
        _strings(archive, ERRORS, [error["message"] for _, error in bad])
        with _member(archive, RUN) as member:
            np.save(member, np.array(json.dumps(run)), allow_pickle=False)
        for number, form in enumerate(spool.forms):
            with _member(archive, form.name) as member, spool.raw(number) as rows:
                _header(member, form.dtype, (len(good), *form.shape))
                shutil.copyfileobj(rows, member, COPY_BYTES)


def _strings(archive: ZipFile, name: str, values: Sequence[str]) -> None:
    """An array of text, written without one in memory: it is as wide as its longest value."""
    width = max(map(len, values), default=1) or 1
    with _member(archive, name) as member:
        _header(member, f"<U{width}", (len(values),))
        for value in values:
            # Names of files may hold bytes that are no text.
            encoded = value.encode("utf-32-le", "surrogatepass")
            member.write(encoded.ljust(4 * width, b"\0"))


def _member(archive: ZipFile, name: str) -> Any:
    return archive.open(f"{name}.npy", "w", force_zip64=True)


def _header(member: Any, dtype: str, shape: tuple[int, ...]) -> None:
    description = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(member, description)


def write_parquet(spool: Spool, run: dict[str, Any], file: BinaryIO) -> None:
    """A table with a line for each picture: `picture`, `error`, and a list of numbers per layer.

    Where a picture failed, its lists are null. The shapes of the codes are in the metadata of
    their columns, and what was computed in that of the table, in JSON.
    """
    arrow, parquet = _arrow()
    columns = [
        arrow.field(
            form.name,
            arrow.list_(arrow.from_numpy_dtype(np.dtype(form.dtype)), _width(form.shape)),
            metadata={"shape": json.dumps(form.shape)},
        )
        for form in spool.forms
    ]
    texts = [arrow.field("picture", arrow.string()), arrow.field("error", arrow.string())]
    schema = arrow.schema([*texts, *columns], metadata={"convlens": json.dumps(run)})
    size = max(1, BLOCK_BYTES // max(1, sum(form.bytes for form in spool.forms)))
    rows = [_Rows(spool.blocks(number, size)) for number in range(len(spool.forms))]
    with parquet.ParquetWriter(file, schema) as writer:
        for entries in _blocks(spool.entries(), size):
            pictures = [_text(entry.picture) for entry in entries]
            errors = [entry.error and entry.error["message"] for entry in entries]
            answered = np.array([entry.error is None for entry in entries])
            codes = [
                _lists(arrow, column, source.next(int(answered.sum())), answered)
                for column, source in zip(columns, rows, strict=True)
            ]
            texts = [arrow.array(values, arrow.string()) for values in (pictures, errors)]
            writer.write_table(arrow.Table.from_arrays([*texts, *codes], schema=schema))


class _Rows:
    """Gives as many rows as are asked for, of blocks that have other sizes."""

    def __init__(self, blocks: Iterator[NDArray[Any]]) -> None:
        self._rows = (row for block in blocks for row in block)

    def next(self, count: int) -> list[NDArray[Any]]:
        """The next rows, each as one vector."""
        return [row.ravel() for row in islice(self._rows, count)]


def _lists(arrow: Any, column: Any, rows: list[NDArray[Any]], answered: NDArray[np.bool_]) -> Any:
    """A column of lists, null where a picture has no row."""
    width = column.type.list_size
    values = np.zeros((len(answered), width), column.type.value_type.to_pandas_dtype())
    if rows:
        values[answered] = rows
    return arrow.FixedSizeListArray.from_arrays(
        arrow.array(values.ravel()), width, mask=arrow.array(~answered)
    )


def _width(shape: Iterable[int]) -> int:
    return int(np.prod(list(shape)))


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _blocks(entries: Iterator[Entry], size: int) -> Iterator[list[Entry]]:
    while block := list(islice(entries, size)):
        yield block


def _arrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        install = 'pip install "convlens-client[parquet]"'
        raise click.ClickException(
            f"A .parquet file needs pyarrow: {install}; or write a .npz file."
        ) from error


WRITERS: dict[str, Callable[[Spool, dict[str, Any], BinaryIO], None]] = {
    ".npz": write_npz,
    ".parquet": write_parquet,
}


def writer_of(out: Path) -> Callable[[Spool, dict[str, Any], BinaryIO], None]:
    """What writes a file of that name; an error where nothing does, or a library is missing."""
    writer = WRITERS.get(out.suffix.lower())
    if writer is None:
        raise click.UsageError(f"--out is {str(out)!r}; it must end in {' or '.join(WRITERS)}.")
    if writer is write_parquet:
        _arrow()
    return writer
