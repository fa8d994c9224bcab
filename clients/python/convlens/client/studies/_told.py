"""What networks tell of labelled pictures: by one crop or by the mean of many answers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.client._client import Client
from convlens.client._errors import ConvLensError, InvalidRequest
from convlens.client._features import LayerSelection
from convlens.client._picture_files import Name
from convlens.client._results import Network
from convlens.client.studies._crops import MIDDLE, check_scales, crops_of
from convlens.client.studies._study import Skipped
from convlens.client.studies._walk import (
    Ask,
    Gathered,
    Progress,
    Row,
    asking_codes,
    asking_versions,
    below,
    gathered,
    name_of,
    plan_of,
)

# Pictures whose probabilities are in memory at a time.
BLOCK = 256
LOGITS = [LayerSelection("logits")]


@dataclass(frozen=True, slots=True)
class Asking:
    """How each picture is looked at: so many crops at each scale, by each network."""

    networks: Sequence[Network]
    crops: int
    scales: Sequence[float]

    @property
    def is_plain(self) -> bool:
        """Whether pictures are sent as they are, and the server does the rest."""
        return self.crops == 1 and tuple(self.scales) == (1.0,)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to an answer: which networks and scales are averaged, and whether all crops are.

    `title` says it in words.
    """

    title: str
    networks: Sequence[int]
    scales: Sequence[int]
    all_crops: bool


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What one way tells of each picture, [pictures].

    `predicted` is the likeliest class and `confidence` its probability; `truth` is the true class's
    probability and `rank` its place, from 0.
    """

    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    truth: NDArray[np.float64]
    rank: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the likeliest class is the true one."""
        return self.rank == 0

    @classmethod
    def of(cls, probabilities: NDArray[Any], truth: NDArray[np.int64]) -> "Told":
        """Of probabilities [pictures, classes]; of equal ones, the class of the lower index."""
        rows = np.arange(len(truth))
        order = np.argsort(-probabilities, axis=1, kind="stable")
        rank = np.argmax(order == truth[:, None], axis=1)
        best = order[:, 0]
        return cls(best, probabilities[rows, best], probabilities[rows, truth], rank)

    @classmethod
    def joined(cls, parts: Sequence["Told"]) -> "Told":
        """Of pictures after each other."""
        return cls(
            np.concatenate([part.predicted for part in parts]),
            np.concatenate([part.confidence for part in parts]),
            np.concatenate([part.truth for part in parts]),
            np.concatenate([part.rank for part in parts]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The pictures that all networks answered, and what each way tells of them."""

    pictures: Sequence[Path]
    skipped: Sequence[Skipped]
    told: Mapping[str, Told]


def answers(
    client: Client,
    asking: Asking,
    truth: Mapping[str, int],
    state: Name | None,
    progress: Progress,
) -> Answers:
    """Asks all networks of all pictures (paths in `truth`, with the index of their class)."""
    paths = [Path(each) for each in truth]
    with ExitStack() as stack:
        gone_through = [
            stack.enter_context(
                gathered(
                    paths,
                    plan_of(served, LOGITS, crops=asking.crops, scales=list(asking.scales)),
                    _asking_probabilities(client, served, asking, progress),
                    state=below(state, f"network-{number}"),
                    progress=progress,
                    what=f"asking {name_of(served)}",
                )
            )
            for number, served in enumerate(asking.networks)
        ]
        pictures, places = _shared(gone_through)
        right = np.array([truth[str(path)] for path in pictures])
        parts: dict[str, list[Told]] = {way.title: [] for way in ways_of(asking)}
        for start in range(0, len(pictures), BLOCK):
            block = [
                np.asarray(rows.rows("probabilities")[place[start : start + BLOCK]], np.float64)
                for rows, place in zip(gone_through, places, strict=True)
            ]
            for way in ways_of(asking):
                found = Told.of(_mean(block, way), right[start : start + BLOCK])
                parts[way.title].append(found)
        skipped = {each.picture: each for rows in gone_through for each in rows.skipped}
        told = {title: Told.joined(each) for title, each in parts.items()}
        return Answers(pictures, list(skipped.values()), told)


def ways_of(asking: Asking) -> list[Way]:
    """The plainest way first: one crop, by the first network, at the scale next to 1; all last."""
    numbers = range(len(asking.scales))
    plain = min(numbers, key=lambda each: abs(asking.scales[each] - 1))
    many = asking.crops > 1
    found: list[Way] = []
    for number, served in enumerate(asking.networks):
        for scale in sorted(numbers, key=lambda each: each != plain):
            words = f", scale {asking.scales[scale]:g}" if not _is_own(asking) else ""
            name = name_of(served)
            found.append(Way(f"{name}{words}", [number], [scale], False))
            if many:
                found.append(Way(f"{name}{words}, 10 crops", [number], [scale], True))
        if len(numbers) > 1:
            found.append(Way(f"{name_of(served)}{_all(asking)}", [number], numbers, True))
    if len(asking.networks) > 1:
        words = f"{len(asking.networks)} networks together{_all(asking)}"
        found.append(Way(words, range(len(asking.networks)), numbers, True))
    return found


def check_asking(asking: Asking) -> None:
    """Raises InvalidRequest where networks know other classes, or cannot be asked so."""
    first = asking.networks[0]
    for other in asking.networks[1:]:
        if other.labels != first.labels:
            raise InvalidRequest(
                f"{name_of(other)} knows other classes than {name_of(first)}, or in another order; "
                "only networks of the same classes can answer together."
            )
    names = [name_of(served) for served in asking.networks]
    if len(set(names)) < len(names):
        raise InvalidRequest("A network is named twice; name each once.")
    if asking.crops not in MIDDLE:
        raise InvalidRequest(f"crops is {asking.crops}; it must be 1 or 10.")
    for served in asking.networks:
        if not asking.is_plain:
            check_scales(asking.scales, served.input, name_of(served))


def _all(asking: Asking) -> str:
    """All scales and crops, in words."""
    scales = f", {len(asking.scales)} scales" if len(asking.scales) > 1 else ""
    return scales + (", 10 crops" if asking.crops > 1 else "")


def _is_own(asking: Asking) -> bool:
    return tuple(asking.scales) == (1.0,)


def _mean(block: Sequence[NDArray[Any]], way: Way) -> NDArray[Any]:
    """Probabilities [pictures, classes] of those [pictures, scales, crops, classes] of networks."""
    crops = -1 if way.all_crops else 0
    return np.mean([block[each][:, list(way.scales), crops].mean(1) for each in way.networks], 0)


def _asking_probabilities(
    client: Client, served: Network, asking: Asking, progress: Progress
) -> Ask:
    """A row has "probabilities" [scales, 1 or 2, classes]: of the middle, and the mean of ten."""
    count = len(asking.scales) * asking.crops
    if asking.is_plain:
        ask = asking_codes(client, served, LOGITS, progress)
    else:

        def vary(path: Path) -> list[NDArray[np.uint8]]:
            return crops_of(path, served.input, asking.scales, asking.crops)

        ask = asking_versions(client, served, LOGITS, vary, count, progress, geometry="as_is")

    def averaged(paths: Sequence[Path]) -> Iterator[Row | ConvLensError]:
        for row in ask(paths):
            if isinstance(row, ConvLensError):
                yield row
                continue
            logits = row["logits"].reshape(len(asking.scales), asking.crops, -1)
            found = softmax(logits)
            parts = [found[:, MIDDLE[asking.crops]]]
            parts += [found.mean(1)] if asking.crops > 1 else []
            yield {"probabilities": np.stack(parts, 1).astype(np.float32)}

    return averaged


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Over the last dimension, in double precision."""
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _shared(gone_through: Sequence[Gathered]) -> tuple[list[Path], list[NDArray[np.int64]]]:
    """The pictures that all have, and where their rows are in each."""
    numbers = [{path: i for i, path in enumerate(rows.pictures)} for rows in gone_through]
    shared = [path for path in gone_through[0].pictures if all(path in each for each in numbers)]
    if not shared:
        raise InvalidRequest("No picture has an answer of all networks.")
    return shared, [np.array([each[path] for path in shared]) for each in numbers]
