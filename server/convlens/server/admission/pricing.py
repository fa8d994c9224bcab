"""What a request asks of its network, in passes, by the contract's estimates."""

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from convlens.contract import with_defaults
from convlens.contract.attack_cost import attack_cost
from convlens.contract.cost import explain_cost
from convlens.contract.robustness import robustness_cost
from convlens.contract.synthesis_cost import synthesis_cost
from convlens.internal.v1.robustness_pb2 import RobustnessRequest
from convlens.v1 import adversarial_pb2, classification_pb2, explanation_pb2, feature_pb2
from convlens.v1 import synthesis_pb2 as synthesis
from convlens.v1.image_pb2 import Image
from convlens.v1.network_pb2 import Network
from convlens.v1.receipt_pb2 import Cost


def price(request: Message, network: Network) -> int:
    """Passes of one image, forward and backward, that a checked request may need; at least 1."""
    wanted: Any = getattr(request, "request", request)
    for kind, find in PRICES.items():
        if isinstance(wanted, kind):
            return max(1, find(wanted, network))
    return 1


def is_partial(request: Message) -> bool:
    """Whether its caller takes what there is when the time is over."""
    return getattr(getattr(request, "request", request), "allow_partial", False)


def _images(request: Any, network: Network) -> int:
    return len(request.images)


def _explain(request: explanation_pb2.ExplainRequest, network: Network) -> int:
    if request.estimate_only:
        return 1
    # Of one image, which is empty: a copy with its defaults shall not copy the pictures.
    bare = explanation_pb2.ExplainRequest(
        images=[Image()],
        methods=request.methods,
        targets=request.targets,
        measures=request.measures,
    )
    return _total(explain_cost(with_defaults(bare), network)) * len(request.images)


def _attack(request: adversarial_pb2.AttackRequest, network: Network) -> int:
    if request.estimate_only:
        return 1
    bare = adversarial_pb2.AttackRequest(
        images=[Image()],
        method=request.method,
        goal=request.goal,
        until_rounded_succeeds=request.until_rounded_succeeds,
    )
    return _total(attack_cost(with_defaults(bare), len(network.labels))) * len(request.images)


def _robustness(request: RobustnessRequest, network: Network) -> int:
    if request.plan.estimate_only or not request.HasField("image"):
        return 1
    return _total(robustness_cost(with_defaults(request.plan), len(network.labels)))


def _synthesis(request: synthesis.SynthesizeRequest, network: Network) -> int:
    if request.estimate_only:
        return 1
    return _total(synthesis_cost(with_defaults(request), len(network.labels)))


def _total(cost: Cost) -> int:
    return cost.forward_passes + cost.backward_passes


PRICES: Mapping[type[Message], Callable[[Any, Network], int]] = {
    classification_pb2.ClassifyRequest: _images,
    feature_pb2.ExtractFeaturesRequest: _images,
    explanation_pb2.ExplainRequest: _explain,
    adversarial_pb2.AttackRequest: _attack,
    RobustnessRequest: _robustness,
    synthesis.SynthesizeRequest: _synthesis,
}
