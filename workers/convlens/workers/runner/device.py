"""Computes micro-batches, and finds a way where one cannot be computed as it is."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias, cast

import torch

from convlens.workers.incremental import in_the_way
from convlens.workers.network import ServedNetwork
from convlens.workers.raised import is_out_of_memory
from convlens.workers.runner.asking import Answer, Kind, Patched
from convlens.workers.runner.computing import Outcome, compute
from convlens.workers.runner.job import Running
from convlens.workers.runner.memory import MemoryPlan
from convlens.workers.runner.rounds import Item, MicroBatch, Segment, filled

log = logging.getLogger(__name__)

Hand: TypeAlias = Callable[[Item, Answer | Exception], None]


class Device:
    """Where a network computes, with the rows that `plan` has for it.

    Every item is handed the answer to its part of a micro-batch with `hand`, or what broke it.
    """

    def __init__(self, network: ServedNetwork, plan: MemoryPlan, hand: Hand) -> None:
        self._network, self._plan, self._hand = network, plan, hand

    def compute(self, batch: MicroBatch) -> None:
        """Hands every segment its answer; what breaks is its own item's."""
        if batch.rows > self._plan.rows(batch.kind):
            # It was cut before it was known that memory does not hold so many.
            for part in filled(batch.kind, self._plan.rows(batch.kind), batch.segments):
                self.compute(part)
            return
        waiting = [item for each in batch.segments for item in each.items if not item.over]
        batch.segments = [kept for each in batch.segments if (kept := each.of(waiting))]
        if not batch.segments:
            return
        outcomes = self._attempt(batch)
        if isinstance(outcomes, Exception) and batch.kind.course:
            self._compute_whole(batch, outcomes)
        elif outcomes is None:
            self._compute_in_halves(batch)
        elif isinstance(outcomes, Exception):
            self._compute_apart(batch, outcomes)
        else:
            padded = batch.free / len(batch.segments)
            for segment, found in zip(batch.segments, outcomes, strict=True):
                self._charge(segment, batch.kind, padded)
                for item, outcome in zip(segment.items, found, strict=True):
                    self._hand(item, outcome)

    def _attempt(self, batch: MicroBatch) -> list[list[Outcome]] | Exception | None:
        """What comes of the segments, or what the network raised; None where memory ran out.

        Then nothing is kept of the error: its traceback holds what took the memory.
        """
        try:
            return compute(self._network, batch)
        except Exception as error:
            return None if is_out_of_memory(error) else error

    def _charge(self, segment: Segment, kind: Kind, padded: float) -> None:
        job = cast(Running, segment.items[0].owner).job
        job.stages.passes += len(segment.items)
        job.stages.rows += len(segment)
        job.stages.padded_rows += padded
        job.spent.forward_passes += len(segment)
        if kind.gradient:
            job.spent.backward_passes += len(segment) * len(segment.objectives)

    def _compute_in_halves(self, batch: MicroBatch) -> None:
        """Where memory did not hold so many rows: from now on, half of them."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if batch.rows == 1:
            self._compute_apart(batch, MemoryError("one row is more than the memory holds"))
            return
        self._plan.lower(batch.kind, batch.rows // 2)
        self.compute(batch)

    def _compute_whole(self, batch: MicroBatch, error: Exception) -> None:
        """Where the network broke on patches: by whole passes, which it may go along with."""
        reason = in_the_way(error)
        log.warning("patches do not go through", extra={"reason": reason})
        for item in {id(item): item for each in batch.segments for item in each.items}.values():
            cast(Patched, item.wanted.points).give_up(reason)
        kind = replace(batch.kind, course=None)
        for part in filled(kind, self._plan.rows(kind), batch.segments):
            self.compute(part)

    def _compute_apart(self, batch: MicroBatch, error: Exception) -> None:
        """Where the network broke: each item in a micro-batch of its own, of the same shape."""
        items = {id(item): item for segment in batch.segments for item in segment.items}
        if len(items) == 1:
            for item in items.values():
                self._hand(item, error)
            return
        for item in items.values():
            own = [kept for segment in batch.segments if (kept := segment.of([item]))]
            self.compute(MicroBatch(batch.kind, batch.rows, own))
