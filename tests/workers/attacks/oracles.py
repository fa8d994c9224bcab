"""What foolbox and torchattacks reach on the same pictures."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

with warnings.catch_warnings():
    # foolbox asks for a part of SciPy by its old name.
    warnings.filterwarnings("ignore", "Please import", DeprecationWarning)
    import foolbox as foolbox_untyped

import torchattacks

foolbox: Any = foolbox_untyped


def foolbox_fools(
    network: nn.Module, pictures: Tensor, labels: Tensor, attack: Any, epsilon: float
) -> int:
    """How many pictures an attack of foolbox succeeds on."""
    torch.manual_seed(0)
    model = foolbox.PyTorchModel(network.eval(), bounds=(0, 1))
    _, _, success = attack(model, pictures, criterion=labels, epsilons=epsilon)
    return int(success.sum())


def torchattacks_fools(
    network: nn.Module, pictures: Tensor, labels: Tensor, name: str, seed: int = 0, **given: Any
) -> int:
    """How many pictures an attack of torchattacks succeeds on."""
    attack = getattr(torchattacks, name)(network.eval(), seed=seed, **given)
    found = attack(pictures, labels)
    return int((network(found).argmax(1) != labels).sum())


def foolbox_distances(
    network: nn.Module, pictures: Tensor, labels: Tensor, attack: Any, order: float = 2
) -> Tensor:
    """How far away what an attack of foolbox finds is, infinity where it finds nothing."""
    model = foolbox.PyTorchModel(network.eval(), bounds=(0, 1))
    _, found, success = attack(model, pictures, criterion=labels, epsilons=None)
    distances = (found - pictures).flatten(1).norm(order, dim=1)
    return distances.masked_fill(~success, torch.inf)
