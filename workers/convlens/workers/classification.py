"""Classify: many callers' images in shared forward passes, each answered when its own are done."""

import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import torch
from google.protobuf.any_pb2 import Any
from torch import Tensor

from convlens.contract import ErrorReason, Failure, check, digest, with_defaults
from convlens.contract.validation import Violation, invalid
from convlens.internal.v1.job_pb2 import Stages
from convlens.v1 import network_pb2, receipt_pb2
from convlens.v1.classification_pb2 import (
    Classification,
    ClassifyRequest,
    ClassifyResponse,
    ClassifyResult,
    ClassScore,
)
from convlens.workers.images import Limits, prepare, read_image
from convlens.workers.jobs import Ticket, fail
from convlens.workers.network import ServedNetwork

log = logging.getLogger(__name__)

# Completes "The time allowed for the call was over …".
STAGE = "while the images were classified"


class Classifier:
    """Answers Classify jobs with one network, `rows` images to a forward pass.

    Images are decoded in `executor` as the passes need them, so the memory does not grow with the
    number of images that wait.
    """

    def __init__(
        self, network: ServedNetwork, executor: ThreadPoolExecutor, limits: Limits, rows: int
    ) -> None:
        self._network = network
        self._executor = executor
        self._limits = limits
        self._rows = rows

    def run(self, tickets: Iterable[Ticket]) -> None:
        """Answers every ticket: with the response, or with what is wrong with it."""
        waiting: deque[tuple[_Call, int]] = deque()
        for ticket in tickets:
            if ticket.is_open("before the work began") and (call := self._open(ticket)):
                waiting.extend((call, index) for index in range(len(call.images)))
        while batch := self._next_batch(waiting):
            try:
                self._compute(batch)
            except Exception:
                # Whoever had no image in this pass is not touched by it.
                fail({id(call): call.ticket for call, _ in batch}.values())

    def _open(self, ticket: Ticket) -> "_Call | None":
        try:
            return _Call(ticket, self._network)
        except Failure as failure:
            ticket.fail(failure)
            return None

    def _next_batch(self, waiting: "deque[tuple[_Call, int]]") -> "list[tuple[_Call, int]]":
        """The next images whose callers still wait, up to the rows of a pass."""
        batch: list[tuple[_Call, int]] = []
        while waiting and len(batch) < self._rows:
            call, index = waiting.popleft()
            if call.ticket.is_open(STAGE):
                batch.append((call, index))
        return batch

    def _compute(self, batch: "Sequence[tuple[_Call, int]]") -> None:
        started = time.monotonic()
        pixels = list(self._executor.map(self._read, *zip(*batch, strict=True)))
        decoded = time.monotonic()
        rows = [
            (call, index, outcome)
            for (call, index), outcome in zip(batch, pixels, strict=True)
            if call.ticket.is_open(STAGE)
        ]
        good = [outcome for _, _, outcome in rows if isinstance(outcome, Tensor)]
        scores = iter(self._network.logits(torch.stack(good)) if good else ())
        computed = time.monotonic()
        for call, index, outcome in rows:
            call.spent(started, decoded - started, computed - decoded, len(rows))
            call.accept(index, outcome if isinstance(outcome, Failure) else next(scores))

    def _read(self, call: "_Call", index: int) -> Tensor | Failure:
        """The image as the network takes it, or why it cannot be; runs in a decoding thread."""
        ticket, image = call.ticket, call.images[index]
        try:
            if ticket.is_over():
                return Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage=STAGE)
            check(image)
            facts = self._network.facts
            pixels = read_image(image, self._limits, facts.input)
            return prepare(pixels, facts.input, image.geometry, facts.name).tensor
        except Failure as failure:
            return failure
        except Exception:
            request_id = ticket.job.request_id
            log.exception("an image could not be read", extra={"job": request_id})
            return Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id=request_id)


class _Call:
    """One Classify job under way."""

    def __init__(self, ticket: Ticket, network: ServedNetwork) -> None:
        self.ticket = ticket
        self._network = network
        self._request = _parse(ticket.job.request, network.facts)
        self.images = self._request.images
        self._results: dict[int, ClassifyResult] = {}
        self._started = time.monotonic()
        self._stages = Stages()

    def spent(self, started: float, decode: float, compute: float, images: int) -> None:
        """Notes an image's share of the seconds of a pass, and how many images shared it."""
        if not self._results:
            self._stages.wait_us = round((started - self.ticket.arrived) * 1e6)
        self._stages.decode_us += round(decode * 1e6 / images)
        self._stages.compute_us += round(compute * 1e6 / images)
        self._stages.batch_images = max(self._stages.batch_images, images)

    def accept(self, index: int, outcome: Tensor | Failure) -> None:
        """Takes the scores [classes] of one image, or its failure; answers after the last one."""
        if isinstance(outcome, Failure):
            self._results[index] = ClassifyResult(error=outcome.status())
        else:
            self._results[index] = ClassifyResult(classification=self._rank(outcome))
        if len(self._results) == len(self.images):
            self._answer()

    def _rank(self, scores: Tensor) -> Classification:
        labels = self._network.labels
        logits, indices = scores.topk(self._request.top_k)
        probabilities = scores.softmax(dim=0)[indices]
        best = cast("list[int]", indices.tolist())
        chances = cast("list[float]", probabilities.tolist())
        rows = zip(best, chances, cast("list[float]", logits.tolist()), strict=True)
        return Classification(
            classes=[
                ClassScore(class_index=i, label=labels[i], probability=p, logit=z)
                for i, p, z in rows
            ]
        )

    def _answer(self) -> None:
        started = time.monotonic()
        results = [self._results[index] for index in range(len(self.images))]
        response = ClassifyResponse(results=results, receipt=self._receipt())
        body = response.SerializeToString()
        self._stages.encode_us = round((time.monotonic() - started) * 1e6)
        self.ticket.answer(body, self._stages)

    def _receipt(self) -> receipt_pb2.Receipt:
        receipt = self._network.receipt()
        receipt.request_digest = digest(self._request.SerializeToString(deterministic=True))
        answered = sum(result.HasField("classification") for result in self._results.values())
        receipt.cost.forward_passes = answered
        parameters = Any()
        parameters.Pack(_without_images(self._request), deterministic=True)
        receipt.parameters.CopyFrom(parameters)
        return receipt


def _parse(body: bytes, facts: network_pb2.Network) -> ClassifyRequest:
    """The request as it is meant: with the network that answers, and every default.

    The default of top_k bows to a network with fewer classes.
    """
    given = ClassifyRequest.FromString(body)
    request, classes = with_defaults(given), len(facts.labels)
    request.network = f"{facts.name}@{facts.version}"
    if not given.HasField("top_k"):
        request.top_k = min(request.top_k, classes)
    if request.top_k > classes:
        words = f"is {request.top_k}; must be at most {classes}, the classes of this network"
        raise invalid([Violation(field="top_k", description=words)])
    return request


def _without_images(request: ClassifyRequest) -> ClassifyRequest:
    return ClassifyRequest(network=request.network, top_k=request.top_k)
