"""The end of `convlens demo`: a network that is fooled, and says so again."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from convlens.client import AttackVerdict, Classification, Client
from convlens.client.cli._attack_output import verdict_json
from convlens.client.cli._classify import classification_json
from convlens.client.cli._files import write_whole
from convlens.client.cli._rows import percent
from convlens.client.methods import PGD

# In steps of 8 bits, by which a value may change.
STEPS = 4


@dataclass(frozen=True, slots=True)
class Fooled:
    """What an attack made of a picture, and what is said of it when it is sent back as it is."""

    picture: Path
    verdict: AttackVerdict
    again: Classification


def fooled(client: Client, picture: Path) -> Fooled:
    """Attacks the picture by PGD with all of its steps, so that the network is sure of the rest."""
    verdict = client.attack(
        picture,
        PGD(epsilon=STEPS / 255),
        stop_at_success=False,
        until_rounded_succeeds=True,
        return_pixels=True,
    )
    return Fooled(picture, verdict, client.classify(verdict.png, geometry="as_is"))


def files_beside(page: Path) -> dict[str, Path]:
    """Where the adversarial picture goes, and the sheet that lays it beside the original."""
    return {
        "png": page.with_name(f"{page.stem}-fooled.png"),
        "shown": page.with_name(f"{page.stem}-fooled-shown.png"),
    }


def write_fooled(found: Fooled, page: Path) -> None:
    """Writes both beside the page."""
    files, sheet = files_beside(page), BytesIO()
    found.verdict.image().save(sheet, "PNG")
    write_whole(files["png"], found.verdict.png)
    write_whole(files["shown"], sheet.getvalue())


def fooled_lines(found: Fooled) -> Iterator[str]:
    """What the network said of the picture, and says now."""
    name, before, after = found.picture.name, found.verdict.before[0], found.verdict.after[0]
    if found.verdict.succeeded:
        yield f"{name} was {before.label}, {percent(before.probability)}. Changed by PGD, no value"
        yield f"by more than {STEPS}/255, it is now {after.label}, {percent(after.probability)}."
    else:
        yield f"PGD within {STEPS}/255 did not fool the network on {name}; another attack may."
    yield "The changed picture, sent to classify again as it is:"


def fooled_json(found: Fooled, page: Path) -> dict[str, Any]:
    """The same, as JSON."""
    files = {kind: str(path) for kind, path in files_beside(page).items()}
    return {
        "picture": str(found.picture),
        **verdict_json(found.verdict, files),
        "as_is": classification_json(found.again),
    }
