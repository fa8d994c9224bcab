"""The rules by which rectifiers let a gradient through."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from convlens.workers.anatomy.names import gives_tensors, plain_name
from convlens.workers.rectifiers.backward import rectified, redirected, unpooled_by_maximum
from convlens.workers.rectifiers.calls import pooled, rectifier


class Rule(Enum):
    """How a rectifier lets a gradient through, in place of its derivative."""

    #: Where its input and the gradient are positive (Springenberg et al.).
    GUIDED = "guided"
    #: Where the gradient is positive; an input of overlapping pooling windows gets their sum.
    DECONVNET = "deconvnet"
    #: Likewise; an input of overlapping pooling windows gets the largest of what they hold.
    DECONVNET_MAX = "deconvnet_max"
    #: Where its input is positive; of a row that would have none of it, everywhere but where it
    #: would push the input farther out. For gradients of what is made large (Olah et al.).
    REDIRECT = "redirect"


def applied(rule: Rule | None) -> AbstractContextManager[object]:
    """A mode in which forward passes of this thread have the rule; none for the plain gradient."""
    return nullcontext() if rule is None else Ruled(rule)


class Ruled(TorchFunctionMode):
    """Gives every rectifier that is called while the mode is entered the gradient of a rule.

    A mode belongs to its thread, and nothing is put on any module: it makes no difference whether a
    rectifier is a module or a function, works in place, is used twice, or takes what others take
    too. The forward pass is the plain one, since the same function computes it. It sees what is
    called from Python; `inspect` finds what is not.
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self._rule = rule
        #: Whether a call is under way, and whether it is one that has the rule.
        self.calling = self.ruling = False
        #: How many calls there were, counted as a Reading does.
        self.count = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        self.calling = True
        try:
            ruled = self._ruled(func, args, kwargs) if torch.is_grad_enabled() else None
            self.ruling = ruled is not None
            out = ruled() if ruled else func(*args, **kwargs)
        finally:
            self.calling = self.ruling = False
        self.count += gives_tensors(func, out)
        return out

    def _ruled(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Callable[[], Any] | None:
        """What to do in place of a call, None where it is to be made as it is."""
        name = plain_name(func)
        if found := rectifier(name, args, kwargs):
            if self._rule is Rule.REDIRECT:
                return lambda: redirected(found, lambda: func(*args, **kwargs))
            guided = self._rule is Rule.GUIDED
            return lambda: rectified(found, guided, lambda: func(*args, **kwargs))
        if self._rule is Rule.DECONVNET_MAX and (pool := pooled(name, args, kwargs)):
            return lambda: unpooled_by_maximum(pool)
        return None
