"""An index of codes: in a folder of this machine, or on a server of Qdrant, by the same calls."""

import hashlib
import os
import sqlite3
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from convlens.client._errors import ConvLensError, InvalidRequest
from convlens.client._text import printable, readable
from convlens.client.studies._walk import Progress

COLLECTION = "convlens"
#: The environment's key for a server.
KEY_VARIABLE = "QDRANT_API_KEY"
# Points of one request; what an interruption may lose.
BATCH = 64
# Seconds that a server has for a request, and the longest vector that it takes.
PATIENCE, LONGEST = 60, 65_536
# The part of a collection's metadata that is ours.
ABOUT = "convlens"
# What a folder has before any picture is in it.
META, LOCK = "meta.json", ".lock"
# What the library says of a choice that is made here, not by whoever reads it.
NOISE = ("Local mode is not recommended", "Payload indexes have no effect", "Api key is used")


@dataclass(frozen=True, slots=True)
class IndexedPicture:
    """A picture as an index knows it; `size` in bytes and `changed` in ns tell whether it is so."""

    picture: Path
    size: int = -1
    changed: int = -1
    label: str | None = None

    @classmethod
    def of(cls, path: Path, label: str | None = None) -> "IndexedPicture":
        """The picture of a file as it is now."""
        absolute = Path(os.path.abspath(path))
        try:
            status = absolute.stat()
        except (OSError, ValueError):
            return cls(absolute, label=label)
        return cls(absolute, status.st_size, status.st_mtime_ns, label)

    @classmethod
    def of_payload(cls, payload: Mapping[str, Any] | None) -> "IndexedPicture":
        """What `payload` became of."""
        known = payload or {}
        picture, label = Path(str(known.get("picture", ""))), known.get("label")
        return cls(picture, known.get("size", -1), known.get("changed", -1), label)

    @property
    def id(self) -> str:
        """A number of the path, as Qdrant wants it."""
        return str(UUID(bytes=hashlib.sha256(os.fsencode(self.picture)).digest()[:16]))

    @property
    def payload(self) -> dict[str, Any]:
        """What the index keeps beside the code."""
        known = {"picture": readable(str(self.picture)), "size": self.size, "changed": self.changed}
        return known if self.label is None else {**known, "label": readable(self.label)}


@dataclass(frozen=True, slots=True)
class Hit:
    """A picture that a search found; `similarity` is the cosine."""

    id: str
    picture: IndexedPicture
    similarity: float


class CodeIndex:
    """Codes of Euclidean length 1 with their pictures, in a collection of Qdrant."""

    def __init__(self, qdrant: QdrantClient, where: str, collection: str) -> None:
        self.where = where
        self._qdrant = qdrant
        self._collection = collection
        self._is_local = "://" not in where

    def __len__(self) -> int:
        if not self._qdrant.collection_exists(self._collection):
            return 0
        return self._qdrant.count(self._collection, exact=True).count

    def about(self) -> Mapping[str, Any] | None:
        """What its codes are of, as it was begun; None where nothing was."""
        if not self._qdrant.collection_exists(self._collection):
            return None
        metadata = self._qdrant.get_collection(self._collection).config.metadata or {}
        if ABOUT not in metadata:
            raise InvalidRequest(
                f"The collection {printable(self._collection)!r} of {printable(self.where)} is not "
                "ConvLens's, or of a Qdrant before 1.16; name another collection."
            )
        return metadata[ABOUT]

    def begin(self, size: int, about: Mapping[str, Any]) -> None:
        """Makes the collection for codes of so many numbers."""
        if size > LONGEST:
            raise InvalidRequest(
                f"The code has {size} numbers, and an index takes {LONGEST}; choose pooling 'avg'."
            )
        # Of vectors of length 1 the dot product is the cosine.
        form = models.VectorParams(size=size, distance=models.Distance.DOT)
        self._qdrant.create_collection(
            self._collection, vectors_config=form, metadata={ABOUT: dict(about)}
        )
        # A server counts labels by it.
        with _quiet():
            self._qdrant.create_payload_index(
                self._collection, "label", models.PayloadSchemaType.KEYWORD
            )

    def missing(self, pictures: Sequence[IndexedPicture]) -> list[IndexedPicture]:
        """Those that it has not, or has as they were before."""
        if not self._qdrant.collection_exists(self._collection):
            return list(pictures)
        known = self.known(pictures)
        return [each for each in pictures if each.payload != known.get(each.id)]

    def known(self, pictures: Sequence[IndexedPicture]) -> dict[str, Mapping[str, Any]]:
        """The payloads of those that it has, by their ids."""
        found: dict[str, Mapping[str, Any]] = {}
        for batch in _batches(pictures):
            ids = [each.id for each in batch]
            for record in self._qdrant.retrieve(self._collection, ids, with_payload=True):
                found[str(record.id)] = record.payload or {}
        return found

    def add(self, codes: Sequence[tuple[IndexedPicture, NDArray[Any]]]) -> None:
        """Adds pictures with their codes [numbers]; those that are there are replaced."""
        points = [self._point(each, code) for each, code in codes]
        with _quiet():
            self._qdrant.upsert(self._collection, points, wait=True)

    def _point(self, picture: IndexedPicture, code: NDArray[Any]) -> models.PointStruct:
        if not self._is_local:
            return models.PointStruct(id=picture.id, vector=code.tolist(), payload=picture.payload)
        # A folder's file has the vectors as they are given, and all of them are read when it is
        # opened: arrays take a third of the memory that lists of Python's numbers do.
        vector: Any = {"": np.asarray(code, np.float32)}
        return models.PointStruct.model_construct(
            id=picture.id, vector=vector, payload=picture.payload
        )

    def nearest(self, codes: NDArray[Any], count: int) -> list[list[Hit]]:
        """For each of the codes [n, numbers], the `count` most similar pictures, best first."""
        asked = [
            models.QueryRequest(query=code.tolist(), limit=count, with_payload=True)
            for code in codes
        ]
        answers = self._qdrant.query_batch_points(self._collection, asked)
        return [
            [
                Hit(str(point.id), IndexedPicture.of_payload(point.payload), point.score)
                for point in answer.points
            ]
            for answer in answers
        ]

    def labels(self) -> dict[str, int]:
        """How many pictures there are of each class that has a name."""
        answer = self._qdrant.facet(self._collection, "label", limit=len(self) or 1, exact=True)
        return {str(hit.value): hit.count for hit in answer.hits}


