"""Goes through many pictures once, and keeps on disk what was found of each."""

import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.client._client import Client
from convlens.client._errors import ConvLensError, InvalidRequest
from convlens.client._features import Features, LayerSelection
from convlens.client._images import ImageInput
from convlens.client._patience import patiently
from convlens.client._picture_files import Name, Names, found
from convlens.client._results import Network
from convlens.client._spool import Spool, SpoolError, Unwritable
from convlens.client._text import shown
from convlens.client.studies._study import Facts, Skipped

#: Told what is being done, how much of it is done, and how much there is.
Progress: TypeAlias = Callable[[str, int, int], object]
#: What is found of one picture, by name.
Row: TypeAlias = Mapping[str, NDArray[Any]]
#: The outcomes of pictures, in their order.
Ask: TypeAlias = Callable[[Sequence[Path]], Iterable[Row | ConvLensError]]
#: The versions of a picture that are asked for, from its file; raises ConvLensError.
Vary: TypeAlias = Callable[[Path], Sequence[ImageInput]]
# Pictures and their versions that are in memory at a time.
MOST_VERSIONS = 256


def unheard(what: str, done: int, total: int) -> None:
    """Progress that nobody listens to."""


def pictures_of(names: Names) -> list[Path]:
    """The pictures of files, folders and patterns, each once, in the order named.

    Raises InvalidRequest where there is none.
    """
    kept: dict[str, Path] = {}
    for path in found(names):
        kept.setdefault(os.path.abspath(path), path)
    return list(kept.values())


def below(state: Name | None, name: str) -> Path | None:
    """The part of a state that has one of several walks."""
    return None if state is None else Path(state) / name


@dataclass(frozen=True, slots=True)
class Gathered:
    """Rows of the pictures that have an answer: row i is of `pictures[i]`."""

    pictures: Sequence[Path]
    skipped: Sequence[Skipped]
    _spool: Spool

    def rows(self, name: str) -> NDArray[Any]:
        """All rows [pictures, ...] of an array; they stay on disk until they are read."""
        form = self._spool.forms[self._number(name)]
        file = self._spool.path(self._number(name))
        return np.memmap(file, form.dtype, "r", shape=(len(self.pictures), *form.shape))

    def blocks(self, name: str, size: int) -> Iterator[NDArray[Any]]:
        """The rows of an array, `size` at a time."""
        return self._spool.blocks(self._number(name), size)

    def facts(self, served: Network, seconds: float) -> Facts:
        """What a study says of these pictures and this network."""
        return Facts(
            name_of(served), served.digest, len(self.pictures), seconds, tuple(self.skipped)
        )

    def _number(self, name: str) -> int:
        return [form.name for form in self._spool.forms].index(name)


@contextmanager
def gathered(
    paths: Sequence[Path],
    plan: Mapping[str, Any],
    ask: Ask,
    *,
    state: Name | None,
    progress: Progress,
    what: str,
) -> Generator[Gathered, None, None]:
    """The rows of all pictures, of which those that `state` has are not asked for again.

    `plan` is JSON that says what is computed: rows of runs that agree in it belong together.
    `state` is a folder that stays; without it, rows are kept only as long as this is open. Raises
    InvalidRequest where the state is of something else, or no picture has an answer.
    """
    with ExitStack() as stack:
        if state is None:
            state = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "rows"
        with spool_errors():
            spool = spool_at(Path(state), plan)
            stack.callback(spool.close)
            done = spool.resume(paths)
            progress(what, done, len(paths))
            for path, row in zip(paths[done:], ask(paths[done:]), strict=True):
                spool.add(path, row)
                progress(what, spool.done, len(paths))
        good = [Path(each.picture) for each in spool.entries() if each.error is None]
        skipped = [
            Skipped(each.picture, each.error["reason"], each.error["message"])
            for each in spool.entries()
            if each.error is not None
        ]
        if not good:
            spool.remove()
            raise InvalidRequest(f"No picture has an answer; the first: {skipped[0].message}")
        yield Gathered(good, skipped, spool)


