"""ResNet-18 behind LitServe, a process of its own, as LitServe's own benchmark of images does it.

Weights are frozen, tensors are channels_last, passes run in inference mode, and the pictures of a
batch are read in threads: nothing that ConvLens does for speed is left out.
"""

import base64
import io
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import litserve  # pyright: ignore[reportMissingTypeStubs]
import torch
from PIL import Image
from torch import Tensor
from torchvision import models  # pyright: ignore[reportMissingTypeStubs]

ROWS = 32
# Seconds that the first picture of a batch waits for others.
WAIT = 0.005
CLASSES = 5


class Classifier(litserve.LitAPI):
    """JPEG in JSON in, the five best classes out."""

    def setup(self, device: str) -> None:
        """Makes the network; in the worker's process."""
        weights = models.ResNet18_Weights.DEFAULT
        self.labels = weights.meta["categories"]
        self.transform: Any = weights.transforms()
        module: Any = models.resnet18().eval().requires_grad_(False)
        self.module = module.to(device, memory_format=torch.channels_last)
        self.readers = ThreadPoolExecutor(os.cpu_count())
        # Both sides answer their first request warm.
        self.predict(self.batch([torch.zeros(3, 224, 224)] * ROWS, read=False))

    # Without a type, as on LitServe's pages: one would make its web server look elsewhere for it.
    def decode_request(self, request, **_: object) -> bytes:  # pyright: ignore
        """The bytes of the file."""
        data = cast("Any", request)["image_data"]
        return base64.b64decode(data)

    def batch(self, inputs: Sequence[Any], read: bool = True) -> Tensor:
        """What the network takes: float32 [n, 3, 224, 224]."""
        pictures = list(self.readers.map(self.read, inputs)) if read else list(inputs)
        return torch.stack(pictures).to(memory_format=torch.channels_last)

    def read(self, file: bytes) -> Tensor:
        """Decoded, resized, cropped and normalised, as torchvision does it."""
        picture: Tensor = self.transform(Image.open(io.BytesIO(file)).convert("RGB"))
        return picture

    def predict(self, x: Tensor, **_: object) -> Any:
        """Probabilities and positions of the best classes."""
        with torch.inference_mode():
            return self.module(x).softmax(1).topk(CLASSES)

    def unbatch(self, output: Any) -> Any:
        """One answer for each picture."""
        return list(zip(output.values.tolist(), output.indices.tolist(), strict=True))

    def encode_response(self, output: Any, **_: object) -> Any:
        """As JSON."""
        pairs = zip(*output, strict=True)
        return {"classes": [{"label": self.labels[i], "probability": p} for p, i in pairs]}


if __name__ == "__main__":
    api = Classifier(max_batch_size=ROWS, batch_timeout=WAIT)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    port = int(sys.argv[1])
    server.run("127.0.0.1", port, generate_client_file=False, log_level="warning")
