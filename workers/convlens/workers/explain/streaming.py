"""The ExplainStream job: the same work, told of as it is done."""

import time
from collections.abc import Callable, Collection, Mapping
from typing import TypeGuard

from convlens.contract import Failure, with_defaults
from convlens.v1 import explanation_pb2 as pb
from convlens.workers.explain.found import Found
from convlens.workers.explain.job import ExplainJob
from convlens.workers.jobs import guarded
from convlens.workers.previews import Previews
from convlens.workers.runner import Key


class ExplainStreamJob(ExplainJob):
    """One ExplainStream job."""

    def parse(self, body: bytes) -> pb.ExplainRequest:
        """The request within the stream's."""
        self._stream = with_defaults(pb.ExplainStreamRequest.FromString(body))
        self._previews = Previews()
        self._next = 0.0
        return self._stream.request

    def accept(self, key: Key, outcome: object) -> None:
        """Takes what came of an image, or of one method for one class of it."""
        super().accept(key, outcome)
        if len(key) == 1 and isinstance(outcome, Failure):
            item = pb.ExplainItem(image_index=key[0], is_final=True, error=outcome.status())
            self._tell(pb.ExplainStreamResponse(item=item))
        elif self.request.measures and self._is_preview(outcome, key):
            # The map is there, and its scores are not yet.
            version = self._previews.number(key[:2])
            self._executor.submit(self._preview, key[:2], version, outcome)

    def _is_preview(self, found: object, key: Key) -> TypeGuard[Found]:
        """Whether it is what a method itself found, and the caller wants to see it at once."""
        return len(key) == 3 and isinstance(found, Found) and self._stream.partial_items

    def watch(self, working: Mapping[Key, Callable[[], object]]) -> Collection[Key]:
        """Tells of progress, and of maps that improve, at most once in the interval asked for."""
        settled = super().watch(working)
        if time.monotonic() < self._next:
            return settled
        self._next = time.monotonic() + self._stream.min_interval_ms / 1000
        self._tell(pb.ExplainStreamResponse(progress=self._progress()), "progress")
        if self._stream.partial_items:
            for key, so_far in working.items():
                if key not in settled and self._is_preview(found := so_far(), key):
                    version = self._previews.number(key[:2])
                    self._executor.submit(self._preview, key[:2], version, found)
        return settled

    def _progress(self) -> pb.ExplainProgress:
        failed = len(self._failed) * len(self._asked)
        return pb.ExplainProgress(
            attributions_done=len(self._written) + failed,
            attributions=len(self._pictures) * len(self._asked),
            cost=self.spent,
            estimated_cost=self.estimate,
        )

    def _preview(self, key: Key, version: int, found: Found) -> None:
        """Tells of a map that still improves, unless a later version came meanwhile."""
        if not self._previews.is_newest(key, version):
            return
        index, number = key
        result = guarded(self.ticket, lambda: self._written_result(index, number, found))
        if isinstance(result, Failure) or result.HasField("error"):
            return
        event = pb.ExplainStreamResponse(item=pb.ExplainItem(image_index=index, result=result))
        self._previews.tell(key, version, lambda: self._tell(event, f"item {index} {number}"))

    def _write(self, index: int, number: int, outcome: Found | Failure) -> pb.AttributionResult:
        result = self._written_result(index, number, outcome)
        item = pb.ExplainItem(image_index=index, is_final=True, result=result)
        event = pb.ExplainStreamResponse(item=item)
        self._previews.tell_last((index, number), lambda: self._tell(event))
        return pb.AttributionResult()

    def response(self) -> bytes:
        """The end, once everything was told of; in the executor."""
        for written in self._written.values():
            written.result()
        done = pb.ExplainDone(receipt=self.receipt(), estimated_cost=self.estimate)
        return pb.ExplainStreamResponse(done=done).SerializeToString()

    def estimated(self) -> bytes:
        """The answer to a request that asks for the cost alone."""
        done = pb.ExplainDone(estimated_cost=self.estimate)
        return pb.ExplainStreamResponse(done=done).SerializeToString()

    def _tell(self, event: pb.ExplainStreamResponse, topic: str = "") -> None:
        self.ticket.tell(event.SerializeToString(), topic)
