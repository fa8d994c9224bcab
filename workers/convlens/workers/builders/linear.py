"""Linear classifiers of plain numbers: their weights are all there is to them."""

from collections import OrderedDict
from typing import TYPE_CHECKING, final

from convlens.v1 import network_pb2
from convlens.workers.builders.builder import Builder, BuildError, Built, Order, is_file_name

if TYPE_CHECKING:
    from torch import nn

TENSORS = (
    "a weight of shape [classes, features], or [1, features] for two classes, and a bias with a "
    "number for each row of it, or none"
)


@final
class Linear(Builder):
    """`linear`: the scores are weight x + bias, for vectors x of any finite numbers.

    One row of weights is a logistic classifier of two classes: the first scores 0 and the second
    the row's s, so that their probabilities are 1 - sigmoid(s) and sigmoid(s).
    """

    def check_name(self, name: str) -> None:
        """It has no second part."""

    def check_weights(self, name: str, weights: str | None) -> None:
        """A file: nothing else says how many classes and features there are."""
        if weights is None or not is_file_name(weights):
            said = "must be given:" if weights is None else f"is {weights!r}; must be"
            raise ValueError(f"{said} a file (.safetensors, .pth, .pt) with {TENSORS}")

    def fetch(self, name: str, weights: str) -> None:
        """Its weights have no names."""

    def build(self, order: Order) -> Built:
        """The layer that the weights make."""
        from torch import nn

        from convlens.workers.builders.weights import load_into, read_weights, seeded

        if order.arguments:
            raise BuildError("arguments", "a linear network takes none; leave them out")
        assert order.file
        state = read_weights(order.file)
        weight = state.get("weight")
        if weight is None or weight.ndim != 2 or 0 in weight.shape:
            found = ", ".join(f"{name} {list(value.shape)}" for name, value in state.items())
            raise BuildError("weights", f"{order.file} has {found}; must have {TENSORS}")
        rows, features = weight.shape
        with seeded():
            layer = nn.Linear(features, rows, bias="bias" in state)
        load_into(layer, order.file)
        if not all(bool(value.isfinite().all()) for value in layer.parameters()):
            raise BuildError("weights", f"{order.file} has values that are no finite float32")
        geometry = network_pb2.InputGeometry(
            height=1, width=features, channels=1, mean=[0.0], std=[1.0]
        )
        linear = _with_zeros(layer) if rows == 1 else layer
        body = nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear=linear))
        return Built(body, geometry, kind=network_pb2.NETWORK_KIND_LINEAR)


def _with_zeros(layer: "nn.Linear") -> "nn.Linear":
    """A layer of two rows: one of zeros, and that of `layer`."""
    import torch

    state = layer.state_dict()
    two = torch.nn.Linear(layer.in_features, 2, bias="bias" in state)
    two.load_state_dict(
        {name: torch.cat([torch.zeros_like(row), row]) for name, row in state.items()}
    )
    return two
