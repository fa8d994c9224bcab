"""A map of pictures: those whose codes are alike lie together."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from convlens.client._client import Client
from convlens.client._errors import InvalidRequest
from convlens.client._features import LayerSelection, Pooling
from convlens.client._labels import Label, Note, labeled_files
from convlens.client._picture_files import Name, Names
from convlens.client._results import Network
from convlens.client._text import printable
from convlens.client.studies._layout import (
    Points,
    Way,
    check_count,
    check_way,
    grid,
    nearest,
    plane,
)
from convlens.client.studies._study import Facts, Study, cell
from convlens.client.studies._thumbnails import Thumbnails, side_for, thumbnails
from convlens.client.studies._walk import (
    Progress,
    asking_codes,
    gathered,
    pictures_of,
    plan_of,
    unheard,
)

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

LOGITS = "logits"
# Neighbours that are compared, and pictures that trustworthiness is computed of: its time and
# memory grow with their square.
NEIGHBOURS, MOST_TRUSTED = 10, 4000
WORDS: Mapping[Way, str] = {"t-sne": "t-SNE", "pca": "PCA", "umap": "UMAP"}


@dataclass(frozen=True, slots=True)
class Kept:
    """What of the nearest neighbours in code space a map keeps.

    `count` neighbours of each picture are looked at. `on_map`, `in_codes` and `by_chance` are how
    many of them share its class, in the mean: among the nearest on the map, among those in code
    space, and among any. `trustworthiness` in [0, 1] is 1 where the nearest on the map are near in
    code space too (Venna & Kaski 2001). `of` says what class is meant: "label" or "prediction".
    """

    count: int
    of: str
    on_map: float
    in_codes: float
    by_chance: float
    trustworthiness: float


@dataclass(frozen=True, slots=True, eq=False)
class CodeMap(Study):
    """Pictures in the plane by their codes; row i of every array is of `pictures[i]`.

    `positions` [n, 2] are (x, y) with y pointing up, and `cells` [n, 2] the (row, column) of a grid
    of them. `labels` are as they were given, by the network's own words where it knows all of them;
    `right` [n] says whether the prediction is the label. Both are None where there are none, and
    `right` where they are of other classes. `probabilities` [n] in [0, 1] are those of the
    predictions.
    """

    name: ClassVar[str] = "map"
    heading: ClassVar[str] = "A map of the codes"
    facts: Facts
    layer: str
    way: Way
    pictures: Sequence[Path]
    names: Sequence[str]
    positions: Points
    cells: NDArray[np.int64]
    predictions: Sequence[str]
    probabilities: NDArray[np.float64]
    labels: Sequence[str] | None
    right: NDArray[np.bool_] | None
    kept: Kept
    thumbnails: Thumbnails

    @property
    def findings(self) -> Sequence[str]:
        """Whether neighbours on the map are neighbours in code space, and of one class."""
        kept = self.kept
        way, classes = WORDS[self.way], self.labels or self.predictions
        said: list[str] = []
        if len(set(classes)) == 1:
            said.append(f"All pictures have one {kept.of}: {printable(classes[0])}.")
        else:
            said.append(
                f"Of the {kept.count} nearest of a picture, {kept.on_map:.1f} share its {kept.of} "
                f"on the map, {kept.in_codes:.1f} in the codes of {printable(self.layer)}, and "
                f"{kept.by_chance:.1f} would by chance."
            )
        said.append(
            f"The map by {way} has a trustworthiness of {kept.trustworthiness:.3f}: 1 is a map "
            "whose neighbours all are neighbours in code space."
        )
        if self.right is not None:
            count = int(self.right.sum())
            said.append(f"The network is right about {count} of {len(self.right)} pictures.")
        elif self.labels is not None:
            said.append("The labels are not the network's classes, so none is right or wrong.")
        return said

    def tables(self) -> "Mapping[str, DataFrame]":
        """A line for each picture, and how much of code space the map keeps."""
        from pandas import DataFrame

        columns: dict[str, object] = {
            "picture": list(map(cell, self.pictures)),
            "x": self.positions[:, 0],
            "y": self.positions[:, 1],
        }
        if self.labels is not None:
            columns["label"] = list(self.labels)
        columns |= {
            "prediction": list(self.predictions),
            "probability": self.probabilities,
            "grid row": self.cells[:, 0],
            "grid column": self.cells[:, 1],
        }
        kept = self.kept
        share = f"of {kept.count} nearest with its {kept.of}"
        nearness = {
            f"{share}, on the map": kept.on_map,
            f"{share}, in the codes": kept.in_codes,
            f"{share}, by chance": kept.by_chance,
            "trustworthiness": kept.trustworthiness,
        }
        neighbours = DataFrame({"": list(nearness), "value": list(nearness.values())})
        return {"Neighbours": neighbours, "Positions": DataFrame(columns)}

    def figures(self) -> "Mapping[str, Image]":
        """The map with as many pictures as it has room for, and the grid with all of them."""
        from convlens.client.studies._map_sheets import grid_sheet, map_sheet

        way = WORDS[self.way]
        return {
            f"The codes of {self.layer} by {way}": map_sheet(self),
            "All pictures in a grid": grid_sheet(self),
        }

    def pages(self) -> Mapping[str, str]:
        """The map that can be zoomed and searched."""
        from convlens.client.studies._map_page import map_page

        return {"Interactive map": map_page(self)}


def code_map(
    client: Client,
    pictures: Names,
    *,
    layer: str = "cnn-code",
    way: Way = "t-sne",
    labels: Name | None = None,
    pooling: Pooling | None = None,
    seed: int = 0,
    network: str = "",
    state: Name | None = None,
    progress: Progress = unheard,
) -> CodeMap:
    """Lays pictures out in the plane so that those whose codes are alike lie together.

    `pictures` are files, folders and patterns. `labels` is a file of labels of one folder; without
    it, the folders that the pictures of one folder lie in are their labels. `pooling` is what
    becomes of the places of a map of the layer, else the mean. Raises NotFound where there is no
    such layer, InvalidRequest for fewer than three pictures, where a picture lacks its label, or
    where UMAP is asked for and not installed. By van der Maaten & Hinton 2008.
    """
    started = time.monotonic()
    check_way(way)
    if pooling not in (None, *get_args(Pooling)):
        known = ", ".join(get_args(Pooling))
        raise InvalidRequest(f"pooling is {pooling!r}; it must be one of {known}.")
    given = [pictures] if isinstance(pictures, str | os.PathLike) else list(pictures)
    paths = pictures_of(given)
    check_count(len(paths))
    known = _labels(given, paths, labels, lambda text: progress(text, 0, 0))
    served = client.network(network)
    wanted = [LayerSelection(layer, pooling or _pooling(served, layer))]
    if layer != LOGITS:
        wanted.append(LayerSelection(LOGITS))
    ask = asking_codes(client, served, wanted, progress)
    with gathered(
        paths, plan_of(served, wanted), ask, state=state, progress=progress, what="looking"
    ) as rows:
        codes = rows.rows(layer).reshape(len(rows.pictures), -1)
        check_count(len(codes))
        best, shares = _predicted(np.asarray(rows.rows(LOGITS)))
        if way != "pca":
            progress(f"laying out {len(codes)} codes by {WORDS[way]}", 0, 0)
        positions = plane(codes, way, seed)
        own = None if known is None else [known[path] for path in rows.pictures]
        names, truths = _named(own, served)
        predictions = [_word(served, index) for index in best]
        kept = _kept(codes, positions, names, predictions, seed)
        small = thumbnails(rows.pictures, side_for(len(rows.pictures)), progress)
        return CodeMap(
            rows.facts(served, time.monotonic() - started),
            layer,
            way,
            rows.pictures,
            _short(rows.pictures),
            positions,
            grid(positions),
            predictions,
            shares,
            names,
            None if truths is None else np.asarray(truths) == best,
            kept,
            small,
        )


def _labels(
    given: Sequence[str | os.PathLike[str]],
    paths: Sequence[Path],
    file: Name | None,
    note: Note,
) -> Mapping[Path, Label] | None:
    """The labels of the pictures; None where neither a file nor their folders have any."""
    folder = Path(given[0]) if len(given) == 1 else None
    if file is None:
        if folder is None or not folder.is_dir() or any(path.parent == folder for path in paths):
            return None
    elif folder is None:
        raise InvalidRequest("Labels are of the pictures of one folder; name that folder alone.")
    assert folder is not None
    return {each.path: each.label for each in labeled_files(folder, file, note)}


def _pooling(served: Network, name: str) -> Pooling:
    """Maps are far too many numbers for what a picture shows."""
    shapes = {layer.name: layer.output_shape for layer in served.anatomy.layers}
    return "avg" if len(shapes.get(name, ())) == 3 else "none"


def _predicted(logits: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The best class of each picture and its probability."""
    scores = logits.reshape(len(logits), -1).astype(np.float64)
    best = scores.argmax(axis=1)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return best, 1 / powers.sum(axis=1)


