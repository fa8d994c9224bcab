"""Downloads the files of a list into a folder, and keeps what has the SHA-256 that the list says.

python fetch.py LIST FOLDER
"""

import hashlib
import sys
import urllib.request
from pathlib import Path

SECONDS = 60
CHUNK = 2**20


def digest_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits; of no file, none."""
    if not file.is_file():
        return ""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def fetch(digest: str, target: Path, address: str) -> None:
    """Downloads a file, unless it is there; what is something else is never at its place."""
    if digest_of(target) == digest:
        print(f"{target} is here")
        return
    part = target.with_name(target.name + ".part")
    with urllib.request.urlopen(address, timeout=SECONDS) as answer, part.open("wb") as file:
        while chunk := answer.read(CHUNK):
            file.write(chunk)
    found = digest_of(part)
    if found != digest:
        part.unlink()
        sys.exit(f"{address} has the SHA-256 {found}, and the list says {digest}")
    part.rename(target)
    print(f"{target} fetched")


def main(listed: Path, folder: Path) -> None:
    """Fetches what is listed; ends with 1 and a line where that fails."""
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 3 or Path(words[1]).name != words[1]:
            sys.exit(f"{listed}:{number}: must be SHA-256, a plain name and an address")
        try:
            fetch(words[0].lower(), folder / words[1], words[2])
        except OSError as error:
            sys.exit(f"{words[2]}: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
