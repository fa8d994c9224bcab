"""Every method with few passes, for whoever wants to see that it works on a network."""

from collections.abc import Mapping
from typing import Any

from convlens.contract import with_defaults
from convlens.contract.cost import method_passes
from convlens.contract.rules import title_of
from convlens.v1 import anatomy_pb2
from convlens.v1.explanation_methods_pb2 import ExplanationMethod
from convlens.workers.explain.plans import PLANNERS
from convlens.workers.network import ServedNetwork

TITLES: Mapping[str, str] = {
    name: title_of(getattr(ExplanationMethod(), name)) for name in PLANNERS
}


def small_method(name: str, network: ServedNetwork) -> ExplanationMethod | None:
    """A method with every default but for what makes it long; None where it has no layer."""
    method = ExplanationMethod()
    p: Any = getattr(method, name)
    p.SetInParent()
    if name == "smooth_grad":
        p.samples = 8
    elif name == "integrated_gradients":
        p.steps, p.max_steps = 8, 24
    elif name == "occlusion":
        side = min(network.facts.input.height, network.facts.input.width)
        p.window = p.stride = max(1, min(side // 4, 1024))
    elif name == "dense_map":
        size = network.facts.input
        p.shorter_side = max(32, round(1.5 * max(size.height, size.width)))
    elif name in ("deconvnet", "activations", "filters"):
        layer = _layer(name, network)
        if layer is None:
            return None
        p.layer = layer
    return with_defaults(method)


def _layer(name: str, network: ServedNetwork) -> str | None:
    """A layer for a method that needs one: the last that deconvnet can start at, or the first."""

    def fits(layer: anatomy_pb2.Layer) -> bool:
        if name == "deconvnet":
            return layer.supports_deconvnet and len(layer.output_shape) == 3
        return layer.kind == "Conv2d" and (name == "filters" or layer.supports_features)

    found = [layer.name for layer in network.facts.anatomy.layers if fits(layer)]
    if not found:
        return None
    return found[-1] if name == "deconvnet" else found[0]


def method_cost(method: ExplanationMethod, network: ServedNetwork) -> str:
    """The passes of a method for one picture, in words."""
    passes = method_passes(method, network.facts)
    return f"at most {passes.forward} forward and {passes.backward} backward"
