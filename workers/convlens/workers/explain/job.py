"""The Explain job: pictures in, explanations by several methods for several classes out."""

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace

from torch import Tensor

from convlens.contract import ErrorReason, Failure, with_defaults
from convlens.contract.cost import explain_cost
from convlens.v1 import explanation_pb2 as pb
from convlens.v1.receipt_pb2 import Receipt
from convlens.v1.target_pb2 import ClassScore
from convlens.workers.explain.attributions import attribution_of
from convlens.workers.explain.depicting import check_depiction, depict
from convlens.workers.explain.found import Found
from convlens.workers.explain.judging import Case, Judging
from convlens.workers.explain.patches import share_scales
from convlens.workers.explain.plans import Plan, plan
from convlens.workers.explain.recalling import Recall, first_passes, recalled
from convlens.workers.explain.scores import Scores
from convlens.workers.explain.sizes import check_response, check_size, check_work
from convlens.workers.explain.stability import settling
from convlens.workers.explain.subject import Subject
from convlens.workers.explain.verify import not_finite, verify
from convlens.workers.jobs import Ticket, guarded
from convlens.workers.localization import opencv_version
from convlens.workers.pictures import Picture, read_picture
from convlens.workers.receipts import analysis_receipt, without_images
from convlens.workers.runner import AnalysisJob, Key, Pass, Steps, side_by_side
from convlens.workers.targets import Targets


@dataclass(frozen=True, slots=True)
class Asked:
    """One method for one target, by their positions in the request.

    Without a target the method knows none; `target_index` is None too where none was given.
    """

    method_index: int
    target: int | None
    target_index: int | None


