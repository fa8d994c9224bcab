"""A client that sends a folder through two studies; it prints what they took as JSON.

A process of its own, so that its memory is that of the client and of nothing else.
"""

import json
import sys
import time
from pathlib import Path

from convlens.client import Client, studies
from convlens.client._picture_files import found


def peak() -> float:
    """Megabytes that this process has had in memory at most."""
    # What getrusage says begins with the memory of the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(kilobytes) / 1024


def main(address: str, pictures: str, out: str) -> None:
    folder = Path(out)
    took: dict[str, object] = {"start": {"megabytes": peak()}}
    with Client(address) as client:
        for name in ("top_patches", "index_pictures", "neighbours"):
            started = time.monotonic()
            if name == "top_patches":
                found_ones = studies.top_patches(
                    client, pictures, "features.12", maps=range(2), state=folder / "rows"
                )
                found_ones.save(folder / "patches")
            elif name == "index_pictures":
                made = studies.index_pictures(client, pictures, folder / "index")
                took["pictures"] = made.pictures
            else:
                near = studies.neighbours(client, found(pictures)[:64], folder / "index")
                near.save(folder / "alike")
            took[name] = {"seconds": time.monotonic() - started, "megabytes": peak()}
    print(json.dumps(took))


if __name__ == "__main__":
    main(*sys.argv[1:])
