"""What every builder takes, gives and promises."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from convlens.v1 import network_pb2

if TYPE_CHECKING:
    from torch import nn

# Not a file and not a name that somebody trained.
RANDOM = "random"
SUFFIXES = (".safetensors", ".pth", ".pt")


class BuildError(Exception):
    """A network cannot be built as it was ordered; `key` of its entry is to be changed."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True)
class Order:
    """What an entry of networks.yaml asks of a builder.

    `weights` is a file's absolute path, a name of the builder's, "random", or None; `size` is the
    given height and width of the input; `path` is where modules of one's own are looked for.
    """

    name: str
    weights: str | None = None
    arguments: Mapping[str, object] = field(default_factory=dict[str, object])
    size: tuple[int, int] | None = None
    path: Path | None = None

    @property
    def file(self) -> Path | None:
        """The file of the weights, where they are one."""
        return Path(self.weights) if self.weights and is_file_name(self.weights) else None


@dataclass(frozen=True)
class Built:
    """A network with its weights, and what its maker says of it.

    `input` is missing where nobody said how pictures are prepared; `labels` is empty where nobody
    named the classes.
    """

    body: "nn.Module"
    input: network_pb2.InputGeometry | None = None
    labels: Sequence[str] = ()
    accuracies: Sequence[network_pb2.Accuracy] = ()
    method_scores: Sequence[network_pb2.MethodScore] = ()
    kind: network_pb2.NetworkKind.ValueType = network_pb2.NETWORK_KIND_IMAGE


class Builder(ABC):
    """Makes networks of one kind."""

    @abstractmethod
    def check_name(self, name: str) -> None:
        """Raises ValueError where there is no network of that name."""

    @abstractmethod
    def check_weights(self, name: str, weights: str | None) -> None:
        """Raises ValueError where a network that exists has no such weights; files are let pass."""

    @abstractmethod
    def fetch(self, name: str, weights: str) -> None:
        """Downloads weights that have a name, unless they are here; raises BuildError."""

    @abstractmethod
    def build(self, order: Order) -> Built:
        """The network on the CPU in float32; raises BuildError."""


def is_file_name(weights: str) -> bool:
    """Whether weights are a file: names of trained weights have no dots and no folders."""
    return "." in weights or "/" in weights
