"""The shared memory between Triton and its stubs, which outlives those that were killed."""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from convlens.contract.shared_memory import GROWTH, shared_memory
from convlens.server.triton import proc

SHM = Path("/dev/shm")
PATTERN = "triton_python_backend_shm_region_*"
# A region is made, and only then mapped.
YOUNGEST_SECONDS = 1.0


def regions_of(pids: Iterable[int]) -> set[Path]:
    """The regions that these processes map."""
    prefix = str(SHM / PATTERN.rstrip("*"))
    files = (file for pid in pids for file in proc.mapped_files(pid))
    return {Path(file) for file in files if file.startswith(prefix)}


def remove(regions: Iterable[Path]) -> None:
    """Removes regions; others may be faster, and those of other users stay."""
    for region in regions:
        try:
            region.unlink(missing_ok=True)
        except PermissionError:
            continue


def remove_stale_regions() -> None:
    """Removes the regions that no live process maps."""
    # Listed before the processes are looked at: what is made meanwhile is not on the list.
    found = {region for region in SHM.glob(PATTERN) if _age(region) > YOUNGEST_SECONDS}
    if found:
        remove(found - regions_of(proc.processes()))


def shortage(message_bytes: int, models: int) -> str:
    """What to do where messages may need more memory than there is; empty where it is enough."""
    free, needed = shutil.disk_usage(SHM).free, shared_memory(message_bytes, models)
    if free >= needed:
        return ""
    whose = "one model" if models == 1 else f"{models} models"
    return (
        f"{SHM} has {_mib(free)} free, and the largest messages can take {_mib(needed)} of it for "
        f"{whose}: give it {_mib(needed - free)} more (docker run --shm-size, in Kubernetes an "
        f"emptyDir of medium Memory), or set max_message_bytes to {free // (GROWTH * models)}; "
        "until then such a message may fail"
    )


def _mib(count: int) -> str:
    return f"{-(-count // 2**20)} MiB"


def _age(region: Path) -> float:
    try:
        return time.time() - region.stat().st_mtime
    except FileNotFoundError:
        return 0.0
