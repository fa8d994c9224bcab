"""What tests of `convlens synthesize` share."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convlens.client._fake_basics import LABELS
from convlens.client._fake_synthesis import synthesize
from convlens.client.testing import FakeServer
from convlens.v1 import synthesis_pb2 as pb

CAT = ("synthesize", "class-model", "--target", "cat")
FOOL = ("synthesize", "fool")


def question(server: FakeServer) -> pb.SynthesizeRequest:
    """The last request."""
    return server.requests[-1].message


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def names(folder: Path) -> list[str]:
    """The files in a folder, without receipts."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".json")


def slow(asked: threading.Event | None = None) -> Any:
    def answer(request: Any) -> Iterator[pb.SynthesizeResponse]:
        for response in synthesize(request):
            time.sleep(0.01)
            yield response
            if asked and response.HasField("preview"):
                asked.set()

    return answer


def answering(label: str) -> Any:
    """A network that answers to every picture with one class."""

    def answer(request: Any) -> Iterator[pb.SynthesizeResponse]:
        for response in synthesize(request):
            if response.HasField("item"):
                picture = response.item.picture
                for said in (picture.prediction, picture.rounded_prediction):
                    said.class_index, said.label = LABELS.index(label), label
                    said.probability = 1 - picture.target.probability
            yield response

    return answer


def ended(request: Any) -> Iterator[pb.SynthesizeResponse]:
    """The end comes with the time over."""
    for response in synthesize(request):
        if response.HasField("done"):
            response.done.is_partial = True
        yield response