def spool_at(folder: Path, plan: Mapping[str, Any]) -> Spool:
    """The spool in a folder, which is made; InvalidRequest where it cannot be."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Spool(folder, plan)
    except OSError as error:
        words = f"{shown(folder)} cannot be written: {error.strerror}; name another folder"
        raise InvalidRequest(f"{words}.") from error


@contextmanager
def spool_errors() -> Generator[None, None, None]:
    """What is wrong with a spool, as InvalidRequest."""
    try:
        yield
    except Unwritable as error:
        raise InvalidRequest(f"{error}. {error.advice}.") from error
    except SpoolError as error:
        raise InvalidRequest(
            f"{error}; name another state (--out), or remove this one (--overwrite) to begin anew."
        ) from error


def asking_codes(
    client: Client,
    served: Network,
    layers: Sequence[LayerSelection],
    progress: Progress,
    **options: Any,
) -> Ask:
    """Asks for the codes of pictures as they are; a row has each layer under its selected name.

    With max pooling, "NAME.positions" has the places. `options` are those of
    `extract_features_stream`.
    """

    def ask(paths: Sequence[Path]) -> Iterator[Row | ConvLensError]:
        for result in _codes(client, served, layers, paths, progress, options):
            yield result if isinstance(result, ConvLensError) else row_of(result)

    return ask


def asking_versions(
    client: Client,
    served: Network,
    layers: Sequence[LayerSelection],
    vary: Vary,
    count: int,
    progress: Progress,
    **options: Any,
) -> Ask:
    """Asks for the codes of `count` versions of each picture; a row has [count, ...] of a layer."""

    def ask(paths: Sequence[Path]) -> Iterator[Row | ConvLensError]:
        size = max(1, MOST_VERSIONS // count)
        for start in range(0, len(paths), size):
            yield from _of_versions(list(map(_tried(vary), paths[start : start + size])))

    def _of_versions(
        made: Sequence[Sequence[ImageInput] | ConvLensError],
    ) -> Iterator[Row | ConvLensError]:
        sent = [one for each in made if not isinstance(each, ConvLensError) for one in each]
        answers = _codes(client, served, layers, sent, progress, options)
        for each in made:
            if isinstance(each, ConvLensError):
                yield each
                continue
            results = [next(answers) for _ in each]
            failed = [one for one in results if isinstance(one, ConvLensError)]
            yield failed[0] if failed else _stacked(results)

    return ask


def row_of(features: Features) -> Row:
    """The codes of a picture by the names under which they were selected."""
    row: dict[str, NDArray[Any]] = {}
    for name, code in zip(features.selected, features.codes, strict=True):
        row[name] = code.values
        if code.positions is not None:
            row[f"{name}.positions"] = code.positions
    return row


def name_of(served: Network) -> str:
    """The network with its version, so that all calls ask the same one."""
    return f"{served.name}@{served.version}"


def plan_of(served: Network, layers: Sequence[LayerSelection], **more: Any) -> dict[str, Any]:
    """What makes rows belong together: the network, what is read of it, and `more` (JSON)."""
    return {
        "network": name_of(served),
        "network_digest": served.digest,
        "precision": served.precision,
        "layers": [
            {
                "name": layer.layer,
                "pooling": layer.pooling or "none",
                "dtype": layer.dtype or "float32",
                "l2_normalize": bool(layer.l2_normalize),
            }
            for layer in layers
        ],
        **more,
    }


def _codes(
    client: Client,
    served: Network,
    layers: Sequence[LayerSelection],
    images: Sequence[ImageInput],
    progress: Progress,
    options: Mapping[str, Any],
) -> Iterator[Features | ConvLensError]:
    def begin(position: int) -> Generator[Features | ConvLensError, None, None]:
        return client.extract_features_stream(
            images[position:], layers, network=name_of(served), on_error="return", **options
        )

    def note(text: str) -> None:
        progress(text, 0, 0)

    for result in patiently(begin, len(images), note):
        if isinstance(result, Features) and result.receipt.network_digest != served.digest:
            raise InvalidRequest(f"{name_of(served)} became another network meanwhile.")
        yield result


def _tried(vary: Vary) -> Callable[[Path], Sequence[ImageInput] | ConvLensError]:
    def versions(path: Path) -> Sequence[ImageInput] | ConvLensError:
        try:
            return vary(path)
        except ConvLensError as error:
            return error

    return versions


def _stacked(results: Sequence[Any]) -> Row:
    rows = [row_of(result) for result in results]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
