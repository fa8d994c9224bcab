"""How much of the classes a linear classifier reads from each layer of a network."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convlens.client._client import Client
from convlens.client._errors import InvalidRequest
from convlens.client._features import LayerSelection
from convlens.client._labels import LabeledFile, labeled_files
from convlens.client._picture_files import Name
from convlens.client._text import printable
from convlens.client.studies._codes import MOST_NUMBERS, asking_grids, in_order
from convlens.client.studies._study import Facts, Study
from convlens.client.studies._walk import Gathered, Progress, gathered, plan_of, unheard

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

# Pictures of each class to learn from where nobody says how many, at most; as with Caltech-101.
PER_CLASS = 30
SPLITS = 5


@dataclass(frozen=True, slots=True)
class Probe:
    """A linear classifier on the codes of a layer: `kind` is "SVM" or "softmax".

    `dimensions` is how many numbers the code has, and `is_reduced` whether PCA made it of more.
    `accuracies` in [0, 1] are of the splits, each the mean over the classes.
    """

    layer: str
    kind: str
    dimensions: int
    is_reduced: bool
    accuracies: Sequence[float]

    @property
    def mean(self) -> float:
        """Of the splits."""
        return float(np.mean(self.accuracies))

    @property
    def deviation(self) -> float:
        """The sample standard deviation of the splits; 0 of a single one."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Layers(Study):
    """Accuracies of linear classifiers, layer by layer: Zeiler & Fergus 2013, table 7.

    `layers` are in the order of depth. `per_class` pictures of each class are learned from in each
    split, and all others judged by. `probes` has those of whole and of reduced codes.
    """

    name: ClassVar[str] = "layers"
    heading: ClassVar[str] = "What a linear classifier reads from each layer"
    facts: Facts
    layers: Sequence[str]
    classes: Sequence[str]
    per_class: int
    probes: Sequence[Probe]
    note: str = ""

    def probe(self, layer: str, kind: str = "SVM", dimensions: int | None = None) -> Probe:
        """That of whole codes, or of codes reduced to so many dimensions; KeyError for none."""
        for each in self.probes:
            size = each.dimensions if each.is_reduced else None
            if (each.layer, each.kind, size) == (layer, kind, dimensions):
                return each
        raise KeyError(f"{layer} has no {kind} of {dimensions or 'all'} dimensions")

    @property
    def findings(self) -> Sequence[str]:
        """The best layer, whether deeper ones are better, and what reduced codes keep."""
        from convlens.client.studies._layer_words import layer_words

        return [*layer_words(self), *([self.note] if self.note else [])]

    def tables(self) -> "Mapping[str, DataFrame]":
        """A line for each layer, and one for each layer and number of dimensions; in percent."""
        from pandas import DataFrame

        made = {"Accuracy by layer": DataFrame(self._rows(reduced=False))}
        if reduced := self._rows(reduced=True):
            made["Accuracy of reduced codes"] = DataFrame(reduced)
        return made

    def figures(self) -> "Mapping[str, Image]":
        """Accuracy against depth and, where codes were reduced, against dimensions."""
        from convlens.client.studies._layers_chart import depth_chart, dimensions_chart

        made = {"Accuracy against depth": depth_chart(self)}
        if any(each.is_reduced for each in self.probes):
            made["Accuracy against dimensions"] = dimensions_chart(self)
        return made

    def _rows(self, *, reduced: bool) -> list[dict[str, Any]]:
        rows: dict[tuple[str, int], dict[str, Any]] = {}
        for each in self.probes:
            if each.is_reduced == reduced:
                row = rows.setdefault(
                    (each.layer, each.dimensions),
                    {"layer": each.layer, "dimensions": each.dimensions},
                )
                row[f"{each.kind} %"] = round(100 * each.mean, 2)
                row[f"{each.kind} ±"] = round(100 * each.deviation, 2)
        told = {"trained on, per class": self.per_class, "splits": len(self.probes[0].accuracies)}
        return [row | told for row in rows.values()]


