"""A network as it is served: pixels in [0, 1] in, scores before the softmax out."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

import convlens.workers
from convlens.contract import digest
from convlens.v1 import network_pb2, receipt_pb2
from convlens.workers.anatomy import Trace, describe, is_steady, trace
from convlens.workers.raised import in_words
from convlens.workers.rectifiers import Rule
from convlens.workers.rectifiers.inspection import reach

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Computation:
    """How a network computes; `rows` are those of a full micro-batch in the analysis pool."""

    bfloat16: bool = False
    channels_last: bool = True
    compiled: bool = False
    rows: int = 8


class Normalized(nn.Module):
    """A classifier with its normalisation inside, so that gradients are those of pixels.

    Pixels, scores and gradients are float32 in any precision. In bfloat16 it computes by autocast
    over weights in float32: convolutions and matrix products, which take the time, round to
    bfloat16, and normalisations, softmax and sums, which would lose digits, do not. Weights that
    were converted once would save half of their memory and cost those digits.
    """

    def __init__(
        self, body: nn.Module, mean: Sequence[float], std: Sequence[float], bfloat16: bool = False
    ) -> None:
        super().__init__()
        self.body = body
        self.in_bfloat16 = bfloat16
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores [n, classes] of pixels [n, channels, height, width] in [0, 1]."""
        inputs = (pixels - self.get_buffer("mean")) / self.get_buffer("std")
        if not self.in_bfloat16:
            return self.body(inputs)
        with torch.autocast(pixels.device.type, torch.bfloat16):
            scores = self.body(inputs)
        # What is no tensor is told of by who looks at a new network.
        return scores.float() if isinstance(scores, Tensor) else scores


