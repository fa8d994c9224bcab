"""One forward pass, looked at: which calls it makes, in what order, and what feeds what.

The pass runs on fake tensors, which have shapes and no numbers, so that the largest network takes
milliseconds and no memory; a small network, and one that needs numbers to decide what to do, runs
on black pictures instead. It runs twice, with 2 and with 3 images: what grows between them is the
batch.
"""

import logging
from collections.abc import Iterable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from convlens.workers.anatomy.merging import merged
from convlens.workers.anatomy.naming import Naming
from convlens.workers.anatomy.recorder import Recorder
from convlens.workers.anatomy.values import Trace

log = logging.getLogger(__name__)

FEW, MORE = 2, 3
# With so many parameters at most, a network has run before torch has loaded what fake tensors
# need (a second).
SMALL = 1_000_000


def trace(module: nn.Module, image: Sequence[int], *, root: str = "") -> Trace:
    """Traces `module`, in evaluation mode, at pictures of the shape `image` (channels first).

    Names are relative to the submodule `root`, and what runs outside of it has none. Puts hooks on
    the module and removes them: nobody else may run it meanwhile. Raises RuntimeError where its
    calls depend on the number of images, and whatever the module itself raises.
    """
    weights = list(module.parameters())
    if sum(weight.numel() for weight in weights) > SMALL and not any(w.is_meta for w in weights):
        try:
            return _trace(module, image, root, fake=True)
        except Exception as error:
            # A module that looks at numbers, or that is scripted. What is really wrong with it is
            # raised below.
            log.debug("not traced on fake tensors: %s", error)
    return _trace(module, image, root, fake=False)


def _trace(module: nn.Module, image: Sequence[int], root: str, *, fake: bool) -> Trace:
    passes = [_Pass(module, image, root, count, fake) for count in (FEW, MORE)]
    few, more = (each.recorder.records for each in passes)
    calls = merged(few, more, (FEW, MORE))
    naming = passes[0].naming
    trained = frozenset(name for name, _ in module.named_parameters())
    result = naming.result.call if naming.result else None
    return Trace(tuple(image), calls, naming.nodes(trained), result)


class _Pass:
    """One pass with so many images, run and recorded."""

    def __init__(
        self, module: nn.Module, image: Sequence[int], root: str, images: int, fake: bool
    ) -> None:
        tensors: dict[str, Tensor] = {}
        tensors.update(module.named_parameters())
        tensors.update(module.named_buffers())
        mode = FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext()
        # Inference tensors do not say when they are written to.
        with torch.inference_mode(False), torch.no_grad(), mode:
            if isinstance(mode, FakeTensorMode):
                tensors.update({name: mode.from_tensor(each) for name, each in tensors.items()})
            pixels = _pixels((images, *image), tensors.values())
            self.recorder = Recorder(pixels, tensors)
            self.naming = Naming(module, root, self.recorder)
            with self.naming, self.recorder:
                if fake:
                    functional_call(module, tensors, (pixels,))
                else:
                    module(pixels)


def _pixels(shape: Sequence[int], tensors: Iterable[Tensor]) -> Tensor:
    """Black pictures, of the type and on the device of the first weights."""
    like = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))
    return torch.zeros(tuple(shape), dtype=like.dtype, device=like.device)
