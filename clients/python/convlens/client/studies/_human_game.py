"""The questions that a person is asked, and the answers, which are on disk once they are given."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.client._spool import Spool

#: Answers that a person may give to one picture; the network's are as many.
MOST_GUESSES = 5
ANSWER = "answer"


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A picture with its true class, and the network's classes of it, the likeliest first.

    `probability` in [0, 1] is that of the first.
    """

    picture: Path
    truth: int
    network: Sequence[int]
    probability: float


class Answers:
    """What was answered to the questions, in their order: the classes, the likeliest first.

    Every answer, and every one that is taken back, is a row of the spool. Raises SpoolError where
    that is of other questions.
    """

    def __init__(self, spool: Spool, questions: Sequence[Question]) -> None:
        self._spool = spool
        self._questions = questions
        self.given: list[list[int]] = []
        if spool.forms:
            for row in (row for block in spool.blocks(0, 256) for row in block):
                self._replay(row)

    def _replay(self, row: NDArray[Any]) -> None:
        number, *classes = (int(each) for each in row)
        del self.given[number:]
        if classes[0] >= 0:
            self.given.append([each for each in classes if each >= 0])

    def add(self, classes: Sequence[int]) -> None:
        """Answers the next question."""
        self._write(len(self.given), classes)
        self.given.append(list(classes))

    def take_back(self) -> None:
        """Forgets the last answer."""
        self._write(len(self.given) - 1, ())
        self.given.pop()

    def _write(self, number: int, classes: Sequence[int]) -> None:
        row = np.full(1 + MOST_GUESSES, -1, np.int64)
        row[0] = number
        row[1 : 1 + len(classes)] = classes
        self._spool.add(self._questions[number].picture, {ANSWER: row})


class Game:
    """What the page asks for and may do; several of its calls may come at once.

    Nothing of a picture's class is told before it is answered.
    """

    def __init__(
        self, questions: Sequence[Question], answers: Answers, classes: int, guesses: int
    ) -> None:
        self.questions = questions
        self.classes = classes
        self.guesses = guesses
        self.is_over = False
        self.is_parted = False
        self.failure: Exception | None = None
        self.changed = threading.Condition(threading.RLock())
        self._answers = answers

    @property
    def given(self) -> Sequence[Sequence[int]]:
        """The answers so far."""
        return self._answers.given

    def state(self) -> dict[str, Any]:
        """How far it is, as the page shows it."""
        with self.changed:
            done = len(self.given)
            return {
                "total": len(self.questions),
                "answered": done,
                "table": table_of(self.questions, self.given).tolist(),
                "last": self._revealed(done - 1) if done else None,
                "over": self.is_over,
            }

    def is_seen(self, number: int) -> bool:
        """Whether the picture of that question may be shown: answered ones, and the next."""
        return 0 <= number <= len(self.given) and number < len(self.questions)

    def answer(self, number: int, classes: Sequence[int]) -> bool:
        """Answers a question; False where it is not the next, or these are no such answers."""
        with self.changed:
            there = all(0 <= each < self.classes for each in classes)
            several = len(set(classes)) == len(classes) and 1 <= len(classes) <= self.guesses
            if self.is_over or not there or not several or number != len(self.given):
                return False
            return number < len(self.questions) and self._do(lambda: self._answers.add(classes))

    def take_back(self, number: int) -> bool:
        """Takes an answer back; False where it is not the last."""
        with self.changed:
            if self.is_over or number < 0 or number != len(self.given) - 1:
                return False
            return self._do(self._answers.take_back)

    def end(self) -> bool:
        """Ends it; False where nothing was answered."""
        with self.changed:
            self.is_over = bool(self.given)
            return self.is_over

    def part(self) -> None:
        """The page has been told that it is over."""
        with self.changed:
            self.is_parted = True
            self.changed.notify_all()

    def _do(self, what: Any) -> bool:
        try:
            what()
        except Exception as error:
            # Whoever waits for the end is told; the page cannot mend a full disk.
            self.failure = error
            raise
        finally:
            self.changed.notify_all()
        return True

    def _revealed(self, number: int) -> dict[str, Any]:
        question, given = self.questions[number], self.given[number]
        return {
            "number": number,
            "truth": question.truth,
            "human": list(given),
            "network": list(question.network[: max(1, self.guesses)]),
            "probability": question.probability,
        }


def table_of(questions: Sequence[Question], given: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """How many first answers [human right, wrong] x [network right, wrong] there are."""
    table = np.zeros((2, 2), np.int64)
    for question, answer in zip(questions, given, strict=False):
        table[int(answer[0] != question.truth), int(question.network[0] != question.truth)] += 1
    return table
