"""What /proc tells about processes. One that is gone, or not ours to see, has nothing to tell."""

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
LISTEN = "0A"


def processes() -> Iterator[int]:
    """Every process that we see."""
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def with_variable(name: str, value: str) -> list[int]:
    """The live processes that were started with this variable in their environment."""
    wanted = f"{name}={value}".encode()
    return [pid for pid in processes() if wanted in _read(pid, "environ").split(b"\0")]


def mapped_files(pid: int) -> set[str]:
    """The files that a process has in its memory; a removed one ends in " (deleted)"."""
    lines = os.fsdecode(_read(pid, "maps")).splitlines()
    return {fields[5] for line in lines if len(fields := line.split(maxsplit=5)) == 6}


def listening_ports(pid: int) -> set[int]:
    """The TCP ports on which the process itself listens."""
    sockets = _sockets(pid)
    ports: set[int] = set()
    for table in ("net/tcp", "net/tcp6"):
        for line in _read(pid, table).decode().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTEN and inode in sockets:
                ports.add(int(local.rpartition(":")[2], 16))
    return ports


def _sockets(pid: int) -> set[str]:
    inodes: set[str] = set()
    try:
        for entry in (PROC / str(pid) / "fd").iterdir():
            kind, _, inode = os.readlink(entry).partition(":")
            if kind == "socket":
                inodes.add(inode.strip("[]"))
    except OSError:
        return inodes
    return inodes


def _read(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""
