"""A person against the network: who is right about which pictures."""

import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from convlens.client._client import Client
from convlens.client._errors import InvalidRequest
from convlens.client._features import LayerSelection
from convlens.client._labels import LabeledFile, check_classes, labeled_files
from convlens.client._picture_files import Name
from convlens.client._results import Network
from convlens.client._text import json_text, percent
from convlens.client.studies._code_map import class_of
from convlens.client.studies._human_game import (
    MOST_GUESSES,
    Answers,
    Game,
    Question,
    table_of,
)
from convlens.client.studies._human_server import serving
from convlens.client.studies._pages import page
from convlens.client.studies._shares import Share, chance
from convlens.client.studies._study import Facts, Study, cell
from convlens.client.studies._walk import (
    Gathered,
    Progress,
    asking_codes,
    gathered,
    name_of,
    plan_of,
    spool_at,
    spool_errors,
    unheard,
)
from convlens.contract import digest

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

LOGITS = LayerSelection("logits")
CONFIDENCE = 0.95
WHO = ("human", "network")
# Seconds after which a Ctrl-C is heard where waiting does not end by it.
BEAT = 0.5


@dataclass(frozen=True, slots=True)
class Answered:
    """One picture: its true class, and the answers of both, the likeliest first.

    `probability` in [0, 1] is that of the network's first.
    """

    picture: Path
    truth: str
    human: Sequence[str]
    network: Sequence[str]
    human_is_right: bool
    network_is_right: bool
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class HumanStudy(Study):
    """A person and the network on the same pictures; after Karpathy 2014.

    `table` [2, 2] counts pictures by the first answers: rows are the person right and wrong,
    columns the network right and wrong. `first` and `guesses` are the accuracies of both, "human"
    and "network", by their first answers and by any of `guess_count`. `p_value` is McNemar's, exact
    and two-sided: how likely so uneven a table of differences is where both are equally good.
    """

    name: ClassVar[str] = "human"
    heading: ClassVar[str] = "A person against the network"
    facts: Facts
    answered: Sequence[Answered]
    table: NDArray[np.int64]
    first: Mapping[str, Share]
    guesses: Mapping[str, Share]
    guess_count: int
    p_value: float

    @property
    def findings(self) -> Sequence[str]:
        """Who was right more often, and whether that may be chance."""
        human, network = self.first["human"], self.first["network"]
        said = [
            f"The person is right about {_words(human)}, the network about {_words(network)}.",
        ]
        only_human, only_network = int(self.table[0, 1]), int(self.table[1, 0])
        if only_human + only_network == 0:
            said.append("They are right about the same pictures.")
        else:
            verdict = "may be chance" if self.p_value >= 1 - CONFIDENCE else "is hardly chance"
            said.append(
                f"Only the person is right about {only_human}, only the network about "
                f"{only_network}; such a difference {verdict} (McNemar's exact "
                f"p = {self.p_value:.2g})."
            )
        if self.guess_count > 1:
            human, network = self.guesses["human"], self.guesses["network"]
            said.append(
                f"With up to {self.guess_count} answers to a picture the person is right about "
                f"{_words(human)}, the network about {_words(network)}."
            )
        return said

    def tables(self) -> "Mapping[str, DataFrame]":
        """The accuracies, the table of both, and every answer."""
        from pandas import DataFrame

        counts = (
            {1: self.first}
            if self.guess_count == 1
            else {1: self.first, self.guess_count: self.guesses}
        )
        accuracies = [
            {
                "who": who,
                "answers": count,
                "right": share.right,
                "of": share.count,
                "accuracy": share.share,
                "lowest": share.low,
                "highest": share.high,
            }
            for count, shares in counts.items()
            for who, share in shares.items()
        ]
        both = DataFrame(
            {
                "": ["human right", "human wrong"],
                "network right": self.table[:, 0],
                "network wrong": self.table[:, 1],
            }
        )
        answers = [
            {
                "picture": cell(each.picture),
                "label": each.truth,
                "human": " | ".join(each.human),
                "network": " | ".join(each.network),
                "probability": each.probability,
                "human right": each.human_is_right,
                "network right": each.network_is_right,
            }
            for each in self.answered
        ]
        return {
            "Accuracy": DataFrame(accuracies),
            "Human and network": both,
            "Answers": DataFrame(answers),
        }

    def figures(self) -> "Mapping[str, Image]":
        """The table, and the pictures about which only one is right."""
        from convlens.client.studies._human_sheets import differences, two_by_two

        drawn = {"Who is right": two_by_two(self)}
        if any(each.human_is_right != each.network_is_right for each in self.answered):
            drawn["Where they differ"] = differences(self)
        return drawn


