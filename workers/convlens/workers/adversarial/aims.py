"""Which class each image is to be led away from, and to which."""

from torch import Tensor

from convlens.contract.validation import Violation, invalid
from convlens.v1 import adversarial_pb2 as pb
from convlens.workers.attacks import Aim
from convlens.workers.targets import Targets


class Aims:
    """The aims of a request; raises Failure INVALID_REQUEST for classes that there are not."""

    def __init__(self, request: pb.AttackRequest, labels: list[str]) -> None:
        goal = request.goal
        self._is_least = goal.HasField("least_likely")
        self._labels = labels
        self._target = None
        if goal.HasField("target"):
            self._target = Targets([goal.target], labels, "goal.target")
        self._true = (
            Targets(request.true_classes, labels, "true_classes[{}]")
            if request.true_classes
            else None
        )
        if len(request.true_classes) not in (0, len(request.images)):
            given, images = len(request.true_classes), len(request.images)
            words = f"are {given}; must be one for each of {images} images"
            raise invalid([Violation(field="true_classes", description=words)])

    def of(self, index: int, scores: Tensor) -> Aim:
        """The aim for an image with these scores [classes]; raises Failure where there is none."""
        original = int(scores.argmax())
        if self._true is not None:
            original = self._true.of(scores)[index].class_index
        target = self._target_of(scores)
        if target == original:
            words = f"is {self._labels[original]!r}, the class of image {index} already"
            advice = "name another class, or leave the goal out"
            raise invalid([Violation(field="goal", description=f"{words}; {advice}")])
        return Aim(original, target)

    def _target_of(self, scores: Tensor) -> int | None:
        if self._is_least:
            return int(scores.argmin())
        return self._target.of(scores)[0].class_index if self._target else None
