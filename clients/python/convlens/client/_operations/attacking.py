"""Turns what callers of `attack` give into the contract's messages."""

# Kept as written, so that help() shows names and not what they stand for.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypedDict

from convlens.client import methods as m
from convlens.client._operations.asking import TargetInput, listed, target_of, wrapped
from convlens.v1 import adversarial_pb2 as pb

Attack: TypeAlias = (
    m.FGSM
    | m.PGD
    | m.APGD
    | m.DeepFool
    | m.CarliniWagner
    | m.LBFGS
    | m.Square
    | m.AutoAttack
    | m.AttackMethod
)
GoalInput: TypeAlias = TargetInput | m.LeastLikely
LabelInput: TypeAlias = int | str | m.Target


class AttackOptions(TypedDict, total=False):
    """What may be said beside the pictures and the attack; `attack` says what each means."""

    target: GoalInput | None
    true_classes: LabelInput | Sequence[LabelInput]
    stop_at_success: bool | None
    until_rounded_succeeds: bool
    through_resize: bool
    return_pixels: bool
    top_k: int | None
    seed: int | None
    allow_partial: bool
    network: str


def attack_parameters(
    method: Attack,
    *,
    target: GoalInput | None = None,
    true_classes: LabelInput | Sequence[LabelInput] = (),
    stop_at_success: bool | None = None,
    until_rounded_succeeds: bool = False,
    through_resize: bool = False,
    return_pixels: bool = False,
    top_k: int | None = None,
    seed: int | None = None,
    allow_partial: bool = False,
    network: str = "",
) -> dict[str, Any]:
    """The fields of an AttackRequest beside its images; InvalidRequest where one is none."""
    return {
        "method": wrapped("method", m.AttackMethod, method, also=""),
        "goal": None if target is None else _goal(target),
        "true_classes": [target_of(each) for each in listed(true_classes)],
        "stop_at_success": stop_at_success,
        "until_rounded_succeeds": until_rounded_succeeds,
        "through_resize": through_resize,
        "return_pixels": return_pixels,
        "top_k": top_k,
        "seed": seed,
        "allow_partial": allow_partial,
        "network": network,
    }


def _goal(target: GoalInput) -> pb.AttackGoal:
    if isinstance(target, m.LeastLikely):
        return pb.AttackGoal(least_likely=target)
    return pb.AttackGoal(target=target_of(target))
