"""What the measures of a request say of a map, as the messages of the contract."""

from convlens.contract import Failure
from convlens.v1.explanation_pb2 import Attribution, ExplainRequest
from convlens.v1.quality_pb2 import QualityMeasure, QualityScore, QualityValue
from convlens.workers.explain.found import Found
from convlens.workers.explain.judging import check_fit
from convlens.workers.explain.plans import Plan
from convlens.workers.explain.regions import TrueRegions, judge_region
from convlens.workers.jobs import Ticket, guarded
from convlens.workers.pictures import Picture


class Scores:
    """Makes the scores of maps, with those of measures that need no network."""

    def __init__(self, ticket: Ticket, request: ExplainRequest) -> None:
        self._ticket = ticket
        self._request = request
        #: Where the objects truly are.
        self.regions = TrueRegions(request)

    def add(
        self, made: Attribution, found: Found, plan: Plan, picture: Picture, index: int
    ) -> None:
        """Adds one for each measure to the attribution of an image, unless it is not judged yet."""
        if found.scores is None:
            return
        for number, measure in enumerate(self._request.measures):
            outcome = found.scores.get(number)
            if outcome is None:

                def judge(measure: QualityMeasure = measure) -> QualityValue:
                    check_fit(measure, plan)
                    truth = self.regions.of(index, measure)
                    return judge_region(measure, made, found, picture, truth, self._request)

                outcome = guarded(self._ticket, judge)
            made.scores.append(_score(measure, outcome))


def _score(measure: QualityMeasure, outcome: QualityValue | Failure) -> QualityScore:
    if isinstance(outcome, Failure):
        return QualityScore(measure=measure, error=outcome.status())
    return QualityScore(measure=measure, value=outcome)
