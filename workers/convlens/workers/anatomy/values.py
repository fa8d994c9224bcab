"""What a trace is made of: tensors, the calls that made them, and the layers that have names."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

# The source of a tensor that is the network's own input.
INPUT = -1


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor that a call took or gave.

    `batch_shape` is its shape in a batch of one image. Where it holds a batch, `axis` is the axis
    along which the images lie, one behind the other (several entries each, as the windows of a
    Swin transformer do); else it is None: the tensor is the same for every picture, as weights are.
    `source` is the index of the call that made it, INPUT, or None. `parameter` is its name in the
    module, if it is one of its parameters or buffers.
    """

    batch_shape: tuple[int, ...]
    axis: int | None
    dtype: torch.dtype
    source: int | None = None
    parameter: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape for one image, without an axis that only counts images."""
        axis, shape = self.axis, self.batch_shape
        if axis is None or shape[axis] != 1:
            return shape
        return shape[:axis] + shape[axis + 1 :]

    @property
    def size(self) -> int:
        """How many numbers it has for one image."""
        return prod(self.batch_shape)

    @property
    def bytes(self) -> int:
        """How much memory they take."""
        return self.size * self.dtype.itemsize

    def rows(self, batch: Tensor, images: int) -> Tensor:
        """The tensor of a batch of `images` images as [images, *shape]."""
        if self.axis is None:
            raise ValueError("this tensor is the same for every image")
        before, after = batch.shape[: self.axis], batch.shape[self.axis + 1 :]
        apart = batch.reshape(*before, images, -1, *after)
        return apart.movedim(self.axis, 0).reshape(images, *self.shape)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a torch function that gave tensors, in the order of a forward pass.

    `function` is its plain name ("conv2d", "add"). `args` and `kwargs` are as given, with a Value
    for each tensor. `plural` says that it gave a tuple or a list. `overwritten` is the index of the
    first later call that writes, or may write, into what this one gave. `fresh` says that its
    output is new memory: no view, and not what it took.
    """

    index: int
    function: str
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    outputs: tuple[Value, ...]
    plural: bool
    operands: tuple[Value, ...]
    overwritten: int | None
    fresh: bool

    @property
    def sources(self) -> tuple[int, ...]:
        """The calls (or INPUT) that made what this one takes, without repetition."""
        found = (operand.source for operand in self.operands)
        return tuple(dict.fromkeys(source for source in found if source is not None))


@dataclass(frozen=True, slots=True)
class Node:
    """Something with a name: a module's call, or a functional call in a module's own code.

    `calls` are those that ran in it. `call` is the one whose output is its own, None where that
    cannot be read; `obstacle` says why, as the end of a sentence: "returns a tuple". A `leaf` is
    not looked into; other modules contain nodes of their own. `parameters` are the names of those
    that it uses.

    `entry` is the call, and the place among its operands, where the only tensor that a module takes
    is used first; `bound` says why nothing can stand in for a module, where so, as the end of a
    sentence. Both are empty for a functional call.
    """

    name: str
    kind: str
    leaf: bool
    calls: range
    call: int | None
    obstacle: str
    parameters: tuple[str, ...]
    entry: tuple[int, int] | None = None
    bound: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """A forward pass of one network at one size of input; never changes.

    `image` is the shape of a picture, channels first. `nodes` are in the order in which they end:
    modules follow what they contain. `result` is the call whose output the network gives.
    """

    image: tuple[int, ...]
    calls: tuple[Call, ...]
    nodes: Mapping[str, Node]
    result: int | None

    def call(self, name: str) -> int:
        """The call to read for a node; raises KeyError, and ValueError where it has none."""
        node = self.nodes[name]
        if node.call is None:
            raise ValueError(f"{name} {node.obstacle}")
        return node.call

    def output(self, name: str) -> Value:
        """The output of a node; raises as `call` does."""
        return self.calls[self.call(name)].outputs[0]
