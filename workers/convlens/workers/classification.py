"""Classify: the classes that a network finds most likely, with their scores."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from torch import Tensor

from convlens.contract import Failure, with_defaults
from convlens.contract.validation import Violation, invalid
from convlens.v1 import network_pb2
from convlens.v1.classification_pb2 import (
    Classification,
    ClassifyRequest,
    ClassifyResponse,
    ClassifyResult,
)
from convlens.v1.receipt_pb2 import Cost
from convlens.v1.target_pb2 import ClassScore
from convlens.workers.jobs import Ticket
from convlens.workers.network import ServedNetwork
from convlens.workers.passes import ImageJob, Passes
from convlens.workers.receipts import receipt


def classifier(network: ServedNetwork, executor: ThreadPoolExecutor) -> Passes:
    """What answers Classify jobs with one network; images are decoded in `executor`."""
    return Passes(network, executor, lambda ticket: ClassifyJob(ticket, network))


class ClassifyJob(ImageJob[Tensor]):
    """One Classify job under way; a result is the scores [classes] of an image."""

    def __init__(self, ticket: Ticket, network: ServedNetwork) -> None:
        self._network = network
        self._request = _parse(ticket.job.request, network.facts)
        super().__init__(ticket, self._request.images)

    def compute(self, pixels: Tensor) -> Iterable[Tensor]:
        """The scores of each row."""
        return self._network.logits(pixels)

    def response(self, outcomes: Sequence[Tensor | Failure]) -> bytes:
        """The response's bytes."""
        answered = sum(isinstance(outcome, Tensor) for outcome in outcomes)
        parameters = ClassifyRequest(network=self._request.network, top_k=self._request.top_k)
        response = ClassifyResponse(
            results=map(self._result, outcomes),
            receipt=receipt(
                self._network, self._request, parameters, Cost(forward_passes=answered)
            ),
        )
        return response.SerializeToString()

    def _result(self, outcome: Tensor | Failure) -> ClassifyResult:
        if isinstance(outcome, Failure):
            return ClassifyResult(error=outcome.status())
        return ClassifyResult(classification=self._rank(outcome))

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
