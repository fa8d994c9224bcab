"""The EvaluateRobustness job: how one image fares under every attack and budget of a plan."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import Executor

from convlens.contract import Failure, check, with_defaults
from convlens.contract.robustness import check_plan, robustness_cost
from convlens.contract.validation import Violation, invalid
from convlens.internal.v1 import robustness_pb2 as internal
from convlens.workers.adversarial.registry import Attack
from convlens.workers.adversarial.trial import Trial, certainty_of
from convlens.workers.adversarial.verdict import Judged
from convlens.workers.adversarial.view import View, check_fields
from convlens.workers.adversarial.watching import Watched
from convlens.workers.attacks import Aim, Attempt, Task
from convlens.workers.explain import Subject, check_work, not_finite
from convlens.workers.jobs import Ticket, guarded
from convlens.workers.pictures import Picture, read_picture
from convlens.workers.receipts import receipt
from convlens.workers.runner import AnalysisJob, Key, Pass, Steps, side_by_side
from convlens.workers.targets import Targets


class RobustnessJob(AnalysisJob[internal.RobustnessResponse]):
    """One image of an evaluation; without an image, only the plan is checked.

    Raises Failure INVALID_REQUEST, and WORK_TOO_LARGE where an image may need more than `allowed`
    passes.
    """

    def __init__(self, ticket: Ticket, subject: Subject, executor: Executor, allowed: int) -> None:
        del executor
        self._subject = subject
        request = internal.RobustnessRequest.FromString(ticket.job.request)
        self.is_estimate = not request.HasField("image")
        self._image, self._path = request.image, f"batch.images[{request.index}]."
        self._plan = with_defaults(request.plan)
        self._plan.network = subject.reference
        check_plan(self._plan)
        check_fields(self._plan, ("require_rounded",), subject.network, "plan.")
        classes = len(subject.network.labels)
        for index, method in enumerate(self._plan.attacks):
            Attack(method).check(subject, is_targeted=False, field=f"plan.attacks[{index}]")
        self._estimate = robustness_cost(self._plan, classes)
        cost = self._estimate.forward_passes + self._estimate.backward_passes
        super().__init__(ticket, cost)
        check_work(cost, allowed, images=1)

    def prepare(self) -> None:
        """Reads the image and its label."""
        self._read = guarded(self.ticket, self._read_image)

    def _read_image(self) -> tuple[Picture, Targets]:
        check(self._image, self._path)
        if self._image.true_class.HasField("rank"):
            words = "is a rank; name the true class by class_index or label"
            raise invalid([Violation(field=f"{self._path}true_class", description=words)])
        network = self._subject.network
        label = Targets([self._image.true_class], network.labels, f"{self._path}true_class")
        return read_picture(self._image.image, network, self._subject.limits), label

    def begin(self) -> Mapping[Key, Steps[internal.RobustnessResponse]]:
        """The image."""
        return {(0,): self._measure()}

    def _measure(self) -> Steps[internal.RobustnessResponse]:
        """How the network answers the image, and what every attack makes of it."""
        if isinstance(self._read, Failure):
            raise self._read
        picture, label = self._read
        view = View.of_input(picture, self._subject.network)
        answer = yield Pass(picture.x[None])
        before = answer.scores[0].double().cpu()
        if not bool(before.isfinite().all()):
            raise not_finite(self._subject, "The forward pass", picture.x, "its scores are not")
        aim = Aim(label.of(before)[0].class_index, None)
        attempt = Attempt(view.x, 0, False)
        clean = Judged(view.x, aim, attempt, before, Watched(), is_vector=view.is_vector)
        found = internal.RobustnessResponse(certainty=certainty_of(aim, before))
        found.robustness.clean_correct = not clean.is_reached_before
        if not found.robustness.clean_correct:
            return found
        task, network = Task(view.x, aim, self._seed), self._subject.network
        trials = [
            Trial(self._plan, each, view, network, task, clean) for each in self._plan.attacks
        ]
        for outcome in (yield from side_by_side([trial.run() for trial in trials])):
            if isinstance(outcome, Failure):
                raise outcome
        found.robustness.budgets.extend(trial.smallest for trial in trials)
        found.attacked.extend(internal.Certainties(certainties=each.least) for each in trials)
        return found

    @property
    def _seed(self) -> int:
        """The image's own."""
        name = f"{self._plan.seed}/{self._image.id}".encode()
        return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")

    def accept(self, key: Key, outcome: object) -> None:
        """Takes what came of the image."""
        if len(key) > 1:
            return
        if isinstance(outcome, Failure):
            self.ticket.fail(outcome)
            return
        assert isinstance(outcome, internal.RobustnessResponse)
        self._found = outcome

    def response(self) -> bytes:
        """What came of the image."""
        self._found.cost.CopyFrom(self.spent)
        return self._found.SerializeToString()

    def estimated(self) -> bytes:
        """What an image may cost, and how the answers will come about."""
        made = receipt(self._subject.network, self._plan, self._plan, self.spent)
        made.rows, made.seed = self._subject.network.facts.rows, self._plan.seed
        answer = internal.RobustnessResponse(estimated_cost=self._estimate, receipt=made)
        return answer.SerializeToString()
