"""How far pictures that are moved, enlarged or turned are from themselves, layer by layer."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convlens.client._client import Client
from convlens.client._errors import ConvLensError, InvalidRequest
from convlens.client._features import LayerSelection
from convlens.client._labels import check_classes, labeled_files
from convlens.client._picture_files import Name, Names
from convlens.client._results import Network
from convlens.client._spool import forget
from convlens.client._text import readable
from convlens.client.studies._input_pixels import input_pixels
from convlens.client.studies._study import Facts, Study
from convlens.client.studies._transforms import (
    Change,
    Fill,
    Kind,
    changed,
    check_fill,
    distinct,
    spread,
    steps_of,
)
from convlens.client.studies._walk import (
    Ask,
    Gathered,
    Progress,
    Row,
    asking_versions,
    below,
    gathered,
    pictures_of,
    plan_of,
    unheard,
)
from convlens.contract import digest

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

LOGITS = "logits"
#: Labels that are the names of the folders.
FOLDERS = "folders"
# Pictures among which the distance to another picture is measured, and versions of one as a sample.
OTHERS, SAMPLES = 50, 6


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What one kind of change does: its amounts, and what is found at each of them.

    `distances` [layers, pictures, changes] are 1 as far away as another picture; `probabilities`
    [pictures, changes] are those of each picture's class, and `unchanged` [pictures] of where
    nothing is changed. `sample` are some changed pictures.
    """

    changes: Sequence[Change]
    distances: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    unchanged: NDArray[np.float64]
    sample: Sequence[NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, eq=False)
class Invariance(Study):
    """Curves over translation, scale and rotation; by Zeiler & Fergus 2013, figure 5.

    `others` has, for each layer, the mean Euclidean distance between different pictures, by which
    all distances are divided; `classes` the true class of each picture.
    """

    name: ClassVar[str] = "invariance"
    heading: ClassVar[str] = "What moving, enlarging and turning a picture changes"
    facts: Facts
    layers: Sequence[str]
    pictures: Sequence[Path]
    classes: Sequence[str]
    others: Sequence[float]
    curves: Mapping[Kind, Curves]
    fill: Fill

    @property
    def findings(self) -> Sequence[str]:
        """Whether the first layer changes at once and the last gradually, and what is stable."""
        from convlens.client.studies._invariance_words import findings

        return findings(self.layers, self.curves)

    def tables(self) -> "Mapping[str, DataFrame]":
        """Means over the pictures, each picture's own numbers, and the unit of the distances."""
        from pandas import DataFrame

        names = [readable(path.name) for path in self.pictures]
        means: list[Any] = []
        each: list[Any] = []
        for kind, curves in self.curves.items():
            for number, change in enumerate(curves.changes):
                at = {"change": kind, "amount": change.amount}
                found = curves.distances[:, :, number]
                told = curves.probabilities[:, number]
                means.append([*at.values(), *found.mean(1), told.mean()])
                each += [
                    [names[p], self.classes[p], *at.values(), *found[:, p], told[p]]
                    for p in range(len(names))
                ]
        heads = ["change", "amount", *self.layers, "probability"]
        unit = {"layer": self.layers, "mean distance of different pictures": self.others}
        return {
            "Means": DataFrame(means, columns=heads),
            "Distance to another picture": DataFrame(unit),
            "Each picture": DataFrame(each, columns=["picture", "class", *heads]),
        }

    def figures(self) -> "Mapping[str, Image]":
        """As Zeiler & Fergus draw them; with more than two layers, the means of all of them."""
        from convlens.client.studies._invariance_chart import all_layers, first_and_last

        drawn = {"Distances and probability": first_and_last(self.layers, self.curves)}
        if len(self.layers) > 2:
            drawn["Mean distances of all layers"] = all_layers(self.layers, self.curves)
        return drawn


def invariance(
    client: Client,
    pictures: Names,
    layers: Sequence[str],
    *,
    translations: Sequence[float] | None = None,
    scales: Sequence[float] | None = None,
    rotations: Sequence[float] | None = None,
    fill: Fill = "mean",
    labels: Name | None = None,
    network: str = "",
    state: Name | None = None,
    progress: Progress = unheard,
) -> Invariance:
    """Moves, enlarges and turns pictures in steps, and compares their codes and probabilities.

    Each picture is brought to the network's input size first and changed there. `translations` are
    pixels downwards, by default 17 steps of up to a quarter of the height either way; `scales`
    factors around the centre, by default 1 to 1.8; `rotations` degrees counter-clockwise, by
    default 0 to 360 in steps of 15. What the picture leaves empty is filled by `fill`: the
    network's "mean" colour, the pixels of the "edge" repeated, or the picture in a "mirror".

    A distance is the Euclidean one of a layer's whole code to that of the unchanged picture,
    divided by the mean over pairs of at most 50 pictures of the folder. `labels` is a file of
    labels, or "folders" where each picture's folder names its class, of one folder of `pictures`;
    without it the true class is the network's own answer to the unchanged picture. Codes are not
    kept, only distances. Raises NotFound where there is no such layer, InvalidRequest where fewer
    than two pictures have an answer, or all of them have the same code.
    """
    started = time.monotonic()
    served = client.network(network)
    check_layers(layers)
    check_fill(fill)
    if served.kind == "linear":
        raise InvalidRequest(f"{served.name} takes no pictures that could be moved.")
    steps = steps_of(served.input, translations, scales, rotations)
    changes = distinct(steps)
    truth = {} if labels is None else _truth(served, pictures, labels, progress)
    paths = list(truth) or pictures_of(pictures)

    def vary(path: Path) -> list[NDArray[np.uint8]]:
        plain = input_pixels(path, served.input)
        return [plain, *(changed(plain, change, fill, served.input) for change in changes)]

    wanted = [LayerSelection(layer) for layer in dict.fromkeys([*layers, LOGITS])]
    ask = asking_versions(
        client, served, wanted, vary, 1 + len(changes), progress, geometry="as_is"
    )
    plan = plan_of(
        served,
        wanted,
        changes=[[change.kind, change.amount] for change in changes],
        fill=fill,
        labels=digest(repr(list(truth.values())).encode())[:16],
    )
    others = _others(client, served, layers, paths, state, progress)
    with gathered(
        paths,
        plan,
        _measuring(ask, layers, truth),
        state=below(state, "versions"),
        progress=progress,
        what="moving about",
    ) as rows:
        facts = rows.facts(served, time.monotonic() - started)
        curves = _curves(rows, steps, np.array(others), vary(rows.pictures[0]))
        indices: list[int] = rows.rows("class").tolist()
        classes = [served.labels[index] for index in indices]
        return Invariance(facts, list(layers), list(rows.pictures), classes, others, curves, fill)


