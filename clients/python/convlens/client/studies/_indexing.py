"""Puts the codes of pictures into an index."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.client._client import Client
from convlens.client._errors import ConvLensError, InvalidRequest
from convlens.client._features import LayerSelection, Pooling
from convlens.client._picture_files import Name, Names, find, found
from convlens.client._results import Network
from convlens.client._text import printable
from convlens.client.studies._code_index import (
    BATCH,
    COLLECTION,
    CodeIndex,
    IndexedPicture,
    opened,
)
from convlens.client.studies._study import Skipped
from convlens.client.studies._walk import Progress, asking_codes, name_of, plan_of, unheard

LAYER = "cnn-code"


@dataclass(frozen=True, slots=True)
class CodesIndexed:
    """What came of indexing pictures; `pictures` is how many the index has now, `added` by this."""

    index: str
    network: str
    network_digest: str
    layer: str
    pooling: str
    pictures: int
    added: int
    seconds: float
    skipped: Sequence[Skipped] = ()


def index_pictures(
    client: Client,
    pictures: Names,
    index: Name,
    *,
    layer: str = LAYER,
    pooling: Pooling | None = None,
    network: str = "",
    collection: str = COLLECTION,
    progress: Progress = unheard,
) -> CodesIndexed:
    """Puts the codes of pictures, scaled to length 1, into an index of Qdrant.

    `pictures` are files, folders and patterns; the folders in a folder name classes. `index` is a
    folder, made where it is not there, or the URL of a server, "http://host:6333" (its API key:
    QDRANT_API_KEY); a server may have several, as collections. `pooling` makes one vector of maps:
    "avg", where it is not given. What the index has of unchanged files is not asked for again,
    so after an interruption at most 64 pictures are. Raises InvalidRequest where the index is of
    another network or layer, or no picture of it has an answer.
    """
    started = time.monotonic()
    wanted = labelled(pictures)
    served = client.network(network)
    chosen = LayerSelection(layer, pooling or _pooling(client, served, layer), l2_normalize=True)
    plan = plan_of(served, [chosen])
    with opened(index, collection, progress, new=True) as codes:
        about = codes.about()
        check(codes, about, plan)
        added, skipped = _index(client, served, chosen, wanted, codes, about is None, progress)
        have = len(codes)
    if not have:
        raise InvalidRequest(f"No picture has an answer; the first: {skipped[0].message}")
    took = time.monotonic() - started
    pooled = str(chosen.pooling)
    return CodesIndexed(
        os.fspath(index), name_of(served), served.digest, layer, pooled, have, added, took, skipped
    )


def labelled(names: Names) -> list[IndexedPicture]:
    """The pictures, each once; of a folder of folders, with these folders' names."""
    # It raises where there are none.
    found(names)
    listed = [names] if isinstance(names, str | os.PathLike) else names
    known: dict[str, IndexedPicture] = {}
    for given in listed:
        name = os.fspath(given)
        for path in find(name):
            named = os.path.isdir(name) and path.parent != Path(name)
            each = IndexedPicture.of(path, path.parent.name if named else None)
            known.setdefault(each.id, each)
    return list(known.values())


def _pooling(client: Client, served: Network, layer: str) -> Pooling:
    """How the layer becomes one vector: maps by their means, anything else as it is."""
    shapes = {each.name: each.output_shape for each in served.anatomy.layers}
    if layer not in shapes:
        # What an alias stands for is seen in what it gives.
        blank = np.zeros((served.input.height, served.input.width, served.input.channels), np.uint8)
        codes = client.extract_features(blank, layer, network=name_of(served)).codes
        shapes[layer] = codes[0].values.shape
    return "avg" if len(shapes[layer]) == 3 else "flatten"


def check(codes: CodeIndex, about: Mapping[str, Any] | None, plan: Mapping[str, Any]) -> None:
    """Codes of other networks and layers say nothing about each other."""
    advice = "name another index, or another collection of it"
    for key in ("network_digest", "precision", "layers"):
        if about is not None and about.get(key) != plan[key]:
            before, now = _words(key, about), _words(key, plan)
            raise InvalidRequest(
                f"The index {printable(codes.where)} has codes of {before}, and now they are of "
                f"{now}; {advice}."
            )


def _words(key: str, plan: Mapping[str, Any]) -> str:
    if key == "layers":
        [layer] = plan["layers"]
        return f"{layer['name']} with pooling {layer['pooling']}"
    if key == "precision":
        return str(plan.get(key))
    return f"{plan['network']} ({plan['network_digest'][:12]})"


def _index(
    client: Client,
    served: Network,
    chosen: LayerSelection,
    wanted: Sequence[IndexedPicture],
    codes: CodeIndex,
    is_new: bool,
    progress: Progress,
) -> tuple[int, list[Skipped]]:
    """How many were added, and which ones have no answer."""
    missing = codes.missing(wanted)
    done = len(wanted) - len(missing)
    progress("indexing", done, len(wanted))
    ask = asking_codes(client, served, [chosen], progress)
    waiting: list[tuple[IndexedPicture, NDArray[Any]]] = []
    skipped: list[Skipped] = []

    def put() -> None:
        nonlocal is_new
        if waiting and is_new:
            codes.begin(waiting[0][1].size, plan_of(served, [chosen]))
            is_new = False
        if waiting:
            codes.add(waiting)
            waiting.clear()

    answers = ask([each.picture for each in missing])
    for each, row in zip(missing, answers, strict=True):
        done += 1
        if isinstance(row, ConvLensError):
            skipped.append(Skipped(str(each.picture), row.reason, row.message))
        else:
            waiting.append((each, row[chosen.layer].ravel()))
        if len(waiting) == BATCH:
            put()
        progress("indexing", done, len(wanted))
    put()
    return len(missing) - len(skipped), skipped
