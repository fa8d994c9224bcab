"""How often networks are right on a labelled folder, where they are wrong, and how sure."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from convlens.client._client import Client
from convlens.client._errors import InvalidRequest
from convlens.client._labels import LabeledFile, check_classes, labeled_files
from convlens.client._picture_files import Name
from convlens.client._results import Network
from convlens.client._text import shown
from convlens.client.studies._attributes import Attribute, attributes_of
from convlens.client.studies._shares import (
    Bin,
    Share,
    bins_of,
    calibration_error,
    share_of,
    shares_by,
)
from convlens.client.studies._study import Facts, Study
from convlens.client.studies._told import Asking, Told, answers, check_asking
from convlens.client.studies._walk import Progress, name_of, unheard

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

# Classes of which it says nothing whether the truth is among five.
FIVE = 5


@dataclass(frozen=True, slots=True)
class Mistake:
    """A picture that was told wrong.

    `confidence` is the probability of the class that was `told`, `truth` that of the `true` one,
    and `rank` the place of that, from 1.
    """

    picture: Path
    true: str
    told: str
    confidence: float
    truth: float
    rank: int


@dataclass(frozen=True, slots=True, eq=False)
class Accuracy(Study):
    """What networks tell of labelled pictures.

    `labels` are the networks' classes, and `truth` [pictures] the index of each picture's. `told`
    has what was told by each way of asking, the plainest first; the last one takes all crops,
    scales and networks together, and what is said of classes, factors, confidence and mistakes is
    of that one.
    """

    name: ClassVar[str] = "accuracy"
    heading: ClassVar[str] = "How often the network is right"
    facts: Facts
    labels: Sequence[str]
    pictures: Sequence[Path]
    truth: NDArray[np.int64]
    told: Mapping[str, Told]
    factors: Sequence[Attribute] = ()

    @property
    def last(self) -> Told:
        """What all crops, scales and networks together tell."""
        return list(self.told.values())[-1]

    @property
    def classes(self) -> list[Share]:
        """The classes that pictures have, the hardest first."""
        of = [self.labels[int(index)] for index in self.truth]
        names = [self.labels[int(index)] for index in np.unique(self.truth)]
        return sorted(shares_by(names, of, self.last.right), key=lambda each: each.share)

    @property
    def confusions(self) -> list[tuple[str, str, int]]:
        """The true class, the told one and how often, of all mistakes; the most frequent first."""
        wrong = ~self.last.right
        pairs = np.stack([self.truth[wrong], self.last.predicted[wrong]], 1)
        found, counts = np.unique(pairs, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return [
            (self.labels[int(true)], self.labels[int(told)], int(times))
            for (true, told), times in zip(found[order], counts[order], strict=True)
        ]

    @property
    def bins(self) -> list[Bin]:
        """Accuracy against confidence: 15 bins of the same width, without empty ones."""
        return bins_of(self.last.confidence, self.last.right)

    @property
    def calibration_error(self) -> float:
        """ECE in [0, 1]; Guo et al. 2017, https://arxiv.org/abs/1706.04599, equation 3."""
        return calibration_error(self.bins)

    @property
    def mistakes(self) -> list[Mistake]:
        """The pictures that were told wrong, the surest mistake first."""
        wrong = np.flatnonzero(~self.last.right)
        order = wrong[np.argsort(-self.last.confidence[wrong], kind="stable")]
        return [self._mistake(number) for number in order.tolist()]

    def top(self, count: int) -> dict[str, Share]:
        """How often the true class is among so many best ones, by each way of asking."""
        return {title: share_of(title, told.rank < count) for title, told in self.told.items()}

    def by(self, factor: Attribute) -> list[Share]:
        """Accuracy by the values of a factor."""
        return shares_by(factor.values, factor.of, self.last.right)

    def _mistake(self, number: int) -> Mistake:
        told = self.last
        return Mistake(
            self.pictures[number],
            self.labels[int(self.truth[number])],
            self.labels[int(told.predicted[number])],
            float(told.confidence[number]),
            float(told.truth[number]),
            int(told.rank[number]) + 1,
        )

    @property
    def findings(self) -> Sequence[str]:
        """Accuracy, the hardest classes, what helped, what matters, and how sure it is."""
        from convlens.client.studies._accuracy_words import accuracy_words

        return accuracy_words(self)

    def tables(self) -> "Mapping[str, DataFrame]":
        """Shares with Wilson's intervals of 95 %, confusions, calibration and mistakes."""
        from convlens.client.studies._accuracy_tables import accuracy_tables

        return accuracy_tables(self)

    def figures(self) -> "Mapping[str, Image]":
        """Accuracy by way of asking, by class and by factor, confusion, calibration, mistakes."""
        from convlens.client.studies._accuracy_charts import accuracy_charts

        return accuracy_charts(self)


def accuracy(
    client: Client,
    folder: Name,
    *,
    labels: Name | None = None,
    networks: Sequence[str] = ("",),
    crops: int = 1,
    scales: Sequence[float] = (1.0,),
    factors: Name | None = None,
    state: Name | None = None,
    progress: Progress = unheard,
) -> Accuracy:
    """Compares what networks tell of pictures with what they show.

    Each picture's folder names its class, or `labels` does (CSV with columns file and label, or
    JSON). Probabilities are averaged over `networks` of the same classes ("" is the default one),
    over `crops` (1, or the ten of Krizhevsky et al. 2012: corners and middle, and their mirror
    images) and over `scales`: shorter sides of the resized picture, as multiples of the network's
    own, at least as large as what it takes. `factors` is a CSV whose column file names pictures
    within the folder; accuracy is told by each further column, numbers in quarters. Probabilities
    are kept on disk. Raises InvalidRequest where the labels do not match, a class is none of the
    network's, networks differ in their classes, or nothing has an answer.
    """
    started = time.monotonic()
    files = labeled_files(folder, labels, lambda text: progress(text, 0, 0))
    if not networks:
        raise InvalidRequest("No network is named; leave them out for the default one.")
    served = [client.network(name) for name in networks]
    asking = Asking(served, crops, tuple(map(float, scales)))
    check_asking(asking)
    check_classes(served[0], files)
    if factors is not None:
        # What is wrong with the table is said before hours of asking.
        attributes_of(factors, folder, [file.path for file in files])
    truth = {str(file.path): _index(served[0], file) for file in files}
    found = answers(client, asking, truth, state, progress)
    facts = Facts(
        ", ".join(map(name_of, served)),
        ", ".join(each.digest for each in served),
        len(found.pictures),
        time.monotonic() - started,
        tuple(found.skipped),
    )
    return Accuracy(
        facts,
        served[0].labels,
        found.pictures,
        np.array([truth[str(path)] for path in found.pictures]),
        found.told,
        _known(factors, folder, found.pictures, progress),
    )


def _index(served: Network, file: LabeledFile) -> int:
    target = file.label.target
    return served.labels.index(target.label) if target.label else int(target.class_index)


def _known(
    factors: Name | None, folder: Name, pictures: Sequence[Path], progress: Progress
) -> Sequence[Attribute]:
    """The factors, and a note of pictures that have none."""
    if factors is None:
        return ()
    found = attributes_of(factors, folder, pictures)
    if missing := sum(not any(values) for values in zip(*(each.of for each in found), strict=True)):
        progress(f"{shown(Path(factors))} says nothing of {missing} of the pictures.", 0, 0)
    return found
