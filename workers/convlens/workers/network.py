"""A network as it is served: pixels in [0, 1] in, scores before the softmax out."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

import convlens.workers
from convlens.contract import digest
from convlens.v1 import network_pb2, receipt_pb2


class Normalized(nn.Module):
    """A classifier with its normalisation inside, so that gradients are those of pixels."""

    def __init__(self, body: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores [n, classes] of pixels [n, channels, height, width] in [0, 1]."""
        return self.body((pixels - self.get_buffer("mean")) / self.get_buffer("std"))


class ServedNetwork:
    """One network on one device, frozen, with everything that callers may know about it.

    `facts` needs name, version, kind, labels, input and accuracies; the rest is filled in here.
    """

    def __init__(self, body: nn.Module, facts: network_pb2.Network, device: torch.device) -> None:
        self.device = device
        module = Normalized(body, facts.input.mean, facts.input.std).eval().requires_grad_(False)
        self.module = module.to(device).to(memory_format=torch.channels_last)
        self.facts = network_pb2.Network()
        self.facts.CopyFrom(facts)
        self.labels: list[str] = list(facts.labels)
        self._fill_in(body)

    def _fill_in(self, body: nn.Module) -> None:
        facts = self.facts
        facts.parameters = sum(parameter.numel() for parameter in body.parameters())
        facts.precision = receipt_pb2.PRECISION_FLOAT32
        facts.device_kind = device_kind(self.device)
        facts.digest = digest(facts.input.SerializeToString(deterministic=True), *_bits(body))
        facts.convlens_version = convlens.workers.__version__
        facts.torch_version = torch.__version__

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Scores before the softmax, float32 [n, classes] on the CPU.

        `pixels` is float32 [n, channels, height, width] in [0, 1].
        """
        batch = pixels.to(self.device, memory_format=torch.channels_last)
        scores: Tensor = self.module(batch)
        return scores.float().cpu()

    def warm_up(self, rows: int) -> None:
        """Computes once for one row and once for `rows`, so that no caller pays for it."""
        for count in (1, rows):
            self.logits(self.blank().repeat(count, 1, 1, 1))

    def blank(self) -> Tensor:
        """One row of black pixels."""
        size = self.facts.input
        return torch.zeros(1, size.channels, size.height, size.width)

    def gradient(self, pixels: Tensor) -> Tensor:
        """Gradient of each row's best score by its pixels, float32 on the CPU."""
        batch = pixels.to(self.device, memory_format=torch.channels_last, copy=True)
        batch.requires_grad_()
        scores: Tensor = self.module(batch)
        [gradient] = torch.autograd.grad(scores.amax(dim=1).sum(), batch)
        return gradient.float().cpu()

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
            threads=torch.get_num_threads(),
            precision=facts.precision,
        )


def device_kind(device: torch.device) -> str:
    """What a receipt calls the device: "cpu", or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _bits(module: nn.Module) -> Iterator[bytes]:
    """Names, types, shapes and values of everything learned, in the module's order."""
    for name, value in module.state_dict().items():
        yield f"{name} {value.dtype} {tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
