"""What `convlens-workers check` tries: every method of the pools, once, on a sample.

A new method is one more line in TRIALS; a test compares them with what the workers answer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

import torch

from convlens.contract import ErrorReason, Failure
from convlens.contract.pools import CANARY, Pool
from convlens.internal.v1.canary_pb2 import CanaryRequest, CanaryResponse
from convlens.v1 import network_pb2
from convlens.v1.classification_pb2 import ClassifyRequest, ClassifyResponse
from convlens.v1.explanation_pb2 import ExplainRequest, ExplainResponse
from convlens.v1.feature_pb2 import (
    POOLING_FLATTEN,
    ExtractFeaturesRequest,
    ExtractFeaturesResponse,
    LayerSelection,
)
from convlens.v1.image_pb2 import Image
from convlens.v1.tensor_pb2 import DATA_TYPE_FLOAT32, DATA_TYPE_UINT8, Tensor
from convlens.workers.explain.samples import TITLES, method_cost, small_method
from convlens.workers.network import ServedNetwork
from convlens.workers.probe import company_fault
from convlens.workers.selection import CNN_CODE, LOGITS, Layers

SAMPLE = "star-1"
EXPLAIN = "ExplanationService/Explain"
# Why a method may not apply to a network that is well.
NOT_FOR_ALL = (
    ErrorReason.ERROR_REASON_METHOD_NOT_APPLICABLE,
    ErrorReason.ERROR_REASON_LAYER_NOT_APPLICABLE,
)


class Bench(Protocol):
    """Where a trial runs."""

    @property
    def network(self) -> ServedNetwork: ...

    def ask(self, pool: Pool, method: str, request: bytes) -> bytes:
        """What a pool answers to a job; raises Failure, or what broke the job."""
        ...


class TrialError(Exception):
    """An answer came, and is none."""


@dataclass(frozen=True)
class Trial:
    """A way to use a network, which needs a pool. `run` returns what came out, in a few words.

    `method` is the job's, where it is one; it raises whatever goes wrong.
    """

    name: str
    pool: Pool
    method: str
    run: Callable[[Bench], str]


def _classify(bench: Bench) -> str:
    request = ClassifyRequest(images=[sample(bench.network)], top_k=1)
    body = bench.ask("inference", "ClassificationService/Classify", request.SerializeToString())
    [result] = ClassifyResponse.FromString(body).results
    if result.HasField("error"):
        raise TrialError(result.error.message)
    [best] = result.classification.classes
    if not math.isfinite(best.logit) or not math.isfinite(best.probability):
        raise TrialError("the scores are not finite; the weights may hold NaN, or need fp32")
    name = "zeros" if _is_linear(bench.network) else "a drawn star"
    return f"{name}: {best.label} {100 * best.probability:.1f} %"


def _extract(bench: Bench) -> str:
    known = Layers(bench.network).aliases
    layer = next((name for name in (CNN_CODE, LOGITS) if name in known), None)
    if layer is None:
        raise TrialError("no layer gives its scores: they are changed after the last one")
    layers = [LayerSelection(layer=layer, pooling=POOLING_FLATTEN)]
    request = ExtractFeaturesRequest(images=[sample(bench.network)], layers=layers)
    method = "FeatureService/ExtractFeatures"
    body = bench.ask("inference", method, request.SerializeToString())
    [result] = ExtractFeaturesResponse.FromString(body).results
    if result.HasField("error"):
        raise TrialError(result.error.message)
    [code] = result.features.codes
    return f"{layer}: {code.values.shape[0]} numbers of {code.layer}"


def _company(bench: Bench) -> str:
    count = max(2, bench.network.facts.rows)
    # Through compiled code, too, in the size of the analysis pool's passes.
    if fault := company_fault(bench.network.logits, bench.network, count):
        raise TrialError(fault)
    return f"the same scores alone and among {count} images"


def _canary(bench: Bench) -> str:
    request = CanaryRequest(passes=1).SerializeToString()
    passes = CanaryResponse.FromString(bench.ask("analysis", CANARY, request)).passes
    return f"{passes} pass forward and backward"


def _micro_batch(bench: Bench) -> str:
    rows = bench.network.facts.rows
    gradient = bench.network.gradient(bench.network.blank().repeat(rows, 1, 1, 1))
    if not gradient.isfinite().all():
        raise TrialError("the gradient is not finite; the weights may hold NaN, or need fp32")
    return f"{rows} rows in one pass, a full micro-batch"


def _explain(name: str, bench: Bench) -> str:
    """Asks for a method with few passes; that it does not apply is worth knowing, and no fault."""
    method = small_method(name, bench.network)
    if method is None:
        return "does not apply: the network has no layer for it"
    request = ExplainRequest(images=[sample(bench.network)], methods=[method])
    body = bench.ask("analysis", EXPLAIN, request.SerializeToString())
    [result] = ExplainResponse.FromString(body).results
    error = result.error
    for each in result.explanation.attributions:
        if each.HasField("attribution"):
            return f"{each.attribution.layer or 'pixels'}: {method_cost(method, bench.network)}"
        error = each.error
    failure = Failure.from_status(error)
    if failure and failure.reason in NOT_FOR_ALL:
        return f"does not apply: {failure.metadata['detail']}"
    raise TrialError(error.message)


TRIALS: tuple[Trial, ...] = (
    Trial("Classify", "inference", "ClassificationService/Classify", _classify),
    Trial("ExtractFeatures", "inference", "FeatureService/ExtractFeatures", _extract),
    Trial("one of many images", "inference", "", _company),
    Trial("gradient", "analysis", CANARY, _canary),
    Trial("gradient of rows", "analysis", "", _micro_batch),
    *(Trial(title, "analysis", EXPLAIN, partial(_explain, name)) for name, title in TITLES.items()),
)


def sample(network: ServedNetwork) -> Image:
    """A drawn star, which every network resizes to its own input; zeros for a linear one."""
    if not _is_linear(network):
        return _star()
    features = network.facts.input.width
    zeros = bytes(features * torch.float32.itemsize)
    return Image(tensor=Tensor(dtype=DATA_TYPE_FLOAT32, shape=[features], data=zeros))


def _is_linear(network: ServedNetwork) -> bool:
    return network.facts.kind == network_pb2.NETWORK_KIND_LINEAR


@cache
def _star() -> Image:
    from convlens.workers.shapes.samples import SAMPLES
    from convlens.workers.shapes.samples import sample as draw

    pixels = draw(SAMPLES[SAMPLE]).image
    shape = list(pixels.shape)
    return Image(tensor=Tensor(dtype=DATA_TYPE_UINT8, shape=shape, data=pixels.tobytes()))
