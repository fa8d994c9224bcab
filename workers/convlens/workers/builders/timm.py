"""The networks of timm, where it is installed."""

import importlib
import math
from pathlib import Path
from typing import Any, final

from convlens.v1 import network_pb2
from convlens.workers.builders.builder import (
    RANDOM,
    Builder,
    BuildError,
    Built,
    Order,
    is_file_name,
)
from convlens.workers.builders.downloads import SILENCE_SECONDS
from convlens.workers.builders.torchvision import DEFAULT, INTERPOLATIONS
from convlens.workers.mistakes import nearest

WEIGHTS = "model.safetensors"


@final
class Timm(Builder):
    """`timm:NAME`, or `timm:NAME.TAG` for one of several trainings."""

    def check_name(self, name: str) -> None:
        """Every network that timm can build; a tag must be one of that network."""
        timm = _timm()
        if not timm.is_model(name):
            guess = nearest(name, timm.list_models(), all_of="https://huggingface.co/timm")
            raise ValueError(f"timm has no network {name}; {guess}")
        base, _, tag = name.partition(".")
        tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{base}.*")]
        if tag and tag not in tags:
            raise ValueError(f"timm has no training {tag} of {base}; {nearest(tag, tags)}")

    def check_weights(self, name: str, weights: str | None) -> None:
        """DEFAULT: those of the name's tag, or of timm's first one."""
        if weights == RANDOM or (weights and is_file_name(weights)):
            return
        offered = _repository(name) is not None
        if weights != DEFAULT or not offered:
            said = "must be given" if weights is None else f"is {weights!r}"
            choices = f"{DEFAULT} for timm's own, " if offered else ""
            raise ValueError(
                f"{said}; for timm:{name} it must be {choices}a file (.safetensors, .pth, .pt), "
                "or random to measure speed alone"
            )

    def fetch(self, name: str, weights: str) -> None:
        """To where huggingface_hub keeps them."""
        _file(name)

    def build(self, order: Order) -> Built:
        """The network as timm builds it without weights, with a file's weights laid into it."""
        from convlens.workers.builders.weights import load_into, seeded

        timm = _timm()
        try:
            with seeded():
                body = timm.create_model(order.name, pretrained=False, **order.arguments)
        except Exception as error:
            raise BuildError("arguments", f"timm:{order.name} cannot be built: {error}") from None
        named = order.weights == DEFAULT
        if file := _file(order.name) if named else order.file:
            load_into(body, file)
        return Built(body, _geometry(timm, body), _labels(timm, body) if named else ())


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError:
        raise ValueError(
            "timm is not installed; install it beside the workers: "
            'pip install "convlens-workers[timm]"'
        ) from None


def _repository(name: str) -> str | None:
    """Where timm's own weights of a network are: a repository of the Hugging Face Hub."""
    cfg = _timm().get_pretrained_cfg(name, allow_unregistered=False)
    return cfg.hf_hub_id if cfg and not cfg.custom_load else None


def _file(name: str) -> Path:
    # It comes with timm.
    hub: Any = importlib.import_module("huggingface_hub")
    repository = _repository(name)
    if isinstance(cached := hub.try_to_load_from_cache(repository, WEIGHTS), str):
        return Path(cached)
    try:
        # It asks once, where the download asks for half a minute whether there is a network yet.
        url = hub.hf_hub_url(repository, WEIGHTS)
        hub.get_hf_file_metadata(url, timeout=SILENCE_SECONDS)
        return Path(hub.hf_hub_download(repository, WEIGHTS))
    except Exception as error:
        # It raises what its HTTP client raises, too.
        reason = str(error).strip().partition("\n")[0]
        raise BuildError(
            "weights",
            f"timm's weights of {name} are not here and cannot be downloaded ({reason}); bring "
            f"{WEIGHTS} of https://huggingface.co/{repository} and name it with weights: FILE",
        ) from None


def _geometry(timm: Any, body: Any) -> network_pb2.InputGeometry | None:
    """How pictures were prepared; None where they were squashed or framed, which is not built."""
    config = timm.data.resolve_model_data_config(body)
    if config["crop_mode"] != "center" or config["interpolation"] not in INTERPOLATIONS:
        return None
    channels, height, width = config["input_size"]
    return network_pb2.InputGeometry(
        height=height,
        width=width,
        channels=channels,
        resize=math.floor(min(height, width) / config["crop_pct"]),
        interpolation=INTERPOLATIONS[config["interpolation"]],
        mean=config["mean"],
        std=config["std"],
    )


def _labels(timm: Any, body: Any) -> list[str]:
    subset = timm.data.infer_imagenet_subset(body)
    return timm.data.ImageNetInfo(subset).label_descriptions() if subset else []
