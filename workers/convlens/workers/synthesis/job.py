"""The Synthesize job: a question in, pictures out, told of while they grow."""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import accumulate
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor

from convlens.contract import Failure, with_defaults
from convlens.contract.rules import title_of
from convlens.contract.synthesis_cost import raise_steps, spending_of, steps_of, synthesis_cost
from convlens.v1 import synthesis_pb2 as pb
from convlens.v1.receipt_pb2 import Receipt
from convlens.workers.explain import Subject, not_finite, too_much_work
from convlens.workers.images.encoding import in_8_bits
from convlens.workers.jobs import Ticket, guarded
from convlens.workers.lane import Lane
from convlens.workers.pictures import Picture, read_picture
from convlens.workers.receipts import analysis_receipt
from convlens.workers.runner import AnalysisJob, Key, Pass, Steps
from convlens.workers.synthesis.canvas import BYTES, canvas_of, ending_of, fill_in, task_of
from convlens.workers.synthesis.checkpoints import question_of, read, written
from convlens.workers.synthesis.makings import Making, makings_of
from convlens.workers.synthesis.messages import Made, picture_of, preview_of, progress_of
from convlens.workers.synthesizers import Growth, Memory, Sketch, Task

# What a method needs to go on.
State: TypeAlias = Mapping[str, Tensor]


