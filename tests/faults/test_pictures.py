"""Spoiled picture files, through a whole server, and into its decoder by what they reach in it."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from convlens.contract.errors import reason_name
from convlens.server.contract import RPCS
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image
from convlens.workers import images
from convlens.workers.images import Limits
from tests.faults.exploring import explore, few_or_many
from tests.faults.mutations import spoil_bytes
from tests.faults.target import CLASSIFY, HANGING, Target
from tests.workers.image_files import claiming, outcome_of
from tests.workers.test_images_bad import ALL_FILES

# Files in a call, and calls side by side.
FILES, CROWD = 8, 4
LIES = [
    claiming(form, side)
    for form in ("JPEG", "PNG", "WEBP", "BMP", "GIF")
    for side in (1, 7, 9, 300, 3_000, 16_383)
]
VALID = [*ALL_FILES.values()]
SMALL = Limits(encoded_bytes=100_000, pixels=100_000, side=2_000)
DECODER = str(Path(images.__file__).parent)


def spoiled(random: Random, file: bytes) -> bytes:
    """A file with some changes, some of it of another file."""
    for _ in range(random.randrange(1, 6)):
        file = spoil_bytes(file, random.choice(VALID), random)
    return file[: SMALL.encoded_bytes]


@few_or_many(25, 1_000)
def test_spoiled_files_are_their_own_errors(target: Target, examples: int) -> None:
    """25 examples of 4 calls with 8 files each make 800, or 32 000."""

    def check(random: Random) -> None:
        calls = [
            [spoiled(random, random.choice(VALID + LIES)) for _ in range(FILES)]
            for _ in range(CROWD)
        ]
        requests = [
            ClassifyRequest(images=[Image(encoded=file) for file in files]) for files in calls
        ]
        bodies = [[request.SerializeToString()] for request in requests]
        reasons = {
            reason_name(failure.reason) for failure in target.ask_all(RPCS[CLASSIFY], bodies)
        }
        assert reasons <= {
            "IMAGE_EMPTY",
            "IMAGE_UNREADABLE",
            "IMAGE_TOO_LARGE",
            "DEADLINE_EXCEEDED",
            "DEADLINE_TOO_SHORT",
        }

    with target.flat():
        explore(examples, check)


class Steps:
    """The steps from line to line that the decoder has been seen to make."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int, int]] = set()

    @contextmanager
    def watched(self) -> Generator[None]:
        """Sees what this thread does in the block."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(DECODER):
            return None
        last = 0

        def step(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal last
            self.seen.add((file, last, frame.f_lineno))
            last = frame.f_lineno
            return step

        return step


@few_or_many(1_000, 50_000)
def test_what_reaches_new_steps_of_the_decoder_is_spoiled_further(examples: int) -> None:
    random, steps = Random(9), Steps()
    corpus = [*VALID]
    for file in corpus:
        with steps.watched():
            outcome_of(file, SMALL)
    for _ in range(examples):
        file = spoiled(random, random.choice(corpus))
        known, started = len(steps.seen), time.monotonic()
        with steps.watched():
            outcome_of(file, SMALL)
        assert time.monotonic() - started < HANGING
        if len(steps.seen) > known:
            corpus.append(file)
    assert len(corpus) > len(VALID) + 10, "it finds its way into the decoder"
