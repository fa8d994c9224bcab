"""Weights of others: looked for where torch keeps them, and downloaded where they are not."""

import hashlib
import logging
import os
import re
import shutil
import socket
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

from convlens.workers.builders.builder import BuildError

log = logging.getLogger(__name__)

# A server that says nothing for so long is out of reach.
SILENCE_SECONDS = 20.0
# torch's files carry the first digits of their SHA-256: resnet50-0676ba61.pth
DIGITS = re.compile(r"-([0-9a-f]{8,})\.\w+$")


def place_of(url: str) -> Path:
    """Where torch keeps the file of an address: in its hub, which TORCH_HOME moves."""
    from torch import hub

    return Path(hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def fetched(url: str, what: str) -> Path:
    """The file of an address, downloaded unless it is here, and proved by its SHA-256.

    Raises BuildError, which says which file to bring where.
    """
    place = place_of(url)
    remedy = f"bring {url} to {place}, or name another file with weights:"
    if not place.is_file():
        log.info("downloading %s to %s", url, place)
        try:
            _download(url, place)
        except (OSError, urllib.error.URLError) as error:
            raise BuildError(
                "weights", f"{what} cannot be downloaded ({_reason(error)}); {remedy}"
            ) from None
    digits = DIGITS.search(place.name)
    if digits and not _digest(place).startswith(digits[1]):
        raise BuildError(
            "weights", f"{place} is not {what}: its SHA-256 should begin {digits[1]}; {remedy}"
        )
    return place


def _download(url: str, place: Path) -> None:
    """Under another name until it is whole: others may look for it meanwhile."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(url, timeout=SILENCE_SECONDS) as answer:
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=f"{place.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                shutil.copyfileobj(answer, file)
            # A cache is shared; mkstemp makes files for one user alone.
            os.chmod(name, 0o644)
            os.replace(name, place)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    wrapped = isinstance(error, urllib.error.URLError)
    answered = isinstance(error, urllib.error.HTTPError)
    reason = error.reason if wrapped and not answered else error
    if isinstance(reason, socket.gaierror):
        return "there is no network: the host's name is not known"
    return str(reason) or type(reason).__name__