class SynthesizeJob(AnalysisJob[Made]):
    """One Synthesize job; messages are written in `executor` while others are computed.

    Raises Failure WORK_TOO_LARGE where the request may need more than `allowed` passes.
    """

    def __init__(self, ticket: Ticket, subject: Subject, executor: Executor, allowed: int) -> None:
        self._subject = subject
        self.request = _filled_in(ticket.job.request, subject)
        self._makings = makings_of(self.request.method, subject)
        counts = accumulate((len(making.targets) for making in self._makings), initial=0)
        *self._firsts, count = counts
        self._canvas = canvas_of(
            self.request.canvas, subject.shape[0], count, ticket.job.max_response_bytes
        )
        self.estimate = synthesis_cost(self.request, len(subject.network.labels))
        cost = self.estimate.forward_passes + self.estimate.backward_passes
        super().__init__(ticket, cost, allow_partial=self.request.allow_partial)
        self.ending = ending_of(self._canvas, count)
        if cost > allowed and not self.request.estimate_only:
            fewer = " or ".join(spending_of(self.request.method))
            raise too_much_work(cost, allowed, f"ask for fewer {fewer}")
        self._question = question_of(self.request, subject.network)
        self._memories = self._remembered()
        self._picture: Picture | None = None
        self._growths: dict[int, Growth] = {}
        self._made: dict[int, Made] = {}
        self._failed: dict[int, Failure] = {}
        self._lane = Lane(executor)
        self._told = self._previewed = 0
        self._steps = steps_of(self.request.method)

    def _remembered(self) -> Sequence[Memory | None]:
        count = len(self._makings)
        if not self.request.checkpoint:
            return [None] * count
        return list(read(self.request.checkpoint, self._question, count))

    @property
    def is_estimate(self) -> bool:
        """Whether only the cost is asked for."""
        return self.request.estimate_only

    def prepare(self) -> None:
        """Reads the picture that is inverted, where there is one."""
        inversion = self.request.method.inversion
        if inversion.HasField("image"):
            subject = self._subject
            self._picture = read_picture(inversion.image, subject.network, subject.limits)

    def begin(self) -> Mapping[Key, Steps[Made]]:
        """One item for each method at work."""
        return {(n,): self._make(n, making) for n, making in enumerate(self._makings)}

    def _make(self, number: int, making: Making) -> Steps[Made]:
        network = self._subject.network
        task = task_of(network, self._canvas, self.request.seed, number, self._memories[number])
        growth = yield from making.begin(task, self._picture)
        sketches = [sketch for sketch in growth.sketches if sketch is not None]
        if not sketches:
            # Every class has one after the first generation, unless the answers are no numbers.
            raise self._not_finite(task, "its scores are not")
        pixels = torch.stack([sketch.pixels for sketch in sketches])
        self._check_finite(pixels, task, "its pixels are not")
        rounded = (in_8_bits(pixels).double() / 255).to(pixels.dtype)
        points = task.see(torch.cat([pixels, rounded]))
        answer = yield Pass(points, so_far=lambda: growth)
        self._check_finite(answer.scores, task, "its scores are not")
        scores, rounded_scores = answer.scores.double().cpu().chunk(2)
        return Made(growth, scores, rounded_scores)

    def _check_finite(self, numbers: Tensor, task: Task, detail: str) -> None:
        """Raises Failure NOT_FINITE where a network's NaN has come through."""
        if not bool(numbers.isfinite().all()):
            raise self._not_finite(task, detail)

    def _not_finite(self, task: Task, detail: str) -> Failure:
        method = self.request.method
        title = title_of(getattr(method, str(method.WhichOneof("method"))))
        return not_finite(self._subject, title, task.see(task.blank()[None])[0], detail)

    def watch(self, working: Mapping[Key, Callable[[], object]]) -> Collection[Key]:
        """Tells of progress and sends previews, where all methods at work have come as far."""
        for key, so_far in working.items():
            if isinstance(growth := so_far(), Growth):
                self._growths[key[0]] = growth
        steps = {self._growths[key[0]].step for key in working if key[0] in self._growths}
        if len(steps) == 1:
            self._tell(steps.pop())
        return ()

    def _tell(self, step: int) -> None:
        if len(self._growths) + len(self._failed) < len(self._makings):
            return
        sketches = self._sketches()
        if step - self._told >= self.request.progress_every:
            self._told = step
            progress = progress_of(step, self._steps, sketches, self.spent)
            told = pb.SynthesizeResponse(progress=progress)
            self._send("progress", told.ByteSize(), lambda: told)
        every = self.request.preview_every
        if every and step - self._previewed >= every:
            self._previewed = step
            size = sum(growth.size for growth in self._growths.values())
            write = partial(self._preview, step, sketches, self._states())
            self._send("preview", size, write)

    def _sketches(self) -> list[Sketch | None]:
        """Every picture so far; None for one that cannot be made, or is not there yet."""
        sketches: list[Sketch | None] = []
        for number, making in enumerate(self._makings):
            growth = self._growths.get(number)
            sketches += growth.sketches if growth else [None] * len(making.targets)
        return sketches

    def _states(self) -> Sequence[State]:
        """What all methods need to go on; none where one has failed."""
        if self._failed:
            return []
        return [self._growths[number].state for number in range(len(self._makings))]

    def _preview(
        self, step: int, sketches: Sequence[Sketch | None], states: Sequence[State]
    ) -> pb.SynthesizeResponse:
        checkpoint = written(self._question, states) if states else b""
        return pb.SynthesizeResponse(preview=preview_of(step, sketches, checkpoint))

    def _send(self, topic: str, size: int, write: Callable[[], pb.SynthesizeResponse]) -> None:
        """Writes a message beside the runner, and sends it after those before it.

        Where too much waits, a later one of its topic is written in its place.
        """

        def send() -> None:
            message = guarded(self.ticket, write)
            if isinstance(message, Failure):
                self.ticket.fail(message)
            else:
                self.ticket.tell(message.SerializeToString(), topic)

        self._lane.submit(send, size, topic)

    def accept(self, key: Key, outcome: object) -> None:
        """Takes what came of a method, and sends its pictures."""
        number = key[0]
        if isinstance(outcome, Failure):
            self._failed[number] = outcome
            self._growths.pop(number, None)
        else:
            made = Made(outcome, is_partial=True) if isinstance(outcome, Growth) else outcome
            assert isinstance(made, Made)
            self._made[number] = made
            self._growths[number] = made.growth
        for offset in range(len(self._makings[number].targets)):
            size = BYTES * prod(self._canvas)
            self._send("", size, partial(self._item, number, offset))

    def _item(self, number: int, offset: int) -> pb.SynthesizeResponse:
        """What became of one picture of a method."""
        item = pb.SynthesisItem(picture_index=self._firsts[number] + offset)
        if failure := self._failed.get(number):
            item.error.CopyFrom(failure.status())
            return pb.SynthesizeResponse(item=item)
        labels, wanted = self._subject.network.labels, self.request.return_pixels
        target = self._makings[number].targets[offset]
        sketch, scores = self._made[number].pictures[offset]
        picture = picture_of(sketch, target, scores, labels, with_pixels=wanted)
        item.picture.CopyFrom(picture)
        return pb.SynthesizeResponse(item=item)

    def response(self) -> bytes:
        """The end, once everything was told of; in the executor."""
        states = self._states()
        done = pb.SynthesisDone(
            is_partial=any(each.is_partial for each in self._made.values()),
            checkpoint=written(self._question, states) if states else b"",
            receipt=self._receipt(),
            estimated_cost=self.estimate,
        )
        self._lane.wait()
        return pb.SynthesizeResponse(done=done).SerializeToString()

    def estimated(self) -> bytes:
        """The answer to a request that asks for the cost alone."""
        done = pb.SynthesisDone(estimated_cost=self.estimate)
        return pb.SynthesizeResponse(done=done).SerializeToString()

    def _receipt(self) -> Receipt:
        parameters = pb.SynthesizeRequest()
        parameters.CopyFrom(self.request)
        parameters.ClearField("checkpoint")
        if parameters.method.inversion.HasField("image"):
            parameters.method.inversion.ClearField("image")
        # Going on with fewer steps than were done takes none of them back.
        steps = [each.step for each in self._growths.values()]
        raise_steps(parameters.method, max(steps, default=0))
        network = self._subject.network
        return analysis_receipt(network, self.request, parameters, self.spent, self.rows)


def _filled_in(body: bytes, subject: Subject) -> pb.SynthesizeRequest:
    given = pb.SynthesizeRequest.FromString(body)
    # Its fields have defaults, also where it was left out.
    match given.method.WhichOneof("method"):
        case "class_model":
            given.method.class_model.priors.SetInParent()
        case "unit_maximization":
            given.method.unit_maximization.priors.SetInParent()
        case _:
            pass
    request = with_defaults(given)
    request.network = subject.reference
    fill_in(request.canvas, subject.shape)
    return request
