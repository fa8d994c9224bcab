"""An entry of networks.yaml: one version of one network."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
)

from convlens.workers.builders import LINEAR, BuildError, Order, builder_of
from convlens.workers.builders.builder import RANDOM, SUFFIXES, is_file_name
from convlens.workers.yaml_file import ConfigError

NAME = re.compile(r"[A-Za-z0-9_.-]+")
DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


class Part(BaseModel):
    """A mapping of the file: frozen, and without keys that nobody reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputConfig(Part):
    """How a picture becomes the network's input, where its builder does not know or is wrong."""

    # Height and width in pixels: the shorter side is resized, then this is cut from the middle.
    size: tuple[int, int] | None = None
    # The shorter side after the resize; left out, in the builder's proportion to the size.
    resize: int | None = Field(default=None, ge=1, le=8192)
    interpolation: Literal["bilinear", "bicubic", "nearest"] | None = None
    # Of each channel, for pixels in [0, 1]: three for RGB, one for grey.
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, value: object) -> object:
        sides = [value, value] if isinstance(value, int) else value
        if sides is not None and not _is_size(sides):
            raise ValueError(
                f"is {value!r}; must be a side in pixels from 1 to 8192, or [height, width]"
            )
        return sides

    @field_validator("mean", "std")
    @classmethod
    def _channels(
        cls, value: tuple[float, ...] | None, info: ValidationInfo
    ) -> tuple[float, ...] | None:
        if value is None:
            return None
        if len(value) not in (1, 3) or not all(math.isfinite(number) for number in value):
            raise ValueError(f"is {list(value)}; must be three numbers for RGB, or one for grey")
        if info.field_name == "std" and min(value) <= 0:
            raise ValueError(f"is {list(value)}; each must be greater than 0")
        mean = info.data.get("mean")
        if info.field_name == "std" and mean and len(mean) != len(value):
            raise ValueError(f"has {len(value)} numbers and mean has {len(mean)}; must be as many")
        return value


class NetworkEntry(Part):
    """One version of one network.

    Relative paths begin at the folder of the file. Each key is checked as far as that goes without
    building the network; `load_network` says what is wrong beyond that.
    """

    name: str
    version: str = "1"
    # "bundled:NAME", by default with the entry's own name, "torchvision:NAME", "timm:NAME",
    # "linear", or "MODULE:FUNCTION" of one's own.
    builder: str = Field(default="", validate_default=True)
    # Keyword arguments of the builder: those of torchvision's, timm's or one's own function.
    arguments: dict[str, Any] = {}
    # Where a module of one's own is looked for first; by default the folder of the file.
    path: Path | None = Field(default=None, validate_default=True)
    # A .safetensors, .pth or .pt file, a name of the builder's, or "random" to measure speed.
    weights: str | None = Field(default=None, validate_default=True)
    # The classes in the order of the scores: a list, or a file with one in each line.
    labels: tuple[str, ...] | Path | None = None
    input: InputConfig = InputConfig()
    # In bf16 convolutions and matrix products are computed in bfloat16, everything else in float32.
    precision: Literal["fp32", "bf16"] = "fp32"
    # How tensors lie in memory; faster for convolutions on most devices.
    channels_last: bool = True
    # Of its workers; the embedded engine's --device wins over it.
    device: str = "auto"
    # Lets torch.compile make the code for scores and gradients: a slower start, then faster.
    compile: bool = False
    # Rows of a full micro-batch in the analysis pool; by default 8 on a CPU and 32 on a GPU.
    rows: int | None = Field(default=None, ge=1, le=1024)
    # Share of the requests that name no version, against the other versions of the network.
    traffic_weight: float = Field(default=1.0, ge=0, le=1e6)

    # "networks.yaml:3" of the entry and of each of its keys, for what is found out later.
    _places: Mapping[str, str] = PrivateAttr(default_factory=dict[str, str])

    @property
    def reference(self) -> str:
        """ "name@version"."""
        return f"{self.name}@{self.version}"

    @property
    def order(self) -> Order:
        """What its builder is asked for."""
        _, name = builder_of(self.builder)
        return Order(name, self.weights, self.arguments, self.input.size, self.path)

    def remember(self, places: Mapping[str, str]) -> None:
        """Notes where it stands in a file, by key; "" is the entry itself."""
        self._places = places

    def mistake(self, key: str, text: str) -> ConfigError:
        """What is wrong with a key, in one line that says where it is."""
        place = self._places.get(key.partition(".")[0]) or self._places.get("")
        line = " ".join(f"{self.reference}: {key}: {text}".split())
        return ConfigError(f"{place}: {line}" if place else line)

    def fetch(self) -> None:
        """Downloads what it names and this machine does not have; raises ConfigError."""
        if self.weights is None or self.weights == RANDOM or is_file_name(self.weights):
            return
        builder, name = builder_of(self.builder)
        try:
            builder.fetch(name, self.weights)
        except BuildError as error:
            raise self.mistake(error.key, str(error)) from None

    @field_validator("name", "version")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(f"is {value!r}; must be letters, digits, _, . and - alone")
        return value

    @field_validator("builder")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        if not value and "name" not in info.data:
            return value
        text = value or f"bundled:{info.data['name']}"
        builder, name = builder_of(text)
        builder.check_name(name)
        return text

    @field_validator("path")
    @classmethod
    def _folder(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        kind = str(info.data.get("builder", "")).partition(":")[0]
        if kind in ("", "bundled", "torchvision", "timm") or info.data["builder"] == LINEAR:
            if value is not None and kind:
                raise ValueError(f"is for modules of one's own; leave it out for {kind}")
            return value
        folder = _resolved(value or Path(), info)
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
        return folder

    @field_validator("weights", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value

    @field_validator("weights")
    @classmethod
    def _offered(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and is_file_name(value):
            if not value.endswith(SUFFIXES):
                raise ValueError(f"is {value!r}; a file must end in {', '.join(SUFFIXES)}")
            return str(_existing(value, info))
        if text := info.data.get("builder"):
            builder, name = builder_of(text)
            builder.check_weights(name, value)
        return value

    @field_validator("labels", mode="before")
    @classmethod
    def _labels(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str | Path):
            return str(_existing(value, info))
        if isinstance(value, list | tuple) and value:
            for index, label in enumerate(cast("list[object]", value)):
                if not isinstance(label, str) or not label:
                    raise ValueError(f"entry {index} is {label!r}; must be text, in quotes")
            return tuple(cast("list[str]", value))
        if value is not None:
            raise ValueError("must be a list of names, or a file with one name in each line")
        return value

    @field_validator("input")
    @classmethod
    def _of_pictures(cls, value: InputConfig, info: ValidationInfo) -> InputConfig:
        if value.model_fields_set and info.data.get("builder") == LINEAR:
            raise ValueError("is for pictures; leave it out for linear, which takes plain numbers")
        return value

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        if not DEVICE.fullmatch(value):
            raise ValueError(f"is {value!r}; must be auto, cpu, cuda or cuda:N")
        return value


def _is_size(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(cast("list[object]", value)) == 2
        and all(type(side) is int and 1 <= side <= 8192 for side in cast("list[object]", value))
    )


def _resolved(path: str | Path, info: ValidationInfo) -> Path:
    context = cast("dict[str, Path] | None", info.context)
    folder = context["folder"] if context else Path()
    return (folder / Path(path).expanduser()).absolute()


def _existing(path: str | Path, info: ValidationInfo) -> Path:
    file = _resolved(path, info)
    if not file.is_file():
        raise ValueError(f"there is no file {file}; relative paths begin at the file's folder")
    return file