def check_layers(layers: Sequence[str]) -> None:
    """Raises InvalidRequest where no layer is named, or one twice."""
    if isinstance(layers, str) or not layers:
        raise InvalidRequest("No layers are named; give a list of names of layers.")
    if twice := next((name for name in layers if list(layers).count(name) > 1), None):
        raise InvalidRequest(f"The layer {twice!r} is named twice; name it once.")


def mean_distance(codes: NDArray[Any]) -> float:
    """The mean Euclidean distance over all pairs of codes [pictures, ...]."""
    flat = codes.reshape(len(codes), -1)
    pairs = zip(*np.triu_indices(len(codes), 1), strict=True)
    return float(np.mean([_apart(flat[one], flat[other]) for one, other in pairs]))


def _apart(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.linalg.norm(np.subtract(one, other, dtype=np.float64)))


def _truth(served: Network, pictures: Names, labels: Name, progress: Progress) -> dict[Path, int]:
    """The pictures of a folder with the numbers of their classes."""
    names = [pictures] if isinstance(pictures, str | PathLike) else list(pictures)
    if len(names) != 1:
        raise InvalidRequest("With labels, the pictures must be those of one folder.")
    file = None if str(labels) == FOLDERS else Path(labels)
    files = labeled_files(names[0], file, lambda text: progress(text, 0, 0))
    check_classes(served, files)
    return {each.path: _class(each.label.target, served) for each in files}


def _class(target: Any, served: Network) -> int:
    if target.WhichOneof("target") == "label":
        return served.labels.index(target.label)
    return int(target.class_index)


def _measuring(ask: Ask, layers: Sequence[str], truth: Mapping[Path, int]) -> Ask:
    """Keeps of the codes of all versions the distances to the first, and one probability."""

    def measured(paths: Sequence[Path]) -> Iterator[Row | ConvLensError]:
        for path, row in zip(paths, ask(paths), strict=True):
            yield row if isinstance(row, ConvLensError) else _measured(row, layers, truth.get(path))

    return measured


def _measured(row: Row, layers: Sequence[str], truth: int | None) -> Row:
    logits = row[LOGITS].reshape(len(row[LOGITS]), -1).astype(np.float64)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    index = int(logits[0].argmax()) if truth is None else truth
    distances = [[_apart(code, row[layer][0]) for code in row[layer]] for layer in layers]
    return {
        "distances": np.array(distances),
        "probability": shares[:, index].copy(),
        "class": np.array(index),
    }


def _others(
    client: Client,
    served: Network,
    layers: Sequence[str],
    paths: Sequence[Path],
    state: Name | None,
    progress: Progress,
) -> list[float]:
    """For each layer, how far different pictures are from each other."""

    def vary(path: Path) -> list[NDArray[np.uint8]]:
        return [input_pixels(path, served.input)]

    wanted = [LayerSelection(layer) for layer in layers]
    ask = asking_versions(client, served, wanted, vary, 1, progress, geometry="as_is")
    places = np.linspace(0, len(paths) - 1, min(OTHERS, len(paths)))
    own = below(state, "others")
    with gathered(
        [paths[round(float(place))] for place in places],
        plan_of(served, wanted),
        ask,
        state=own,
        progress=progress,
        what="comparing different pictures",
    ) as rows:
        count = len(rows.pictures)
        found = [mean_distance(rows.rows(layer)) for layer in layers] if count > 1 else []
    if not found or not all(found):
        # The same pictures would end so again.
        if own:
            forget(own)
        raise InvalidRequest(_alike(layers, found))
    return found


def _alike(layers: Sequence[str], found: Sequence[float]) -> str:
    if not found:
        return (
            "Only one picture has an answer; give at least two, since distances are measured by "
            "that between different pictures."
        )
    layer = next(layer for layer, distance in zip(layers, found, strict=True) if not distance)
    return f"All pictures have the same code at {layer}; give pictures that differ."


def _curves(
    rows: Gathered,
    steps: Mapping[Kind, Sequence[Change]],
    others: NDArray[np.float64],
    versions: Sequence[NDArray[np.uint8]],
) -> dict[Kind, Curves]:
    """The numbers of each kind of change, from rows that have them for the distinct ones."""
    place = {change: number for number, change in enumerate(distinct(steps), 1)}
    distances = rows.rows("distances").transpose(1, 0, 2) / others[:, None, None]
    probabilities = np.array(rows.rows("probability"))
    made: dict[Kind, Curves] = {}
    for kind, changes in steps.items():
        at = [place.get(change, 0) for change in changes]
        sample = [versions[place.get(change, 0)] for change in spread(changes, SAMPLES)]
        found = distances[:, :, at], probabilities[:, at], probabilities[:, 0]
        made[kind] = Curves(changes, *found, sample)
    return made
