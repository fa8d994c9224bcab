"""Many callers' images in shared passes, each caller answered when its own images are done."""

import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from convlens.contract import ErrorReason, Failure
from convlens.internal.v1.job_pb2 import Stages
from convlens.v1.image_pb2 import Image
from convlens.workers.images import Limits
from convlens.workers.jobs import Ticket, alone, bare, fail
from convlens.workers.network import ServedNetwork
from convlens.workers.pictures import read_picture

log = logging.getLogger(__name__)

# A pass of so many images is as fast per image as any larger one, and its memory is small.
ROWS = 32
# Completes "The time allowed for the call was over …".
STAGE = "while its images were computed"

R = TypeVar("R")
Line: TypeAlias = "deque[tuple[ImageJob[Any], int]]"
Batch: TypeAlias = "Sequence[tuple[ImageJob[Any], int]]"


class ImageJob(ABC, Generic[R]):
    """A job under way that wants the same of each of its images, and takes results of type R.

    Jobs of an equal `key` may share a pass of at most `rows` images.
    """

    def __init__(
        self, ticket: Ticket, images: Sequence[Image], key: Hashable = None, rows: int = ROWS
    ) -> None:
        self.ticket = ticket
        self.images = images
        self.key = key
        self.rows = rows
        self._results: dict[int, R | Failure] = {}
        self._stages = Stages()

    def spent(self, started: float, decode: float, compute: float, images: int) -> None:
        """Notes an image's share of the seconds of a pass, and how many images shared it."""
        if not self._results:
            self._stages.wait_us = round((started - self.ticket.arrived) * 1e6)
        self._stages.decode_us += round(decode * 1e6 / images)
        self._stages.compute_us += round(compute * 1e6 / images)
        self._stages.batch_images = max(self._stages.batch_images, images)

    def accept(self, index: int, outcome: R | Failure) -> None:
        """Takes what came of one image; answers after the last one."""
        self._results[index] = outcome
        if len(self._results) == len(self.images):
            started = time.monotonic()
            body = self.response([self._results[index] for index in range(len(self.images))])
            self._stages.encode_us = round((time.monotonic() - started) * 1e6)
            self.ticket.answer(body, self._stages)

    @abstractmethod
    def compute(self, pixels: Tensor) -> Iterable[R]:
        """A result for each row of pixels, its own or those of jobs with the same key."""

    @abstractmethod
    def response(self, outcomes: "Sequence[R | Failure]") -> bytes:
        """The response's bytes, from what came of each image, in order."""


class Passes:
    """Answers jobs over images with one network.

    `begin` makes the job of a ticket; it may raise Failure. Images are decoded in `executor` as the
    passes need them, so the memory does not grow with the number of images that wait.
    """

    def __init__(
        self,
        network: ServedNetwork,
        executor: ThreadPoolExecutor,
        begin: Callable[[Ticket], ImageJob[Any]],
    ) -> None:
        self._network = network
        self._executor = executor
        self._limits = Limits()
        self._begin = begin

    def run(self, tickets: Iterable[Ticket]) -> None:
        """Answers every ticket: with the response, or with what is wrong with it."""
        waiting: dict[Hashable, Line] = {}
        for ticket in tickets:
            if ticket.is_open("before the work began") and (job := self._open(ticket)):
                line = waiting.setdefault(job.key, deque())
                line.extend((job, index) for index in range(len(job.images)))
        for line in waiting.values():
            ahead = self._reading(line)
            while ahead:
                batch, pixels = ahead
                # The next images are decoded while these are computed.
                ahead = self._reading(line)
                try:
                    self._pass(batch, pixels)
                except Failure as failure:
                    for job, _ in batch:
                        job.ticket.fail(failure)
                except Exception as error:
                    # Whoever had no image in this pass is not touched by it.
                    fail({id(job): job.ticket for job, _ in batch}.values(), error)

    def _open(self, ticket: Ticket) -> ImageJob[Any] | None:
        try:
            return self._begin(ticket)
        except Failure as failure:
            ticket.fail(failure)
            return None

    def _reading(self, line: Line) -> "tuple[Batch, Iterator[Tensor | Failure]] | None":
        """The next images of a pass, and what is being read of them, in their order."""
        batch = _next(line)
        return (batch, self._executor.map(self._read, *zip(*batch, strict=True))) if batch else None

    def _pass(self, batch: Batch, reading: "Iterator[Tensor | Failure]") -> None:
        started = time.monotonic()
        pixels = list(reading)
        decoded = time.monotonic()
        rows = [
            (job, index, outcome)
            for (job, index), outcome in zip(batch, pixels, strict=True)
            if job.ticket.is_open(STAGE)
        ]
        good = [outcome for _, _, outcome in rows if isinstance(outcome, Tensor)]
        results = iter(list(rows[0][0].compute(torch.stack(good))) if good else ())
        computed = time.monotonic()
        for job, index, outcome in rows:
            job.spent(started, decoded - started, computed - decoded, len(rows))
            with alone(job.ticket):
                job.accept(index, outcome if isinstance(outcome, Failure) else next(results))

    def _read(self, job: ImageJob[Any], index: int) -> Tensor | Failure:
        """The image as the network takes it, or why it cannot be; runs in a decoding thread."""
        ticket, image = job.ticket, job.images[index]
        try:
            if ticket.is_over():
                return Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage=STAGE)
            return read_picture(image, self._network, self._limits).x
        except Failure as failure:
            return bare(failure)
        except Exception:
            request_id = ticket.job.request_id
            log.exception("an image could not be read", extra={"job": request_id})
            return Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id=request_id)


def _next(line: Line) -> list[tuple[ImageJob[Any], int]]:
    """The next images whose callers still wait, up to the rows of a pass."""
    batch: list[tuple[ImageJob[Any], int]] = []
    while line and len(batch) < line[0][0].rows:
        job, index = line.popleft()
        if job.ticket.is_open(STAGE):
            batch.append((job, index))
    return batch
