"""What a network loses without some of its layers, and without being trained again."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.client._client import Client
from convlens.client._errors import ConvLensError, FailedPrecondition, InvalidRequest, NotFound
from convlens.client._features import LayerSelection, Removal
from convlens.client._labels import LabeledFile, check_classes, labeled_files
from convlens.client._picture_files import Name
from convlens.client._results import Network
from convlens.client._text import printable
from convlens.client.studies._removable import lecture_groups, likely_layers
from convlens.client.studies._shares import wilson
from convlens.client.studies._study import Facts, Study
from convlens.client.studies._walk import (
    Ask,
    Gathered,
    Progress,
    Row,
    asking_codes,
    gathered,
    name_of,
    plan_of,
    unheard,
)

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

LOGITS = LayerSelection("logits")
# Pictures that go through all variants of the network before the next ones do, and are computed
# again after an interruption; more of them where there are few variants.
FEWEST, PASSES = 8, 1024
# Rows that are in memory at a time.
BLOCK = 4096
Variant: TypeAlias = tuple[str, ...]
#: What went on in the place of each removed layer.
How: TypeAlias = Mapping[str, Removal]


@dataclass(frozen=True, slots=True)
class Without:
    """How often the network is right without some layers; `how` says what stood for each of them.

    `kind` is the layer's ("Conv2d"), "block" or "group"; empty for the whole network.
    """

    how: How
    kind: str
    right: int
    pictures: int

    @property
    def title(self) -> str:
        """The names of the layers."""
        return " + ".join(self.how) or "none"

    @property
    def accuracy(self) -> float:
        """The share of the pictures for which the true class has the largest score."""
        return self.right / self.pictures

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of the accuracy, at a level of 95 %."""
        return wilson(self.right, self.pictures)

    @property
    def passes_on(self) -> bool:
        """Whether what they take went on in the place of all of them."""
        return all(each == "identity" for each in self.how.values())


@dataclass(frozen=True, slots=True, eq=False)
class RemovalStudy(Study):
    """The accuracy without layers; Zeiler & Fergus 2013, table 3, without training again.

    `whole` is the network with all its layers, `single` are those without one layer, in the order
    of computation, `groups` those without several. `left_out` are layers that cannot be removed,
    and why. `shares` are those of the true classes among the pictures.
    """

    name: ClassVar[str] = "removal"
    heading: ClassVar[str] = "What a network loses without its layers"
    facts: Facts
    whole: Without
    single: Sequence[Without]
    groups: Sequence[Without]
    left_out: Mapping[str, str]
    shares: Mapping[str, float]

    def lost(self, without: Without) -> float:
        """The accuracy that is lost, from -1 to 1."""
        return self.whole.accuracy - without.accuracy

    @property
    def findings(self) -> Sequence[str]:
        """What single layers cost, what groups do, and whether the lectures' shape shows."""
        from convlens.client.studies._removal_words import findings

        return findings(self)

    def tables(self) -> "Mapping[str, DataFrame]":
        """A line for the whole network, for each layer and for each group."""
        from pandas import DataFrame

        rows = [
            {
                "removed": each.title,
                "kind": each.kind,
                "in its place": " + ".join(each.how.values()),
                "right": each.right,
                "pictures": each.pictures,
                "accuracy": each.accuracy,
                "low": each.interval[0],
                "high": each.interval[1],
                "lost": self.lost(each),
            }
            for each in (self.whole, *self.single, *self.groups)
        ]
        found = {"Accuracy without layers": DataFrame(rows)}
        if self.left_out:
            left = [{"layer": name, "why": why} for name, why in self.left_out.items()]
            found["Layers that cannot be removed"] = DataFrame(left)
        return found

    def figures(self) -> "Mapping[str, Image]":
        """A bar for each layer and group: the accuracy lost."""
        from convlens.client.studies._removal_chart import bars

        return {"Accuracy lost without layers": bars(self)}


def removal(
    client: Client,
    folder: Name,
    *,
    layers: Sequence[str] | None = None,
    groups: Sequence[Sequence[str]] | None = None,
    labels: Name | None = None,
    network: str = "",
    state: Name | None = None,
    progress: Progress = unheard,
) -> RemovalStudy:
    """Measures the accuracy of a network without single layers, and without groups of them.

    `folder` has labelled pictures, FOLDER/CLASS/..., or `labels` is a file of their classes.
    `layers` are all that can be removed of the kinds convolution, pooling, linear and residual
    block; `groups` are those of the lectures (the middle convolutions, the fully connected layers,
    and both) and all residual blocks that keep their shape; with `layers` named, none. What a
    removed layer takes goes on in its place where it has the shape of what it gives, zeros else: as
    `ExtractFeaturesRequest.removed_layers` says. Zeiler & Fergus 2013, arXiv:1311.2901, table 3,
    train again; this does not.

    Each picture takes one pass for the whole network, each layer and each group. Raises NotFound
    where there is no such layer, FailedPrecondition where one cannot be removed, and InvalidRequest
    for labels that the network does not have, a layer named twice, or no picture with an answer.
    """
    started = time.monotonic()
    served = client.network(network)
    files = labeled_files(folder, labels, lambda text: progress(text, 0, 0))
    check_classes(served, files)
    _check(layers, groups)
    known = {each.name: each.kind for each in served.anatomy.layers}
    single, left_out = _single(client, served, layers, progress)
    if groups is None:
        groups = lecture_groups(served.anatomy.layers, single) if layers is None else ()
    together = [_probed(client, served, tuple(group)) for group in groups]
    found: list[How] = [{}, *({name: how} for name, how in single.items()), *together]
    variants = [tuple(how) for how in found]
    ask = _asking(client, served, variants, progress)
    plan = plan_of(served, [LOGITS], removed=[list(each) for each in variants])
    paths = [file.path for file in files]
    with gathered(paths, plan, ask, state=state, progress=progress, what="removing") as rows:
        kinds = ["", *(known.get(name, "block") for name in single), *["group"] * len(together)]
        whole, *rest = (
            Without(how, kind, right, len(rows.pictures))
            for how, kind, right in zip(found, kinds, _right(rows, files, served), strict=True)
        )
        return RemovalStudy(
            rows.facts(served, time.monotonic() - started),
            whole,
            rest[: len(single)],
            rest[len(single) :],
            left_out,
            _shares(files, rows),
        )


