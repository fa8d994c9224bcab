"""Writes the stubs of every .proto in this room, beside it; nothing else may write them.

uv run python proto/generate.py [--out DIR]

With --freeze it writes the messages of v1 as they are now, which later ones must not break.
"""

import argparse
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import google.rpc.status_pb2 as googleapis

ROOM = Path(__file__).parent
PUBLIC = "convlens/v1/*.proto"
# What v1 promised last, for `buf breaking`.
FROZEN = ROOM / "v1.binpb"


def sources() -> list[Path]:
    """The .proto files of this room, in a stable order."""
    return sorted(ROOM.glob("convlens/**/*.proto"))


def include_paths() -> list[Path]:
    """Where imports are looked up: this room, Google's well-known types, Google's API types."""
    wellknown = Path(str(files("grpc_tools") / "_proto"))
    assert googleapis.__file__ is not None
    return [ROOM, wellknown, Path(googleapis.__file__).parents[2]]


def run_protoc(paths: list[Path], *outputs: str) -> None:
    """Runs protoc on `paths`; raises RuntimeError where it refuses."""
    includes = [f"-I{path}" for path in include_paths()]
    names = [str(path.relative_to(ROOM)) for path in paths]
    plugin_path = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    command = [sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs, *names]
    if subprocess.run(command, env=os.environ | plugin_path).returncode != 0:
        raise RuntimeError("protoc refused the files; its message is above")


def generate(out: Path) -> None:
    """Writes *_pb2.py and .pyi below `out`, and *_pb2_grpc.py and .pyi for services."""
    out.mkdir(parents=True, exist_ok=True)
    run_protoc(sources(), f"--python_out={out}", f"--mypy_out=quiet:{out}")
    services = [path for path in sources() if "\nservice " in path.read_text()]
    run_protoc(services, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}")


def descriptor_set(target: Path) -> None:
    """Writes all files with their imports and comments as one FileDescriptorSet, for buf."""
    run_protoc(
        sources(), "--include_imports", "--include_source_info", f"--descriptor_set_out={target}"
    )


def freeze(target: Path) -> None:
    """Writes the public files with their imports as one FileDescriptorSet, without comments."""
    public = sorted(ROOM.glob(PUBLIC))
    run_protoc(public, "--include_imports", f"--descriptor_set_out={target}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOM, help="where to write the stubs")
    parser.add_argument("--descriptors", type=Path, help="write a FileDescriptorSet here instead")
    parser.add_argument("--freeze", action="store_true", help=f"write {FROZEN.name} instead")
    args = parser.parse_args()
    if args.freeze:
        freeze(FROZEN)
    elif args.descriptors:
        descriptor_set(args.descriptors)
    else:
        generate(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
