"""Receipts: how an answer came about, so that it can be checked and computed again."""

from typing import TypeAlias, TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from convlens.contract import digest
from convlens.v1.adversarial_pb2 import AttackRequest
from convlens.v1.explanation_pb2 import ExplainRequest
from convlens.v1.receipt_pb2 import Cost, Receipt
from convlens.v1.synthesis_pb2 import SynthesizeRequest
from convlens.workers.network import ServedNetwork

R = TypeVar("R", ExplainRequest, AttackRequest)
Asked: TypeAlias = ExplainRequest | AttackRequest | SynthesizeRequest


def receipt(network: ServedNetwork, request: Message, parameters: Message, cost: Cost) -> Receipt:
    """The receipt of an answer to `request`, which has every default and the network's version.

    `parameters` are the request without its images.
    """
    made = network.receipt()
    made.request_digest = digest(request.SerializeToString(deterministic=True))
    made.cost.CopyFrom(cost)
    packed = Any()
    packed.Pack(parameters, deterministic=True)
    made.parameters.CopyFrom(packed)
    return made


def analysis_receipt(
    network: ServedNetwork, request: Asked, parameters: Asked, spent: Cost, rows: int
) -> Receipt:
    """The receipt of what the runner computed: what was spent, and the rows of micro-batches."""
    made = receipt(network, request, parameters, spent)
    made.rows = min(rows, network.facts.rows)
    made.seed = request.seed
    return made


def without_images(request: R) -> R:
    """A copy of a request without what it is about."""
    parameters = type(request)()
    parameters.CopyFrom(request)
    parameters.ClearField("images")
    return parameters