def _check(layers: Sequence[str] | None, groups: Sequence[Sequence[str]] | None) -> None:
    if layers is not None and not layers and not groups:
        raise InvalidRequest("No layer is named; leave them out for all that can be removed.")
    for name in layers or ():
        if list(layers or ()).count(name) > 1:
            raise InvalidRequest(f"Layer {printable(name)!r} is named twice; name each once.")
    for group in groups or ():
        if len(group) < 2 or len(set(group)) < len(group):
            words = printable(" + ".join(group))
            raise InvalidRequest(f"The group {words!r} must have two layers or more, each once.")


def _single(
    client: Client, served: Network, layers: Sequence[str] | None, progress: Progress
) -> tuple[dict[str, Removal], dict[str, str]]:
    """What stands for each layer, and for those that nobody named why they cannot be removed."""
    names = likely_layers(served.anatomy.layers) if layers is None else layers
    single: dict[str, Removal] = {}
    left_out: dict[str, str] = {}
    for number, name in enumerate(names):
        progress("looking at layers", number, len(names))
        try:
            single.update(_probed(client, served, (name,)))
        except (NotFound, FailedPrecondition) as error:
            if layers is not None:
                raise
            left_out[name] = error.message
    progress("looking at layers", len(names), len(names))
    if not single and layers is None:
        raise InvalidRequest(f"No layer of {served.name} can be removed; name some.")
    return single, left_out


def _probed(client: Client, served: Network, layers: Variant) -> How:
    """What stands for each of the layers, as a black picture tells."""
    size = served.input
    shape = (size.width,) if served.kind == "linear" else (size.height, size.width, size.channels)
    found = client.extract_features(
        np.zeros(shape, np.float32),
        [LOGITS],
        geometry="as_is",
        network=name_of(served),
        removed_layers=layers,
    )
    return found.removed


def _asking(
    client: Client, served: Network, variants: Sequence[Variant], progress: Progress
) -> Ask:
    """Asks for the class that each variant of the network predicts, [variants]; -1 is none."""
    size = max(FEWEST, PASSES // len(variants))
    asks = [
        asking_codes(client, served, [LOGITS], progress, removed_layers=each) for each in variants
    ]

    def ask(paths: Sequence[Path]) -> Iterator[Row | ConvLensError]:
        for start in range(0, len(paths), size):
            yield from _predicted(asks, paths[start : start + size])

    return ask


def _predicted(asks: Sequence[Ask], paths: Sequence[Path]) -> Iterator[Row | ConvLensError]:
    """The predictions of all variants; what failed once is not asked for again."""
    classes = np.full((len(paths), len(asks)), -1, np.int64)
    failed: dict[int, ConvLensError] = {}
    for variant, ask in enumerate(asks):
        left = [index for index in range(len(paths)) if index not in failed]
        for index, row in zip(left, ask([paths[each] for each in left]), strict=True):
            if isinstance(row, ConvLensError):
                failed[index] = row
            elif np.isfinite(row[LOGITS.layer]).all():
                classes[index, variant] = row[LOGITS.layer].argmax()
    for index in range(len(paths)):
        yield failed.get(index) or {"predicted": classes[index]}


def _right(rows: Gathered, files: Sequence[LabeledFile], served: Network) -> list[int]:
    """How many pictures each variant is right about."""
    truths = {str(file.path): _classes(served, file) for file in files}
    right: NDArray[np.int64] | int = 0
    start = 0
    for block in rows.blocks("predicted", BLOCK):
        for path, predicted in zip(rows.pictures[start:], block, strict=False):
            right = right + np.isin(predicted, truths[str(path)])
        start += len(block)
    return np.asarray(right).tolist()


def _classes(served: Network, file: LabeledFile) -> list[int]:
    """The classes that are right; several may have one name."""
    target = file.label.target
    if target.WhichOneof("target") != "label":
        return [target.class_index]
    return [index for index, label in enumerate(served.labels) if label == target.label]


def _shares(files: Sequence[LabeledFile], rows: Gathered) -> dict[str, float]:
    """The share of each true class among the pictures with an answer, the largest first."""
    names = {str(file.path): file.label.name for file in files}
    counts = Counter(names[str(path)] for path in rows.pictures)
    return {name: count / len(rows.pictures) for name, count in counts.most_common()}
