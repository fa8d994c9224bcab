"""Classify: many callers' images in shared forward passes, each answered when its own are done."""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import torch
from google.protobuf.any_pb2 import Any
from torch import Tensor

from convlens.contract import ErrorReason, Failure, digest, violations, with_defaults
from convlens.contract.validation import Violation
from convlens.internal.v1.job_pb2 import Stages
from convlens.v1 import receipt_pb2
from convlens.v1.classification_pb2 import (
    Classification,
    ClassifyRequest,
    ClassifyResponse,
    ClassifyResult,
    ClassScore,
)
from convlens.v1.image_pb2 import Image
from convlens.workers.images import Limits, prepare, read_image
from convlens.workers.jobs import Ticket
from convlens.workers.network import ServedNetwork


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
            self._compute(batch)

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
            if call.ticket.is_open("while the images were classified"):
                batch.append((call, index))
        return batch

    def _compute(self, batch: "Sequence[tuple[_Call, int]]") -> None:
        started = time.monotonic()
        images = [call.images[index] for call, index in batch]
        pixels = list(self._executor.map(self._read, images))
        decoded = time.monotonic()
        good = [tensor for tensor in pixels if isinstance(tensor, Tensor)]
        scores = iter(self._network.logits(torch.stack(good)) if good else ())
        computed = time.monotonic()
        for (call, index), outcome in zip(batch, pixels, strict=True):
            call.spent(decoded - started, computed - decoded, len(batch))
            call.accept(index, outcome if isinstance(outcome, Failure) else next(scores))

    def _read(self, image: Image) -> Tensor | Failure:
        """The image as the network takes it, or why it cannot be."""
        try:
            check(violations(image))
            facts = self._network.facts
            pixels = read_image(image, self._limits, facts.input)
            return prepare(pixels, facts.input, image.geometry, facts.name).tensor
        except Failure as failure:
            return failure


class _Call:
    """One Classify job under way."""

    def __init__(self, ticket: Ticket, network: ServedNetwork) -> None:
        self.ticket = ticket
        self._network = network
        self._request = _parse(ticket.job.request, len(network.facts.labels))
        self.images = self._request.images
        self._results: dict[int, ClassifyResult] = {}
        self._started = time.monotonic()
        self._stages = Stages()

    def spent(self, decode: float, compute: float, images: int) -> None:
        """Notes the seconds of a pass that this call shared, and how many images shared it."""
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


def check(broken: Sequence[Violation]) -> None:
    """Raises INVALID_REQUEST with all violations, where there are any."""
    if broken:
        raise Failure(ErrorReason.ERROR_REASON_INVALID_REQUEST, violations=broken)


def _parse(body: bytes, classes: int) -> ClassifyRequest:
    """The request with its defaults; the default of top_k bows to a network with fewer classes."""
    given = ClassifyRequest.FromString(body)
    request = with_defaults(given)
    if not given.HasField("top_k"):
        request.top_k = min(request.top_k, classes)
    if request.top_k > classes:
        words = f"is {request.top_k}; must be at most {classes}, the classes of this network"
        check([Violation(field="top_k", description=words)])
    return request


def _without_images(request: ClassifyRequest) -> ClassifyRequest:
    return ClassifyRequest(network=request.network, top_k=request.top_k)