class ServedNetwork:
    """One network on one device, frozen, with everything that callers may know about it.

    `facts` needs name, version, kind, labels, input and accuracies; the rest is filled in here, the
    anatomy by `dissect`.
    """

    #: What a forward pass calls, and whether it does for every picture; once `dissect` has run.
    trace: Trace
    steady: bool
    #: Why it cannot be differentiated; empty where it can. Once `warm_up_gradients` has run.
    opaque: str = ""

    def __init__(
        self,
        body: nn.Module,
        facts: network_pb2.Network,
        device: torch.device,
        computation: Computation | None = None,
    ) -> None:
        self.device = device
        # Of the threads that compute passes; those beside them have other numbers.
        self._threads = torch.get_num_threads()
        computation = computation or Computation()
        self._layout = torch.channels_last if computation.channels_last else torch.contiguous_format
        size, bfloat16 = facts.input, computation.bfloat16
        module = Normalized(body, size.mean, size.std, bfloat16).eval().requires_grad_(False)
        self.module: Normalized = module.to(device).to(memory_format=self._layout)
        # The module itself stays as it is, for those who look inside while it computes.
        self._scores = cast(
            "Callable[[Tensor], Tensor]",
            torch.compile(self.module) if computation.compiled else self.module,
        )
        self.facts = network_pb2.Network()
        self.facts.CopyFrom(facts)
        self.labels: list[str] = list(facts.labels)
        self._fill_in(body, computation)

    def name_classes(self, labels: Sequence[str]) -> None:
        """Gives the classes their names, in the order of the scores."""
        self.labels = list(labels)
        del self.facts.labels[:]
        self.facts.labels.extend(labels)

    def dissect(self) -> None:
        """Traces one forward pass and fills in the anatomy; once, before anybody else computes.

        Raises RuntimeError where the network makes other calls for more images.
        """
        size = self.facts.input
        self.trace = trace(self.module, (size.channels, size.height, size.width), root="body")
        shape = (1, size.channels, size.height, size.width)
        noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        pictures = (torch.ones(shape), noise, noise.flip(-1))
        self.steady = is_steady(self.trace, self.module, map(self.place, pictures))
        self.facts.anatomy.CopyFrom(describe(self.trace, self.module.body, self._reversible()))

    def _reversible(self) -> list[bool]:
        """For each call whether deconvnet can go back from it."""
        if self.steady and self.facts.kind != network_pb2.NETWORK_KIND_LINEAR:
            try:
                return reach(self, Rule.DECONVNET)
            except Exception:
                # What cannot be looked at so closely can be served all the same.
                log.warning("deconvnet is not offered", exc_info=True)
        return [False] * len(self.trace.calls)

    def _fill_in(self, body: nn.Module, computation: Computation) -> None:
        facts = self.facts
        facts.parameters = sum(parameter.numel() for parameter in body.parameters())
        facts.precision = _precision(computation.bfloat16)
        facts.channels_last = computation.channels_last
        facts.compiled = computation.compiled
        facts.rows = computation.rows
        facts.device_kind = device_kind(self.device)
        facts.digest = digest(facts.input.SerializeToString(deterministic=True), *_bits(body))
        facts.convlens_version = convlens.workers.__version__
        facts.torch_version = torch.__version__

    def compute_in(self, bfloat16: bool) -> None:
        """Sets the numbers in which it computes; only while nobody else computes."""
        self.module.in_bfloat16 = bfloat16
        self.facts.precision = _precision(bfloat16)

    def place(self, pixels: Tensor) -> Tensor:
        """A copy of pixels on the device, in the memory layout in which the network computes."""
        return pixels.to(self.device, memory_format=self._layout, copy=True)

    @torch.inference_mode()
    def outputs(self, pixels: Tensor) -> object:
        """What the network itself returns for pixels, whatever that is."""
        outputs: object = self.module(self.place(pixels))
        return outputs

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Scores before the softmax, float32 [n, classes] on the CPU.

        `pixels` is float32 [n, channels, height, width] in [0, 1].
        """
        return self._scores(pixels.to(self.device, memory_format=self._layout)).cpu()

    def scores(self, pixels: Tensor) -> Tensor:
        """Scores before the softmax for pixels that are on the device, with their graph."""
        return self._scores(pixels)

    def warm_up(self, rows: int) -> None:
        """Computes once for one row and once for `rows`, so that no caller pays for it."""
        # Compiled code is made for one row, for the next size that comes, and then for any size.
        counts = (1, rows, rows - 1) if self.facts.compiled else (1, rows)
        for count in counts:
            self.logits(self.blank().repeat(count, 1, 1, 1))

    def warm_up_gradients(self) -> None:
        """Computes a gradient for one row, and for a micro-batch where its first time is long.

        A network that cannot be differentiated is served for all that needs no gradients.
        """
        self.opaque = self._opaque()
        counts = (1, self.facts.rows) if self.facts.compiled or self.device.type != "cpu" else (1,)
        for count in counts if not self.opaque else ():
            self.gradient(self.blank().repeat(count, 1, 1, 1))

    def _opaque(self) -> str:
        try:
            scores = self.module(self.place(self.blank()).requires_grad_())
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            # It computes without gradients, as the anatomy shows.
            return in_words(error)
        return "" if scores.requires_grad else "its scores do not lead back to the pixels"

    def blank(self) -> Tensor:
        """One row of black pixels."""
        size = self.facts.input
        return torch.zeros(1, size.channels, size.height, size.width)

    def gradient(self, pixels: Tensor) -> Tensor:
        """Gradient of each row's best score by its pixels, float32 on the CPU."""
        batch = self.place(pixels).requires_grad_()
        scores = self._scores(batch)
        [gradient] = torch.autograd.grad(scores.amax(dim=1).sum(), batch)
        return gradient.cpu()

    def receipt(self) -> receipt_pb2.Receipt:
        """The part of a receipt that is the same for every answer."""
        facts = self.facts
        return receipt_pb2.Receipt(
            network=facts.name,
            network_version=facts.version,
            network_digest=facts.digest,
            convlens_version=facts.convlens_version,
            torch_version=facts.torch_version,
            device_kind=facts.device_kind,
            threads=self._threads,
            precision=facts.precision,
            channels_last=facts.channels_last,
            compiled=facts.compiled,
        )


def _precision(bfloat16: bool) -> "receipt_pb2.Precision.ValueType":
    return receipt_pb2.PRECISION_BFLOAT16 if bfloat16 else receipt_pb2.PRECISION_FLOAT32


def device_kind(device: torch.device) -> str:
    """What a receipt calls the device: "cpu", or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _bits(module: nn.Module) -> Iterator[bytes]:
    """Names, types, shapes and values of everything learned, in the module's order."""
    for name, value in module.state_dict().items():
        yield f"{name} {value.dtype} {tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
