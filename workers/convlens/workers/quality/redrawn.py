"""Networks that have forgotten what they learned, from a layer upward."""

import copy
import math
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import cast

import torch
from torch import Tensor, nn

from convlens.workers.anatomy import Trace
from convlens.workers.body import Body
from convlens.workers.methods.randomness import normal

# They can be made new again, which draws nothing.
NORMALIZATIONS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.InstanceNorm2d,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
# Each holds the memory of what was drawn for it.
KEPT = 2


@dataclass(frozen=True, eq=False)
class Redrawn:
    """A copy of a network with some weights drawn anew, as a Body; it shares the others."""

    network: Body
    module: nn.Module

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.network.device

    @property
    def trace(self) -> Trace:
        """The network's: other weights make the same calls."""
        return self.network.trace

    def place(self, pixels: Tensor) -> Tensor:
        """A copy of pixels on the device, in the layout in which it computes."""
        return self.network.place(pixels)

    def scores(self, pixels: Tensor) -> Tensor:
        """Scores before the softmax, with their graph."""
        return self.module(pixels)


class Variants:
    """The redrawn copies of a network; the last ones are kept. Threads may share it."""

    def __init__(self, network: Body) -> None:
        self._network = network
        self._kept: OrderedDict[tuple[frozenset[str], int], Redrawn] = OrderedDict()
        self._lock = Lock()

    def of(self, names: frozenset[str], seed: int) -> Redrawn:
        """The network with these parameters drawn anew, the same for the same seed."""
        with self._lock:
            found = self._kept.pop((names, seed), None) or redrawn(self._network, names, seed)
            self._kept[names, seed] = found
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return found


def weights_from(network: Body, call: int) -> frozenset[str]:
    """The names of the parameters and buffers that a call takes or one that comes after it.

    A weight that is used again further up is among them, though it is used below as well.
    """
    operands = (value for each in network.trace.calls[call:] for value in each.operands)
    return frozenset(value.parameter for value in operands if value.parameter)


def all_weights(network: Body) -> frozenset[str]:
    """The names of all parameters and buffers."""
    return frozenset(name for name, _ in _tensors(network.module))


def redrawn(network: Body, names: Collection[str], seed: int) -> Redrawn:
    """A copy of the network with the parameters of these names drawn anew.

    Weights are normal with a variance of 2 / inputs (He et al. 2015, arXiv:1502.01852), which
    neither grow nor fade in a deep network. Vectors, such as biases, are normal with the mean and
    variance that they have. Normalisations are as new, and in evaluation do nothing: statistics of
    what the network has learned would not fit what is drawn. Whatever else is a buffer stays. Each
    parameter is drawn by its name, so that it is the same for every layer to begin with.
    """
    module = _copy(network.module, names)
    with torch.no_grad():
        for path, layer in cast("Iterator[tuple[str, nn.Module]]", module.named_modules()):
            if isinstance(layer, NORMALIZATIONS):
                if any(name in names for name, _ in _tensors(layer, path, recurse=False)):
                    layer.reset_parameters()
                continue
            for name, weight in layer.named_parameters(path, recurse=False):
                if name in names:
                    weight.copy_(_drawn(weight, normal(weight, seed, "model_randomization", name)))
    return Redrawn(network, module)


def _copy(module: nn.Module, names: Collection[str]) -> nn.Module:
    """A copy that shares the tensors of all layers that have none of these names."""
    own = {_layer(name) for name in names}
    shared = {id(each): each for name, each in _tensors(module) if _layer(name) not in own}
    return copy.deepcopy(module, shared)


def _tensors(
    module: nn.Module, path: str = "", *, recurse: bool = True
) -> list[tuple[str, Tensor]]:
    """Parameters and buffers with their names, each once."""
    buffers = module.named_buffers(path, recurse)
    return [*module.named_parameters(path, recurse), *buffers]


def _layer(name: str) -> str:
    """The path of the layer that holds a tensor of this name."""
    return name.rpartition(".")[0]


def _drawn(weight: Tensor, numbers: Tensor) -> Tensor:
    """Normal numbers, as they would stand in the place of a weight."""
    if sum(size > 1 for size in weight.shape) < 2:
        return weight.mean() + weight.std(correction=0) * numbers
    return math.sqrt(2 * len(weight) / weight.numel()) * numbers
