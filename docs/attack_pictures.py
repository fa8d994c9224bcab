"""The pictures of attacks: what each one makes of two pictures, and several of one."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from figures import FAINT, apart, blank, column, row, tile, words
from method_pictures import FAR, NEAR, SIDE, picture, small, told
from PIL import Image

from convlens.client import AttackVerdict, Client
from convlens.client._attack_drawing import amplified
from convlens.client._drawing import png_of
from convlens.client.methods import (
    APGD,
    FGSM,
    LBFGS,
    PGD,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    Norm,
    Square,
)

# Two of them fill the width that all pictures of methods have.
ATTACKED = ("heart-1", "star-2")
# Until it answers: Square may ask about 5,000 pictures.
TIMEOUT = 300.0
COMPARED = {
    "FGSM, 8/255": FGSM(),
    "PGD, 4/255": PGD(epsilon=4 / 255),
    "PGD, L2 of 1": PGD(norm=Norm.NORM_L2, epsilon_l2=1),
    "DeepFool": DeepFool(),
    "Carlini-Wagner": CarliniWagner(),
    "L-BFGS": LBFGS(),
    "Square, 8/255": Square(),
}
TILE, GAP = 144, 12


def attacked(client: Client, name: str, method: Any) -> AttackVerdict:
    """What an attack does to a bundled picture."""
    return client.attack(picture(name), method, return_pixels=True, timeout=TIMEOUT)


def change_of(found: AttackVerdict, side: int) -> Image.Image:
    """The change made visible, and by how much."""
    pixels, factor = amplified(found.change)
    return told(tile(png_of(pixels), side), f"change, {factor:.3g} times")


def answer(found: AttackVerdict) -> Image.Image:
    """What the network says of the adversarial picture; faint where it is what it said before."""
    best = found.after[0]
    text = f"{best.label} {best.probability:.1%}"
    return words(text, 16) if found.succeeded else words(text, 16, FAINT)


def distance(found: AttackVerdict) -> str:
    """How far it went."""
    return f"L2 {found.distance.l2:.2g},  Linf {found.distance.linf * 255:.3g}/255"


def attack(method: Any, client: Client) -> Image.Image:
    """Two pictures, each with the change and what came of it."""
    return row([triple(attacked(client, name, method)) for name in ATTACKED], FAR + 28, 0)


def triple(found: AttackVerdict) -> Image.Image:
    """The original, the change, the adversarial picture, and how it ended."""
    before = f"{found.before[0].label} {found.before[0].probability:.1%}"
    tiles = [
        told(tile(found.original_png, SIDE), words(before, 16)),
        change_of(found, SIDE),
        told(tile(found.png, SIDE), answer(found)),
    ]
    whole = row(tiles, NEAR, 0)
    by = f" by {found.succeeded_by}" if found.succeeded_by else ""
    end = small(f"{found.status.replace('_', ' ')}{by}:  {distance(found)}")
    return column([whole, apart(blank(1, 1), end, whole.width)], 4)


def attacks_of_one(client: Client) -> Image.Image:
    """One picture, and what several attacks make of it."""
    found = {title: attacked(client, "heart-1", method) for title, method in COMPARED.items()}
    first = next(iter(found.values()))
    before = f"{first.before[0].label} {first.before[0].probability:.1%}"
    own = told(tile(first.original_png, TILE), words(before, 16))
    columns = [column([words("original", 15), own], 8)]
    columns += [one_attack(title, verdict) for title, verdict in found.items()]
    return row(columns, GAP, 0)


def one_attack(title: str, found: AttackVerdict) -> Image.Image:
    """What one of them made: the picture, what is said of it, the change."""
    made = told(tile(found.png, TILE), answer(found))
    lines = [small(each.strip()) for each in distance(found).split(",")]
    far = column([change_of(found, TILE), *lines], 2)
    return column([words(title, 15), made, far], 8)


ATTACK_FIGURES: Mapping[str, Callable[[Client], Image.Image]] = {
    "fgsm": partial(attack, FGSM()),
    "pgd": partial(attack, PGD()),
    "apgd": partial(attack, APGD()),
    "deep_fool": partial(attack, DeepFool()),
    "carlini_wagner": partial(attack, CarliniWagner()),
    "lbfgs": partial(attack, LBFGS()),
    "square": partial(attack, Square()),
    "auto_attack": partial(attack, AutoAttack()),
}
