"""The Synthesize job: a question in, pictures out, told of while they grow."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial

import torch

from convlens.contract import Failure, with_defaults
from convlens.contract.synthesis_cost import raise_steps, spending_of, steps_of, synthesis_cost
from convlens.v1 import synthesis_pb2 as pb
from convlens.v1.receipt_pb2 import Receipt
from convlens.workers.explain import Subject, too_much_work
from convlens.workers.images.encoding import in_8_bits
from convlens.workers.jobs import Ticket, guarded
from convlens.workers.lane import Lane
from convlens.workers.pictures import Picture, read_picture
from convlens.workers.receipts import analysis_receipt
from convlens.workers.runner import AnalysisJob, Key, Pass, Steps
from convlens.workers.synthesis.canvas import canvas_of, ending_of, fill_in, task_of
from convlens.workers.synthesis.checkpoints import question_of, read, written
from convlens.workers.synthesis.makings import Making, makings_of
from convlens.workers.synthesis.messages import Made, picture_of, preview_of, progress_of
from convlens.workers.synthesizers import Growth, Memory


class SynthesizeJob(AnalysisJob[Made]):
    """One Synthesize job; messages are written in `executor` while others are computed.

    Raises Failure WORK_TOO_LARGE where the request may need more than `allowed` passes.
    """

    def __init__(self, ticket: Ticket, subject: Subject, executor: Executor, allowed: int) -> None:
        self._subject = subject
        self.request = _filled_in(ticket.job.request, subject)
        self._makings = makings_of(self.request.method, subject)
        count = sum(len(making.targets) for making in self._makings)
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
            return Made(growth)
        pixels = torch.stack([sketch.pixels for sketch in sketches])
        rounded = (in_8_bits(pixels).double() / 255).to(pixels.dtype)
        points = task.see(torch.cat([pixels, rounded]))
        answer = yield Pass(points, so_far=lambda: growth)
        scores, rounded_scores = answer.scores.double().cpu().chunk(2)
        return Made(growth, scores, rounded_scores)

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
        growths = [self._growths[n] for n in range(len(self._makings)) if n in self._growths]
        if len(growths) < len(self._makings):
            return
        if step - self._told >= self.request.progress_every:
            self._told = step
            progress = progress_of(step, self._steps, growths, self.spent)
            told = pb.SynthesizeResponse(progress=progress)
            self._send("progress", told.ByteSize(), lambda: told)
        every = self.request.preview_every
        if every and step - self._previewed >= every:
            self._previewed = step
            size = sum(growth.size for growth in growths)
            self._send("preview", size, partial(self._preview, step, growths))

    def _preview(self, step: int, growths: Sequence[Growth]) -> pb.SynthesizeResponse:
        checkpoint = written(self._question, [growth.state for growth in growths])
        return pb.SynthesizeResponse(preview=preview_of(step, growths, checkpoint))

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
        """Takes what came of a method; the whole answer fails where one did."""
        if isinstance(outcome, Failure):
            self.ticket.fail(outcome)
            return
        made = Made(outcome, is_partial=True) if isinstance(outcome, Growth) else outcome
        assert isinstance(made, Made)
        self._made[key[0]] = made
        self._growths[key[0]] = made.growth

    def response(self) -> bytes:
        """The end, once everything was told of; in the executor."""
        made = [self._made[number] for number in range(len(self._makings))]
        done = pb.SynthesisDone(
            pictures=self._pictures(made),
            is_partial=any(each.is_partial for each in made),
            checkpoint=written(self._question, [each.growth.state for each in made]),
            receipt=self._receipt(),
            estimated_cost=self.estimate,
        )
        self._lane.wait()
        return pb.SynthesizeResponse(done=done).SerializeToString()

    def _pictures(self, made: Sequence[Made]) -> Iterator[pb.SynthesizedPicture]:
        labels = self._subject.network.labels
        for each, making in zip(made, self._makings, strict=True):
            for target, (sketch, scores) in zip(making.targets, each.pictures(), strict=True):
                yield picture_of(sketch, target, scores, labels)

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
        raise_steps(parameters.method, max(each.step for each in self._growths.values()))
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