def layers(
    client: Client,
    folder: Name,
    layers: Sequence[str],
    *,
    labels: Name | None = None,
    per_class: int | None = None,
    splits: int = SPLITS,
    dimensions: Sequence[int] = (),
    network: str = "",
    seed: int = 0,
    state: Name | None = None,
    progress: Progress = unheard,
) -> Layers:
    """Learns linear classifiers from the codes of each layer, and judges them on other pictures.

    Each picture's folder names its class, or `labels` does (CSV with columns file and label, or
    JSON); the classes need not be the network's. `layers` are names that `Client.network` lists,
    "cnn-code" or "logits". In each of `splits` random splits, `per_class` pictures of each class
    are learned from (left out, half of the smallest class, 30 at most), and all others judged by;
    accuracies are means over the classes.

    Codes are scaled to length 1 (Chatfield et al. 2014). Maps of more than 4,096 numbers are
    max-pooled to a grid first: the place of things is kept as finely as that allows. With
    `dimensions`, codes are also reduced by a PCA of the training pictures. The classifiers are
    scikit-learn's LinearSVC and LogisticRegression, whose penalty is chosen by cross-validation
    within the training pictures. Memory is that of the training codes of one layer. Raises
    NotFound where there is no such layer, InvalidRequest where the labels do not match, there are
    fewer than two classes, or a class has too few pictures.
    """
    started = time.monotonic()
    _check(splits, dimensions)
    files = labeled_files(folder, labels, lambda text: progress(text, 0, 0))
    _per_class(files, per_class)
    served = client.network(network)
    order = in_order(served, layers)
    plan = plan_of(served, [LayerSelection(name) for name in order], numbers=MOST_NUMBERS)
    ask = asking_grids(client, served, order, progress)
    paths = [file.path for file in files]
    with gathered(paths, plan, ask, state=state, progress=progress, what="reading") as rows:
        known = {str(file.path): file for file in files}
        answered = [known[str(path)] for path in rows.pictures]
        count = _per_class(answered, per_class)
        classes = sorted({file.label.name for file in answered})
        truth = np.array([classes.index(file.label.name) for file in answered])
        probes = _probes(rows, order, truth, (count, splits, seed), dimensions, progress)
        facts = rows.facts(served, time.monotonic() - started)
    return Layers(facts, order, classes, count, probes, _note(order, dimensions, probes))


def _check(splits: int, dimensions: Sequence[int]) -> None:
    if splits < 1:
        raise InvalidRequest(f"splits is {splits}; it must be at least 1.")
    for each in dimensions:
        if each < 1:
            raise InvalidRequest(f"dimensions has {each}; it must be at least 1.")


def _per_class(files: Sequence[LabeledFile], wanted: int | None) -> int:
    """How many pictures of each class to learn from; InvalidRequest where there are too few."""
    counts: dict[str, int] = {}
    for file in files:
        counts[file.label.name] = counts.get(file.label.name, 0) + 1
    if len(counts) < 2:
        raise InvalidRequest(
            f"All pictures are of the class {printable(next(iter(counts)))!r}; a classifier needs "
            "at least two."
        )
    least = min(counts, key=counts.__getitem__)
    count = max(1, min(PER_CLASS, counts[least] // 2)) if wanted is None else wanted
    if count < 1:
        raise InvalidRequest(f"per_class is {count}; it must be at least 1.")
    if counts[least] <= count:
        most = counts[least] - 1
        advice = f"ask for {most} at most, or add some" if most else "add some, or leave it out"
        raise InvalidRequest(
            f"{printable(least)!r} has {counts[least]} picture{'s' if most else ''}; {count} to "
            f"learn from would leave none to judge by: {advice}."
        )
    return count


def _probes(
    rows: Gathered,
    order: Sequence[str],
    truth: NDArray[np.int64],
    plan: tuple[int, int, int],
    dimensions: Sequence[int],
    progress: Progress,
) -> list[Probe]:
    # It takes a second to import, and nothing of it is needed before.
    from convlens.client.studies._probes import scores, splits_of

    per_class, splits, seed = plan
    wanted = sorted(set(dimensions))
    made: list[Probe] = []
    for number, layer in enumerate(order):
        codes = rows.rows(layer)
        found: dict[tuple[int, str], list[float]] = {}
        for turn, split in enumerate(splits_of(truth, per_class, splits, seed)):
            for key, score in scores(codes, truth, split, wanted).items():
                found.setdefault(key, []).append(score)
            progress("learning", number * splits + turn + 1, len(order) * splits)
        made += [
            Probe(layer, kind, size or codes.shape[1], size > 0, tuple(accuracies))
            for (size, kind), accuracies in found.items()
        ]
    return made


def _note(order: Sequence[str], dimensions: Sequence[int], probes: Sequence[Probe]) -> str:
    """Which reductions there are none of."""
    there = {(each.layer, each.dimensions) for each in probes if each.is_reduced}
    missing = [
        f"{printable(layer)} to {size}"
        for layer in order
        for size in sorted(set(dimensions))
        if (layer, size) not in there
    ]
    if not missing:
        return ""
    return (
        f"Not reduced, since neither the codes nor the training pictures have so many dimensions: "
        f"{', '.join(missing)}."
    )
