"""The Attack job: pictures in, a verdict for each of them out."""

from collections.abc import Mapping
from concurrent.futures import Executor, Future

from convlens.contract import ErrorReason, Failure, with_defaults
from convlens.contract.attack_cost import attack_cost, is_targeted
from convlens.contract.attacks import check_budget, without_other_budgets
from convlens.contract.validation import Violation, invalid
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import image_pb2
from convlens.v1.receipt_pb2 import Receipt
from convlens.workers.adversarial.aims import Aims
from convlens.workers.adversarial.attacking import Attacking
from convlens.workers.adversarial.registry import Attack
from convlens.workers.adversarial.verdict import Judged, verdict_of
from convlens.workers.adversarial.view import Original, View, check_fields
from convlens.workers.adversarial.watching import Watched
from convlens.workers.attacks import Attempt, Task
from convlens.workers.explain import Subject, check_response, check_work, not_finite
from convlens.workers.jobs import Ticket, guarded
from convlens.workers.pictures import Picture, read_picture
from convlens.workers.receipts import analysis_receipt, without_images
from convlens.workers.runner import AnalysisJob, Key, Pass, Steps


class AttackJob(AnalysisJob[Judged]):
    """One Attack job; messages are written in `executor` while others are computed.

    Raises Failure WORK_TOO_LARGE where the request may need more than `allowed` passes.
    """

    def __init__(self, ticket: Ticket, subject: Subject, executor: Executor, allowed: int) -> None:
        self._subject = subject
        self._executor = executor
        self.request = _filled_in(self.parse(ticket.job.request), subject)
        self._attack = Attack(self.request.method)
        self._attack.check(subject, is_targeted(self.request.goal), "method")
        self.estimate = attack_cost(self.request, len(subject.network.labels))
        cost = self.estimate.forward_passes + self.estimate.backward_passes
        super().__init__(ticket, cost, allow_partial=self.request.allow_partial)
        if not self.request.estimate_only:
            check_work(cost, allowed, len(self.request.images))
        self._aims = Aims(self.request, subject.network.labels)
        self._pictures: list[Picture | Failure] = []
        self._begun: dict[int, Judged] = {}
        self._written: dict[int, Future[pb.AttackResult]] = {}

    def parse(self, body: bytes) -> pb.AttackRequest:
        """The request in the job's bytes."""
        return pb.AttackRequest.FromString(body)

    @property
    def is_estimate(self) -> bool:
        """Whether only the cost is asked for."""
        return self.request.estimate_only

    def prepare(self) -> None:
        """Reads the images."""
        self._pictures = [self._read(index) for index in range(len(self.request.images))]

    def _read(self, index: int) -> Picture | Failure:
        if self.ticket.is_over():
            return Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage="in decoding")
        image, subject = self.request.images[index], self._subject
        return guarded(self.ticket, lambda: read_picture(image, subject.network, subject.limits))

    def begin(self) -> Mapping[Key, Steps[Judged]]:
        """One item for each image."""
        return {(index,): self._judge(index) for index in range(len(self._pictures))}

    def _judge(self, index: int) -> Steps[Judged]:
        """The attack on one image, and what the network says of what it found."""
        picture = self._pictures[index]
        if isinstance(picture, Failure):
            raise picture
        x = picture.x
        answer = yield Pass(x[None])
        before = answer.scores[0].double().cpu()
        if not bool(before.isfinite().all()):
            raise not_finite(self._subject, "The forward pass", x, "its scores are not")
        aim = self._aims.of(index, before)
        view = self._view(picture)
        attempt, watched = Attempt(view.x, 0, False), Watched(view.body)
        judged = Judged(view.x, aim, attempt, before, watched, is_vector=view.is_vector)
        self._begun[index] = judged
        task = Task(view.x, aim, self.request.seed, self.request.stop_at_success)
        until_rounded = self.request.until_rounded_succeeds
        attacking = Attacking(self._attack, view, self._subject.network, until_rounded)
        return (yield from attacking.run(task, judged))

    def _view(self, picture: Picture) -> View:
        if self.request.through_resize:
            return Original.of(picture, self._subject.network, self._subject.limits)
        return View.of_input(picture, self._subject.network)

    def accept(self, key: Key, outcome: object) -> None:
        """Takes what came of an image."""
        if len(key) == 1:
            assert isinstance(outcome, Judged | Failure)
            self._written[key[0]] = self._executor.submit(self._write, key[0], outcome)

    def _write(self, index: int, outcome: Judged | Failure) -> pb.AttackResult:
        """Writes the message of one image; in the executor."""
        del index
        return self.result_of(outcome)

    def result_of(self, outcome: Judged | Failure) -> pb.AttackResult:
        """The message of what came of an image."""
        made = guarded(self.ticket, lambda: self._verdict(outcome))
        if isinstance(made, Failure):
            return pb.AttackResult(error=made.status())
        return pb.AttackResult(verdict=made)

    def _verdict(self, outcome: Judged | Failure) -> pb.AttackVerdict:
        if isinstance(outcome, Failure):
            raise outcome
        return verdict_of(
            outcome,
            self._subject.network.labels,
            top_k=self.request.top_k,
            title=self._attack.title,
            geometry=(
                image_pb2.GEOMETRY_NETWORK
                if self.request.through_resize
                else image_pb2.GEOMETRY_AS_IS
            ),
            return_pixels=self.request.return_pixels,
        )

    def response(self) -> bytes:
        """The response's bytes; in the executor."""
        results = [self._written[index].result() for index in range(len(self._pictures))]
        response = pb.AttackResponse(
            results=results, receipt=self.receipt(), estimated_cost=self.estimate
        )
        check_response(response, len(results), self.ticket.job.max_response_bytes)
        return response.SerializeToString()

    def estimated(self) -> bytes:
        """The answer to a request that asks for the cost alone."""
        return pb.AttackResponse(estimated_cost=self.estimate).SerializeToString()

    def receipt(self) -> Receipt:
        """How the answer came about."""
        return analysis_receipt(
            self._subject.network,
            self.request,
            without_images(self.request),
            self.spent,
            self.rows,
        )


def _filled_in(given: pb.AttackRequest, subject: Subject) -> pb.AttackRequest:
    """The request as it is meant; the default of top_k bows to a network with fewer classes."""
    check_budget(given.method, "method")
    request, classes = with_defaults(given), len(subject.network.labels)
    without_other_budgets(request.method)
    request.network = subject.reference
    check_fields(request, ("until_rounded_succeeds", "through_resize"), subject.network)
    if not given.HasField("top_k"):
        request.top_k = min(request.top_k, classes)
    if request.top_k > classes:
        words = f"is {request.top_k}; must be at most {classes}, the classes of this network"
        raise invalid([Violation(field="top_k", description=words)])
    return request
