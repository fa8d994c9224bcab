"""Adam's ascent of what a network answers: what class models and units share."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.rectifiers import Rule
from convlens.workers.runner import Answer, Objective, Pass, Steps
from convlens.workers.synthesizers.adam import Adam, moments
from convlens.workers.synthesizers.gradients import led_back
from convlens.workers.synthesizers.growth import Growth, Sketch
from convlens.workers.synthesizers.parametrization import form_of
from convlens.workers.synthesizers.regularizers import squared_distance, total_variation
from convlens.workers.synthesizers.task import Task
from convlens.workers.synthesizers.transforms import moved

Settings: TypeAlias = methods.ClassModel | methods.UnitMaximization


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """What is made large, by its `name` among the terms of the loss.

    It is of the score of the class `target`, whose probability is told; or of the layers that are
    captured, after which the network is run no further.
    """

    name: str
    objective: Objective
    target: int | None = None
    capture: tuple[int, ...] = ()


def ascend(task: Task, wish: Wish, p: Settings) -> Steps[Growth]:
    """Adam's steps up what is wished, less the weighted priors, in `p.steps` steps.

    At each step the network sees the picture as the transforms move it; what is told of the last
    one is of the picture as it is. Kingma & Ba 2014, arXiv:1412.6980, algorithm 1.
    """
    climb = _Climb(task, wish, p)
    while climb.step < p.steps:
        yield from climb.go_on()
    return (yield from climb.end())


class _Climb:
    """A picture on its way up, and what it takes to go on."""

    def __init__(self, task: Task, wish: Wish, p: Settings) -> None:
        self._task, self._wish, self._p = task, wish, p
        self._priors = p.priors
        self._form = form_of(task, p.priors)
        #: Steps done.
        self.step = 0
        self._parameters = self._form.start(p.start)
        if task.memory:
            self.step = task.memory.whole("step", 0, _MOST_STEPS)
            self._parameters = self._form.recall(task.memory, "parameters")
        self._parameters.requires_grad_()
        begun = moments(self._parameters, self.step, task.memory)
        self._adam = Adam(self._parameters, p.learning_rate, begun)
        # What the last pass told; nothing before the first one.
        self._told: Sketch | None = None

    def go_on(self) -> Steps[None]:
        """One step."""
        with torch.enable_grad():
            picture = self._form.pixels(self._parameters)
            pixels = picture.detach()
            pixels.requires_grad_()
            seen = self._task.see(moved(self._task, self._priors, pixels, self.step))
        answer = yield self._asked(seen, pixels)
        if self.step < self._priors.redirect_steps and not answer.slope.any():
            answer = yield self._asked(seen, pixels, Rule.REDIRECT)
        with torch.enable_grad():
            penalties = self._penalties(pixels)
            # Its gradient by what is seen is the network's.
            loss = torch.stack([*penalties.values(), -(seen * answer.slope[0]).sum()]).sum()
        [by_pixels] = torch.autograd.grad(loss, pixels)
        gradient = led_back(by_pixels, picture, self._parameters)
        told = self._sketch(pixels, answer, penalties)
        self._told = replace(told, gradient_norm=float(by_pixels.square().sum().sqrt()))
        self._adam.step(gradient)
        with torch.no_grad():
            self._form.settle(self._parameters)
        self.step += 1

    def end(self) -> Steps[Growth]:
        """What there is after the last step, with what the network says to it."""
        pixels = self._form.pixels(self._parameters).detach()
        seen = self._task.see(pixels)
        answer = yield replace(self._asked(seen, pixels), by=())
        told = self._sketch(pixels, answer, self._penalties(pixels))
        if self._told:
            told = replace(told, gradient_norm=self._told.gradient_norm)
        if self._wish.capture:
            told = replace(told, activation=told.objective)
        return Growth(self.step, [told], self._state())

    def _asked(self, seen: Tensor, pixels: Tensor, rule: Rule | None = None) -> Pass:
        wish = self._wish
        return Pass(
            seen.detach()[None],
            wish.objective,
            wish.capture,
            rule=rule,
            stops=bool(wish.capture),
            so_far=lambda: self._growth(pixels.detach()),
        )

    def _growth(self, pixels: Tensor) -> Growth | None:
        """The picture as it is, with what the step that led to it was told."""
        if self._told is None:
            return None
        told = replace(self._told, pixels=pixels, steps=self.step)
        return Growth(self.step, [told], self._state())

    def _sketch(self, pixels: Tensor, answer: Answer, penalties: Mapping[str, Tensor]) -> Sketch:
        value, target = float(answer.worth), self._wish.target
        terms = {self._wish.name: -value}
        terms |= {name: float(penalty.detach()) for name, penalty in penalties.items()}
        probability = None if target is None else float(answer.scores[0].softmax(0)[target])
        return Sketch(pixels.detach(), self.step, value, terms, probability)

    def _penalties(self, pixels: Tensor) -> dict[str, Tensor]:
        """What the priors have against a picture, by name; those without weight say nothing."""
        weights = {"l2": self._p.l2_weight, "total variation": self._priors.total_variation}
        values = {
            "l2": lambda: squared_distance(pixels, self._task.mean),
            "total variation": lambda: total_variation(pixels, _TV_BETA),
        }
        return {name: weight * values[name]() for name, weight in weights.items() if weight}

    def _state(self) -> dict[str, Tensor]:
        moments = self._adam.moments
        return {
            "step": torch.tensor(self.step),
            "parameters": self._parameters.detach().clone(),
            "mean": moments["exp_avg"].clone(),
            "square": moments["exp_avg_sq"].clone(),
        }


# That of Rudin, Osher & Fatemi 1992.
_TV_BETA = 1.0
# More than the protos allow.
_MOST_STEPS = 10**6
