"""The AttackStream job: the same work, told of as it is done."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from convlens.contract import Failure, with_defaults
from convlens.v1 import adversarial_pb2 as pb
from convlens.workers.adversarial.job import AttackJob
from convlens.workers.adversarial.verdict import Judged
from convlens.workers.attacks import Attempt
from convlens.workers.previews import Previews
from convlens.workers.runner import Key


class AttackStreamJob(AttackJob):
    """One AttackStream job."""

    def parse(self, body: bytes) -> pb.AttackRequest:
        """The request within the stream's."""
        given = pb.AttackStreamRequest.FromString(body)
        self._stream = with_defaults(given)
        self._previews = Previews()
        self._fooled = 0
        self._next = 0.0
        # As it came: some defaults depend on the network.
        return given.request

    def accept(self, key: Key, outcome: object) -> None:
        """Takes what came of an image."""
        super().accept(key, outcome)
        if isinstance(outcome, Judged):
            self._fooled += outcome.status == pb.ATTACK_STATUS_SUCCEEDED

    def watch(self, working: Mapping[Key, Callable[[], object]]) -> Collection[Key]:
        """Tells of progress and of the best so far, at most once in the interval asked for."""
        if time.monotonic() < self._next:
            return ()
        self._next = time.monotonic() + self._stream.min_interval_ms / 1000
        self._tell(pb.AttackStreamResponse(progress=self._progress()), "progress")
        if self._stream.partial_items:
            for key, so_far in working.items():
                if len(key) > 1 and isinstance(attempt := so_far(), Attempt):
                    judged = replace(self._begun[key[0]], attempt=attempt)
                    version = self._previews.number(key[0])
                    self._executor.submit(self._preview, key[0], version, judged)
        return ()

    def _progress(self) -> pb.AttackProgress:
        return pb.AttackProgress(
            images_done=len(self._written),
            images_fooled=self._fooled,
            images=len(self._pictures),
            cost=self.spent,
            estimated_cost=self.estimate,
        )

    def _preview(self, index: int, version: int, judged: Judged) -> None:
        """Tells of the best so far, unless a later version or the end came meanwhile."""
        if not self._previews.is_newest(index, version):
            return
        result = self.result_of(judged)
        if not result.HasField("error"):
            item = pb.AttackItem(image_index=index, result=result)
            event = pb.AttackStreamResponse(item=item)
            self._previews.tell(index, version, lambda: self._tell(event, f"item {index}"))

    def _write(self, index: int, outcome: Judged | Failure) -> pb.AttackResult:
        item = pb.AttackItem(image_index=index, is_final=True, result=self.result_of(outcome))
        event = pb.AttackStreamResponse(item=item)
        self._previews.tell_last(index, lambda: self._tell(event))
        return pb.AttackResult()

    def response(self) -> bytes:
        """The end, once everything was told of; in the executor."""
        for written in self._written.values():
            written.result()
        done = pb.AttackDone(receipt=self.receipt(), estimated_cost=self.estimate)
        return pb.AttackStreamResponse(done=done).SerializeToString()

    def estimated(self) -> bytes:
        """The answer to a request that asks for the cost alone."""
        done = pb.AttackDone(estimated_cost=self.estimate)
        return pb.AttackStreamResponse(done=done).SerializeToString()

    def _tell(self, event: pb.AttackStreamResponse, topic: str = "") -> None:
        self.ticket.tell(event.SerializeToString(), topic)
