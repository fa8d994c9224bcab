"""Which classes a request is about."""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from torch import Tensor

from convlens.contract.validation import Violation, invalid
from convlens.v1.target_pb2 import ClassScore, Target
from convlens.workers.methods.goals import BestScore, score_of
from convlens.workers.mistakes import nearest
from convlens.workers.runner import Objective

PREDICTION = Target(rank=1)


class Targets:
    """The targets of a request, checked against the labels of a network; none is the prediction.

    `path` is where they stand in the request, with their number.

    Raises Failure INVALID_REQUEST with every target that there is not.
    """

    def __init__(
        self, targets: Sequence[Target], labels: Sequence[str], path: str = "targets[{}]"
    ) -> None:
        self._targets = list(targets) or [PREDICTION]
        self._labels = labels
        self._path = path
        if broken := list(self._violations()):
            raise invalid(broken)

    def __len__(self) -> int:
        return len(self._targets)

    def known(self) -> list[Objective]:
        """The scores of classes that are named, each once, or else the best if it is asked for.

        The best may be that of a class that is named, and is not asked for beside it.
        """
        given = [target for target in self._targets if not target.HasField("rank")]
        if given:
            return list(dict.fromkeys(score_of(self._index(target, ())) for target in given))
        return [BestScore()] if PREDICTION in self._targets else []

    def of(self, scores: Tensor) -> list[ClassScore]:
        """The classes that the targets are for a picture with these scores [classes]."""
        ranked = cast("list[int]", scores.argsort(descending=True, stable=True).tolist())
        indices = [self._index(target, ranked) for target in self._targets]
        return class_scores(indices, scores, self._labels)

    def fixed(self) -> list[int]:
        """The classes, where they are known without a picture.

        Raises Failure INVALID_REQUEST where one is given by its rank.
        """
        words = "is a rank, and there is no picture that has one; name the class by index or label"
        if ranks := [
            Violation(field=f"{self._path.format(number)}.rank", description=words)
            for number, target in enumerate(self._targets)
            if target.HasField("rank")
        ]:
            raise invalid(ranks)
        return [self._index(target, ()) for target in self._targets]

    def _index(self, target: Target, ranked: Sequence[int]) -> int:
        if target.HasField("rank"):
            return ranked[target.rank - 1]
        if target.HasField("label"):
            return self._labels.index(target.label)
        return target.class_index

    def _violations(self) -> Iterator[Violation]:
        for number, target in enumerate(self._targets):
            kind = target.WhichOneof("target")
            if words := self._wrong(target):
                yield Violation(field=f"{self._path.format(number)}.{kind}", description=words)

    def _wrong(self, target: Target) -> str:
        count = len(self._labels)
        if target.HasField("class_index") and target.class_index >= count:
            return f"is {target.class_index}; this network has the classes 0 to {count - 1}"
        if target.HasField("rank") and target.rank > count:
            return f"is {target.rank}; must be at most {count}, the classes of this network"
        if not target.HasField("label"):
            return ""
        found = [n for n, label in enumerate(self._labels) if label == target.label]
        if not found:
            return f"is {target.label!r}, which is no label; {nearest(target.label, self._labels)}"
        if len(found) > 1:
            several = " and ".join(map(str, found))
            return f"is the label of the classes {several}; name one of them by class_index"
        return ""


def class_scores(indices: Iterable[int], scores: Tensor, labels: Sequence[str]) -> list[ClassScore]:
    """What scores [classes] say of some classes."""
    chances = scores.softmax(dim=0)
    return [
        ClassScore(
            class_index=index,
            label=labels[index],
            logit=float(scores[index]),
            probability=float(chances[index]),
        )
        for index in indices
    ]