class ExplainJob(AnalysisJob[None]):
    """One Explain job; messages are written in `executor` while others are computed.

    Raises Failure WORK_TOO_LARGE where the request may need more than `allowed` passes.
    """

    def __init__(self, ticket: Ticket, subject: Subject, executor: Executor, allowed: int) -> None:
        self._subject = subject
        self._executor = executor
        facts = subject.network.facts
        self.request = with_defaults(self.parse(ticket.job.request))
        self.request.network = subject.reference
        self.estimate = explain_cost(self.request, facts)
        cost = self.estimate.forward_passes + self.estimate.backward_passes
        super().__init__(ticket, cost, allow_partial=self.request.allow_partial)
        if not self.request.estimate_only:
            check_work(cost, allowed, len(self.request.images))
        self._targets = Targets(self.request.targets, subject.network.labels)
        self._plans: list[Plan | Failure] = []
        self._pictures: list[Picture | Failure] = []
        self._classes: dict[int, list[ClassScore]] = {}
        self._failed: dict[int, Failure] = {}
        self._scores = Scores(ticket, self.request)
        self._written: dict[Key, Future[pb.AttributionResult]] = {}

    def parse(self, body: bytes) -> pb.ExplainRequest:
        """The request in the job's bytes."""
        return pb.ExplainRequest.FromString(body)

    @property
    def is_estimate(self) -> bool:
        """Whether only the cost is asked for."""
        return self.request.estimate_only

    def prepare(self) -> None:
        """Makes the methods ready and reads the images."""
        request = self.request
        self._plans = [
            _attempt_plan(self._subject, request, index) for index in range(len(request.methods))
        ]
        check_depiction(request)
        plans = [each for each in self._plans if isinstance(each, Plan)]
        check_size(request, plans, len(self._targets), self.ticket.job.max_response_bytes)
        self._judging = Judging(self._subject, request)
        self._asked = list(self._ask())
        self._pictures = [self._read(index) for index in range(len(request.images))]

    def _ask(self) -> Iterator[Asked]:
        given = len(self.request.targets)
        for index, each in enumerate(self._plans):
            if isinstance(each, Plan) and each.target_free:
                yield Asked(index, None, None)
                continue
            for number in range(len(self._targets)):
                yield Asked(index, number, number if given else None)

    def _read(self, index: int) -> Picture | Failure:
        if self.ticket.is_over():
            return Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage="in decoding")
        return guarded(self.ticket, lambda: self._picture(index))

    def _picture(self, index: int) -> Picture:
        subject, image = self._subject, self.request.images[index]
        picture = read_picture(image, subject.network, subject.limits)
        self._scores.regions.check(index, picture)
        return picture

    def begin(self) -> Mapping[Key, Steps[None]]:
        """One item for each image."""
        return {(index,): self._explain(index) for index in range(len(self._pictures))}

    def _explain(self, index: int) -> Steps[None]:
        picture = self._pictures[index]
        if isinstance(picture, Failure):
            raise picture
        recall = yield from first_passes(self._first_passes(picture.x))
        scores = recall.scores[0].double().cpu()
        self._check_scores(scores, picture)
        self._classes[index] = self._targets.of(scores)
        yield from side_by_side(
            [self._attribute(index, picture, asked, recall) for asked in self._asked]
        )

    def _first_passes(self, x: Tensor) -> list[Pass]:
        """The picture's scores, with what a method begins with for classes that are known."""
        plans = [each for each in self._plans if isinstance(each, Plan)]
        opening = next((each.planned.opening for each in plans if each.planned.opening), None)
        objectives = self._targets.known()
        if not opening or not objectives:
            return [Pass(x[None])]
        # Of several pictures, the maps of one shall not wait for all classes of the others, nor
        # what was found for all of them be held meanwhile.
        return [opening(x, each) for each in objectives[: 1 if len(self._pictures) > 1 else None]]

    def _check_scores(self, scores: Tensor, picture: Picture) -> None:
        if not bool(scores.isfinite().all()):
            raise not_finite(self._subject, "The forward pass", picture.x, "its scores are not")

    def _attribute(
        self, index: int, picture: Picture, asked: Asked, recall: Recall
    ) -> Steps[Found]:
        planned = self._plans[asked.method_index]
        if isinstance(planned, Failure):
            raise planned
        target = 0 if asked.target is None else self._classes[index][asked.target].class_index

        def begin(seen: Picture) -> Steps[Found]:
            return settling(planned.begin(seen, target), self.request.stable_share)

        # A branch of its own: it may end early, and is judged all the same.
        [found] = yield from side_by_side([recalled(begin(picture), recall)])
        if isinstance(found, Failure):
            raise found
        if not self.request.measures:
            return found
        verify(self._subject, planned.title, found, picture.x)
        case = Case(planned, picture, target, begin, found)
        return replace(found, scores=(yield from self._judging.judge(case)))

    def accept(self, key: Key, outcome: object) -> None:
        """Takes what came of an image, or of one method for one class of it."""
        match key:
            case (index,) if isinstance(outcome, Failure):
                self._failed[index] = outcome
            case (index, number) if isinstance(outcome, Found | Failure):
                self._written[key] = self._executor.submit(self._write, index, number, outcome)
            case _:
                pass

    def watch(self, working: Mapping[Key, Callable[[], object]]) -> Collection[Key]:
        """The maps that are good enough, where the request says when that is."""
        if not self.request.stable_share:
            return ()
        return [key for key, so_far in working.items() if _is_whole(so_far())]

    def _write(self, index: int, number: int, outcome: Found | Failure) -> pb.AttributionResult:
        """Writes the message of one method for one class; in the executor."""
        return self._written_result(index, number, outcome)

    def _written_result(
        self, index: int, number: int, outcome: Found | Failure
    ) -> pb.AttributionResult:
        asked = self._asked[number]
        result = pb.AttributionResult(
            method_index=asked.method_index, target_index=asked.target_index
        )
        made = guarded(self.ticket, lambda: self._message(index, asked, outcome))
        if isinstance(made, Failure):
            result.error.CopyFrom(made.status())
        else:
            result.attribution.CopyFrom(made)
        return result

    def _message(self, index: int, asked: Asked, outcome: Found | Failure) -> pb.Attribution:
        planned, picture = self._plans[asked.method_index], self._pictures[index]
        if isinstance(outcome, Failure):
            raise outcome
        assert isinstance(planned, Plan) and isinstance(picture, Picture)
        verify(self._subject, planned.title, outcome, picture.x)
        target = None if asked.target is None else self._classes[index][asked.target]
        made = attribution_of(outcome, picture, target, self.request.dtype)
        depict(made, outcome, picture, self.request)
        self._scores.add(made, outcome, planned, picture, index)
        return made

    def response(self) -> bytes:
        """The response's bytes; in the executor."""
        share_scales((each.result() for each in self._written.values()), self.request)
        response = pb.ExplainResponse(
            results=map(self._result, range(len(self._pictures))),
            receipt=self.receipt(),
            estimated_cost=self.estimate,
        )
        check_response(response, len(response.results), self.ticket.job.max_response_bytes)
        return response.SerializeToString()

    def _result(self, index: int) -> pb.ExplainResult:
        if index in self._failed:
            return pb.ExplainResult(error=self._failed[index].status())
        written = [self._written[index, number] for number in range(len(self._asked))]
        explanation = pb.Explanation(attributions=[each.result() for each in written])
        return pb.ExplainResult(explanation=explanation)

    def estimated(self) -> bytes:
        """The answer to a request that asks for the cost alone."""
        return pb.ExplainResponse(estimated_cost=self.estimate).SerializeToString()

    def receipt(self) -> Receipt:
        """How the answer came about."""
        made = analysis_receipt(
            self._subject.network,
            self.request,
            without_images(self.request),
            self.spent,
            self.rows,
        )
        if self.request.HasField("localization"):
            made.opencv_version = opencv_version()
        return made


def _is_whole(so_far: object) -> bool:
    """Whether it is a map that is done: of a method, or of one at work for a measure."""
    return isinstance(so_far, Tensor) or (isinstance(so_far, Found) and not so_far.is_partial)


def _attempt_plan(subject: Subject, request: pb.ExplainRequest, index: int) -> Plan | Failure:
    """The method at a position, or why it does not apply; raises what is wrong with the request."""
    try:
        return plan(subject, request.methods[index], index, request.seed, request.dtype)
    except Failure as failure:
        if failure.reason == ErrorReason.ERROR_REASON_INVALID_REQUEST:
            raise
        return failure
