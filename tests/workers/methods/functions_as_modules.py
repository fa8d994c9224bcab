"""torchvision's networks with their functional rectifiers written as modules, which captum sees."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from types import MethodType
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet
from torchvision.models.googlenet import BasicConv2d


@contextmanager
def functions_as_modules(module: nn.Module) -> Generator[None]:
    """GoogLeNet or a DenseNet, so written while the block runs."""
    with ExitStack() as stack:
        for each in list(module.modules()):
            forward = _FORWARDS.get(type(each))
            if forward:
                each.rewritten = nn.ReLU()
                stack.callback(delattr, each, "rewritten")
                each.forward = MethodType(forward, each)
                stack.callback(delattr, each, "forward")
        yield


def _basic(self: Any, x: Tensor) -> Tensor:
    return self.rewritten(self.bn(self.conv(x)))


def _dense(self: Any, x: Tensor) -> Tensor:
    x = F.adaptive_avg_pool2d(self.rewritten(self.features(x)), (1, 1))
    return self.classifier(x.flatten(1))


_FORWARDS: dict[type, Any] = {BasicConv2d: _basic, DenseNet: _dense}