def human(
    client: Client,
    folder: Name,
    *,
    labels: Name | None = None,
    count: int | None = None,
    guesses: int = 1,
    seed: int = 0,
    opened: Callable[[str], None] = print,
    network: str = "",
    state: Name | None = None,
    progress: Progress = unheard,
) -> HumanStudy:
    """Has a person label the pictures of a folder on a local page, and compares with the network.

    `opened` is told the address of the page, which is answered on this machine alone, until the
    person has had enough. At most `count` pictures come, in an order by `seed`, and a person gives
    up to `guesses` answers to each, 1 to 5. What the page has of a picture before the answer is its
    pixels. Answers are on disk at once: with the same `state` a later call goes on. Raises
    InvalidRequest where a picture lacks a label, or the network such a class.
    """
    started = time.monotonic()
    _check(count, guesses)
    files = labeled_files(folder, labels, lambda text: progress(text, 0, 0))
    served = client.network(network)
    check_classes(served, files)
    order: list[int] = np.random.default_rng(seed).permutation(len(files)).tolist()
    chosen = [files[index] for index in order[:count]]
    truths = {each.path: class_of(each.label, served) for each in chosen}
    paths = list(truths)
    with (
        _kept(state) as kept,
        gathered(
            paths,
            plan_of(served, [LOGITS]),
            asking_codes(client, served, [LOGITS], progress),
            state=kept / "network",
            progress=progress,
            what="asking the network",
        ) as rows,
    ):
        questions = _questions(rows, truths, guesses)
        plan = _plan(served, chosen, questions, guesses)
        with _answers(kept / "answers", plan, questions) as answers:
            game = Game(questions, answers, len(served.labels), guesses)
            _play(game, _page_of(served, guesses), opened, progress)
        facts = rows.facts(served, time.monotonic() - started)
        return _study(served, facts, questions, game.given, guesses)


def _check(count: int | None, guesses: int) -> None:
    if count is not None and count < 1:
        raise InvalidRequest(f"count is {count}; it must be at least 1.")
    if not 1 <= guesses <= MOST_GUESSES:
        raise InvalidRequest(f"guesses is {guesses}; it must be 1 to {MOST_GUESSES}.")


@contextmanager
def _kept(state: Name | None) -> Generator[Path, None, None]:
    """The folder of the state; without one, of what lasts as long as this."""
    if state is not None:
        yield Path(state)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _questions(rows: Gathered, truths: Mapping[Path, int | None], guesses: int) -> list[Question]:
    scores = np.asarray(rows.rows("logits"), np.float64).reshape(len(rows.pictures), -1)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :guesses]
    shares = 1 / np.exp(scores - scores.max(axis=1, keepdims=True)).sum(axis=1)
    return [
        # check_classes has found a class for every label.
        Question(path, cast(int, truths[path]), best[number].tolist(), float(shares[number]))
        for number, path in enumerate(rows.pictures)
    ]


def _plan(
    served: Network, chosen: Sequence[LabeledFile], questions: Sequence[Question], guesses: int
) -> dict[str, Any]:
    """What makes answers belong together."""
    ids = {each.path: each.id for each in chosen}
    asked = json_text([[ids[each.picture], each.truth] for each in questions])
    return {
        "network": name_of(served),
        "network_digest": served.digest,
        "guesses": guesses,
        "questions": f"{len(questions)} ({digest(asked.encode())[:12]})",
    }


@contextmanager
def _answers(
    folder: Path, plan: Mapping[str, Any], questions: Sequence[Question]
) -> Generator[Answers, None, None]:
    """The answers of a state; InvalidRequest where it is of others, or the disk is full."""
    with spool_errors(), closing(spool_at(folder, plan)) as spool:
        yield Answers(spool, questions)


def _page_of(served: Network, guesses: int) -> str:
    lead = f"{name_of(served)}, {len(served.labels)} classes"
    data = {"classes": list(served.labels), "guesses": guesses}
    return page("human", heading=HumanStudy.heading, lead=lead, data=data, guesses=guesses)


def _play(game: Game, page: str, opened: Callable[[str], None], progress: Progress) -> None:
    """Serves the page until the person has had enough."""
    with serving(game, page) as address:
        opened(address)
        done = -1
        with game.changed:
            while not game.is_parted and game.failure is None:
                if done != len(game.given):
                    done = len(game.given)
                    progress("answered", done, len(game.questions))
                game.changed.wait(BEAT)
    if game.failure is not None:
        raise game.failure


def _study(
    served: Network,
    facts: Facts,
    questions: Sequence[Question],
    given: Sequence[Sequence[int]],
    guesses: int,
) -> HumanStudy:
    def words(classes: Sequence[int]) -> list[str]:
        return [served.labels[each] for each in classes]

    asked = questions[: len(given)]
    answered = [
        Answered(
            each.picture,
            served.labels[each.truth],
            words(classes),
            words(each.network),
            classes[0] == each.truth,
            each.network[0] == each.truth,
            each.probability,
        )
        for each, classes in zip(asked, given, strict=True)
    ]
    table = table_of(asked, given)
    first = {"human": table[0].sum(), "network": table[:, 0].sum()}
    several = {
        "human": sum(each.truth in classes for each, classes in zip(asked, given, strict=True)),
        "network": sum(each.truth in each.network for each in asked),
    }
    return HumanStudy(
        Facts(facts.network, facts.network_digest, len(given), facts.seconds, facts.skipped),
        answered,
        table,
        {who: Share(who, int(right), len(given)) for who, right in first.items()},
        {who: Share(who, int(right), len(given)) for who, right in several.items()},
        guesses,
        chance(int(table[0, 1]), int(table[1, 0])),
    )


def _words(share: Share) -> str:
    pictures = f"{share.count} picture{'s' if share.count > 1 else ''}"
    interval = f"{percent(share.low)} to {percent(share.high)}"
    return f"{share.right} of {pictures} ({percent(share.share)}, {interval})"