@contextmanager
def opened(
    index: str | os.PathLike[str], collection: str, progress: Progress, *, new: bool = False
) -> Generator[CodeIndex, None, None]:
    """The index in a folder, or on the server of a URL ("http://host:6333").

    A `new` one may be made; its folder is gone again where nothing came into it. Raises
    InvalidRequest where there is none, it is damaged, in use, or does not answer.
    """
    where = os.fspath(index)
    if "://" in where:
        with _told(where), _server(where, progress) as qdrant:
            yield CodeIndex(qdrant, where, collection)
        return
    folder = Path(where)
    made = _check_folder(folder, new=new)
    with _told(where):
        try:
            with _local(folder) as qdrant:
                yield CodeIndex(qdrant, where, collection)
        finally:
            if made:
                _remove_empty(folder)


@contextmanager
def _server(url: str, progress: Progress) -> Generator[QdrantClient, None, None]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(
            f"The index {printable(url)} is no address; give http://HOST:6333, or a folder."
        )
    key = os.environ.get(KEY_VARIABLE) or None
    if key and parts.scheme == "http":
        progress(f"{KEY_VARIABLE} goes to {printable(url)} in the clear; use https://", 0, 0)
    with _quiet():
        # Its version is not asked for: it would warn where the server does not answer, and go on.
        qdrant = QdrantClient(url=url, api_key=key, timeout=PATIENCE, check_compatibility=False)
    try:
        yield qdrant
    finally:
        qdrant.close()


@contextmanager
def _local(folder: Path) -> Generator[QdrantClient, None, None]:
    try:
        with _quiet():
            qdrant = QdrantClient(path=str(folder))
    except (ValueError, LookupError, TypeError, AttributeError, EOFError, sqlite3.Error) as error:
        words = f"The index {printable(str(folder))} is damaged: {printable(str(error))}"
        raise InvalidRequest(f"{words}; remove it, or name another.") from error
    except RuntimeError as error:
        raise InvalidRequest(
            f"Another program has the index {printable(str(folder))} open; wait for it, or keep it "
            "on a server of Qdrant."
        ) from error
    try:
        yield qdrant
    finally:
        qdrant.close()


def _check_folder(folder: Path, *, new: bool) -> bool:
    """Whether the folder is still to be made; InvalidRequest where it cannot be an index."""
    name = printable(str(folder))
    if (folder / META).is_file():
        return False
    if folder.is_dir() and any(folder.iterdir()):
        raise InvalidRequest(f"The folder {name} is no index; name another, or a new one.")
    if folder.exists() and not folder.is_dir():
        raise InvalidRequest(f"{name} is a file; an index is a folder, or http://HOST:6333.")
    if not new:
        raise InvalidRequest(f"There is no index {name}; 'index_pictures' makes one.")
    return True


def _remove_empty(folder: Path) -> None:
    """What was made for nothing is gone again."""
    if not (folder / "collection").exists():
        with suppress(OSError):
            for name in (LOCK, META):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


@contextmanager
def _told(where: str) -> Generator[None, None, None]:
    """What the library raises, in words."""
    name = printable(where)
    try:
        yield
    except ConvLensError:
        # Some of them are OSErrors too.
        raise
    except ResponseHandlingException as error:
        words = f"The index {name} does not answer: {printable(str(error.source))}"
        raise InvalidRequest(f"{words}; check the address, or name a folder.") from error
    except UnexpectedResponse as error:
        advice = f"; set {KEY_VARIABLE}" if error.status_code in (401, 403) else ""
        words = f"The index {name} refused: {error.status_code} {printable(_reason(error))}"
        raise InvalidRequest(f"{words}{advice}.") from error
    except (sqlite3.Error, OSError) as error:
        words = f"The index {name} cannot be read or written: {printable(str(error))}"
        raise InvalidRequest(f"{words}; what is in it is whole.") from error


def _reason(error: UnexpectedResponse) -> str:
    with suppress(ValueError, LookupError, TypeError):
        return str(error.structured()["status"]["error"])
    return error.reason_phrase


@contextmanager
def _quiet() -> Generator[None, None, None]:
    with warnings.catch_warnings():
        for begin in NOISE:
            warnings.filterwarnings("ignore", begin)
        yield


def _batches(pictures: Sequence[IndexedPicture]) -> Iterable[Sequence[IndexedPicture]]:
    for start in range(0, len(pictures), BATCH):
        yield pictures[start : start + BATCH]
