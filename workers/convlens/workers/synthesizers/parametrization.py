"""The numbers that an optimiser changes, and the picture that they are."""

from abc import ABC, abstractmethod

from torch import Tensor

from convlens.contract.validation import Violation, invalid
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.synthesizers.fourier import Colors, Spectrum
from convlens.workers.synthesizers.memory import Memory
from convlens.workers.synthesizers.task import Task


class Form(ABC):
    """How a picture is written in parameters."""

    @abstractmethod
    def start(self, kind: methods.CanvasStart.ValueType) -> Tensor:
        """The parameters that a picture grows from."""

    @abstractmethod
    def recall(self, memory: Memory, name: str) -> Tensor:
        """The parameters that an earlier call left; raises Failure where they are none."""

    @abstractmethod
    def pixels(self, parameters: Tensor) -> Tensor:
        """The picture [channels, height, width] in [0, 1]; gradients go through."""

    @abstractmethod
    def settle(self, parameters: Tensor) -> None:
        """Brings parameters that were changed back, in place, to where they are a picture."""


class Pixels(Form):
    """The pixels themselves, cut at 0 and 1."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def start(self, kind: methods.CanvasStart.ValueType) -> Tensor:
        return self._task.start(kind)

    def recall(self, memory: Memory, name: str) -> Tensor:
        return memory.take(name, self._task.blank(), 0, 1)

    def pixels(self, parameters: Tensor) -> Tensor:
        return parameters.clone()

    def settle(self, parameters: Tensor) -> None:
        parameters.clamp_(0, 1)


class Fourier(Form):
    """Fourier coefficients of a picture's colours, before a sigmoid that keeps them in (0, 1).

    Olah et al. 2017, doi:10.23915/distill.00007, as lucid has it, but around the mean colour.
    """

    def __init__(self, task: Task, decay_power: float, decorrelated: bool) -> None:
        self._task = task
        self._spectrum = Spectrum(task.blank(), decay_power)
        self._colors = Colors(task.mean, decorrelated)

    def start(self, kind: methods.CanvasStart.ValueType) -> Tensor:
        if kind == methods.CANVAS_START_NOISE:
            return self._spectrum.noise(self._task.seed, self._task.number)
        if kind == methods.CANVAS_START_MEAN:
            return self._spectrum.blank()
        return self.parameters(self._task.start(kind))

    def recall(self, memory: Memory, name: str) -> Tensor:
        return memory.take(name, self._spectrum.blank(), -_FAR, _FAR)

    def pixels(self, parameters: Tensor) -> Tensor:
        return self._colors.decode(self._spectrum.decode(parameters))

    def parameters(self, pixels: Tensor) -> Tensor:
        """The parameters of a picture in [0, 1]; black and white are a little inside."""
        return self._spectrum.encode(self._colors.encode(pixels))

    def settle(self, parameters: Tensor) -> None:
        pass


# Farther than so many steps of such a size as are allowed lead.
_FAR = 1e7


def form_of(task: Task, priors: methods.Priors) -> Form:
    """How the pictures of a task are written; the priors have their defaults."""
    if priors.parametrization == methods.PARAMETRIZATION_FOURIER:
        return Fourier(task, priors.decay_power, priors.decorrelate_colors)
    return Pixels(task)


def check_priors(priors: methods.Priors, channels: int, path: str) -> None:
    """Raises Failure INVALID_REQUEST where priors do not fit each other or the network.

    They have their defaults; `path` names them: "method.class_model.priors".
    """
    if not priors.decorrelate_colors:
        return
    is_fourier = priors.parametrization == methods.PARAMETRIZATION_FOURIER
    words = ""
    if not is_fourier:
        words = "is set; must be unset unless parametrization is PARAMETRIZATION_FOURIER"
    elif channels != 3:
        words = f"is set; must be unset for a network of {channels} channels: it takes 3"
    if words:
        raise invalid([Violation(field=f"{path}.decorrelate_colors", description=words)])