def _named(
    labels: Sequence[Label] | None, served: Network
) -> tuple[list[str] | None, list[int] | None]:
    """What the labels are called, and which classes they are where the network has all of them."""
    if labels is None:
        return None, None
    classes = [class_of(label, served) for label in labels]
    truths = [each for each in classes if each is not None]
    if len(truths) < len(classes):
        return [label.name for label in labels], None
    return [_word(served, index) for index in truths], truths


def class_of(label: Label, served: Network) -> int | None:
    """The index of the class that a label names; None where the network has none such."""
    target = label.target
    if target.WhichOneof("target") == "label":
        return served.labels.index(target.label) if target.label in served.labels else None
    return target.class_index if target.class_index < len(served.labels) else None


def _word(served: Network, index: int) -> str:
    return served.labels[index] if index < len(served.labels) else str(index)


def _kept(
    codes: NDArray[Any],
    positions: Points,
    labels: Sequence[str] | None,
    predictions: Sequence[str],
    seed: int,
) -> Kept:
    # Trustworthiness is only defined for fewer neighbours than half of the pictures.
    count = min(NEIGHBOURS, (len(codes) - 1) // 2)
    _, classes = np.unique(np.asarray(labels or predictions), return_inverse=True)
    sizes = np.bincount(classes)
    same_by_chance = float((sizes * (sizes - 1)).sum()) / (len(codes) * (len(codes) - 1))
    some = slice(None)
    if len(codes) > MOST_TRUSTED:
        some = np.random.default_rng(seed).choice(len(codes), MOST_TRUSTED, replace=False)
    manifold: Any = import_module("sklearn.manifold")
    trusted = manifold.trustworthiness(codes[some], positions[some], n_neighbors=count)
    return Kept(
        count,
        "prediction" if labels is None else "label",
        _sharing(classes, nearest(positions, count)),
        _sharing(classes, nearest(codes, count)),
        count * same_by_chance,
        float(trusted),
    )


def _sharing(classes: NDArray[Any], neighbours: NDArray[np.int64]) -> float:
    """How many neighbours of a picture have its class, in the mean."""
    return float((classes[neighbours] == classes[:, None]).sum(axis=1).mean())


def _short(paths: Sequence[Path]) -> list[str]:
    """The paths from the folder on that all of them lie in."""
    parents = {path.parent for path in paths}
    common = Path(os.path.commonpath(parents))
    return [os.path.relpath(path, common) for path in paths]
