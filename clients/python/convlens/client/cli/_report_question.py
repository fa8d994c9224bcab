"""What a report asks where its user did not say."""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from convlens.client import Layer, Network
from convlens.client._layers import ALIASES, layer_named
from convlens.client.methods import (
    Deconvnet,
    GradCam,
    GuidedGradCam,
    IntegratedGradients,
    Occlusion,
    Saliency,
    SmoothGrad,
)
from convlens.contract import rule_of

# Of a layer, that are shown where nobody says how many.
UNITS = 4
MOST_UNITS = round(rule_of(Deconvnet.DESCRIPTOR.fields_by_name["strongest"]).max)
# Names that every network has beside those of its layers.
# Of the picture's side, as units at most see that are shown.
PART = 0.4
LARGEST_WINDOW = round(rule_of(Occlusion.DESCRIPTOR.fields_by_name["window"]).max)


@dataclass(frozen=True, slots=True)
class Question:
    """The methods and attacks of a report; methods at the places of `optional` need not apply to
    the network.
    """

    methods: Sequence[Message]
    optional: frozenset[int]
    attacks: Sequence[Message] = ()


def question(
    network: Network,
    asked: Sequence[Message] = (),
    units: int = UNITS,
    layer: str | None = None,
    attacks: Sequence[Message] = (),
) -> Question:
    """What is asked of a network: the methods given, else good ones, its strongest units, attacks.

    Raises NotFound where the network has no such layer.
    """
    if layer is not None:
        _check_layer(network, layer)
    methods = list(asked or default_methods(network))
    optional: set[int] = set() if asked else set(range(len(methods)))
    chosen = layer or unit_layer(network)
    if units and chosen and not any(isinstance(method, Deconvnet) for method in methods):
        if layer is None:
            optional.add(len(methods))
        methods.append(Deconvnet(layer=chosen, strongest=min(units, _maps(network, chosen))))
    return Question(methods, frozenset(optional), attacks)


def default_methods(network: Network) -> list[Message]:
    """Gradients of four kinds, a layer, and what covering does, by as many windows at any size."""
    side = min(network.input.height, network.input.width)
    window = min(max(1, side * 3 // 16), LARGEST_WINDOW)
    return [
        Saliency(),
        SmoothGrad(),
        IntegratedGradients(),
        GuidedGradCam(),
        GradCam(),
        Occlusion(window=window, stride=max(1, window // 2)),
    ]


def unit_layer(network: Network) -> str | None:
    """The deepest layer whose units see no more than a part of the picture.

    Of networks where all see more, or nobody knows what they see, the deepest one; None where no
    layer can be projected down.
    """
    projected = [layer for layer in network.anatomy.layers if _has_units(layer)]
    most = min(network.input.height, network.input.width) * PART
    near = [layer for layer in projected if 0 < _sees(layer) <= most]
    return next((layer.name for layer in reversed(near or projected)), None)


def _has_units(layer: Layer) -> bool:
    is_spatial = len(layer.output_shape) == 3 and max(layer.output_shape[1:]) > 1
    return layer.supports_deconvnet and is_spatial


def _sees(layer: Layer) -> int:
    field = layer.receptive_field
    return max(field.vertical.size, field.horizontal.size) if field else 0


def _check_layer(network: Network, layer: str) -> None:
    # A network that tells nothing of its layers may have this one all the same.
    if network.anatomy.layers and layer not in ALIASES:
        layer_named(network, layer, ALIASES)


def _maps(network: Network, name: str) -> int:
    """How many maps the layer has, as far as the network tells."""
    shapes = (layer.output_shape for layer in network.anatomy.layers if layer.name == name)
    return next((shape[0] for shape in shapes if shape), MOST_UNITS)
