"""How many rows of a pass the memory holds, measured once for each kind of pass."""

import logging
from dataclasses import replace
from math import prod
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from convlens.workers.anatomy.costs import multiply_adds
from convlens.workers.body import Body
from convlens.workers.incremental import Course
from convlens.workers.network import ServedNetwork
from convlens.workers.runner.asking import Kind
from convlens.workers.runner.computing import forward

log = logging.getLogger(__name__)

# A micro-batch of patches may take so many times as long as one of whole passes, since each costs
# beside its rows; more patches than that are no faster together.
LONGER, MOST_PATCHES = 2, 64


class MemoryPlan:
    """Says how many rows the micro-batches of a kind have: at most `rows`, fewer of larger pictures
    than the network's own input, and as `budget` bytes allow where there is a budget.

    What one row takes is a property of the network and of the kind, so that the plan, and with it
    the bits of every answer, is the same on every replica.
    """

    def __init__(self, network: ServedNetwork, rows: int, budget: int | None) -> None:
        self._network = network
        self._rows = rows
        self._budget = budget
        # Variants are remembered as long as their methods are at work.
        self._planned: WeakKeyDictionary[Body, dict[Kind, int]] = WeakKeyDictionary()
        # Where memory ended before what was planned.
        self._lowered: WeakKeyDictionary[Course, int] = WeakKeyDictionary()

    def rows(self, kind: Kind) -> int:
        """Rows of a full micro-batch; the first time, one row is computed to find out."""
        if kind.course:
            return self._of_patches(kind.course)
        planned, key = self._known(kind)
        if key not in planned:
            planned[key] = self._fitting(kind)
        return planned[key]

    def _of_patches(self, course: Course) -> int:
        """As many as take twice the time of a micro-batch of whole passes, if memory holds them."""
        whole = sum(map(multiply_adds, self._network.trace.calls))
        rows = round(LONGER * self._rows * whole / max(1, course.multiply_adds))
        rows = max(self._rows, min(rows, MOST_PATCHES))
        if self._budget:
            rows = min(rows, max(1, self._budget // course.row_bytes))
        return min(rows, self._lowered.get(course, rows))

    def _known(self, kind: Kind) -> tuple[dict[Kind, int], Kind]:
        """What is planned for the kinds of a body, and a kind's key in it, which keeps no body."""
        body = kind.body or self._network
        return self._planned.setdefault(body, {}), replace(kind, body=None, course=None)

    def _fitting(self, kind: Kind) -> int:
        rows = self._rows
        if kind.body:
            larger = prod(kind.body.trace.image) / prod(self._network.trace.image)
            rows = max(1, int(rows / max(1, larger)))
        if self._budget:
            row = footprint(kind.body or self._network, kind)
            while rows > 1 and rows * row > self._budget:
                rows = (rows + 1) // 2
            log.debug("a row takes %d bytes, a micro-batch has %d", row, rows)
        return rows

    def lower(self, kind: Kind, rows: int) -> None:
        """Plans no more than so many rows from now on: more did not fit."""
        if kind.course:
            self._lowered[kind.course] = rows
        else:
            planned, key = self._known(kind)
            planned[key] = min(rows, self.rows(kind))
        log.warning("memory does not hold a micro-batch", extra={"rows": rows})


def footprint(body: Body, kind: Kind) -> int:
    """Bytes that one row of a pass needs beside the weights.

    With gradients, it is what the graph keeps until it goes back; without, the largest sum of what
    a call takes and gives. What is captured comes on top.
    """
    captured = sum(body.trace.calls[call].outputs[0].bytes for call in kind.capture)
    if kind.gradient:
        return captured + _kept(body, kind)
    calls = body.trace.calls
    passing = ([v.bytes for v in (*c.operands, *c.outputs) if v.axis is not None] for c in calls)
    return captured + max(map(sum, passing), default=0)


def _kept(body: Body, kind: Kind) -> int:
    """Bytes of the tensors that the graph of one row keeps."""
    weights = {_memory(tensor) for tensor in (*body.module.parameters(), *body.module.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if (memory := _memory(tensor)) not in weights:
            kept[memory] = tensor.untyped_storage().nbytes()
        # As it is, it would hold the graph that holds it, and nothing would ever free the two.
        return tensor.detach()

    pixels = body.place(torch.zeros(1, *body.trace.image)).requires_grad_()
    with torch.enable_grad(), saved_tensors_hooks(pack, lambda tensor: tensor):
        graph = forward(body, kind, pixels)
    del graph
    return sum(kept.values())


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
