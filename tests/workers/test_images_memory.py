"""What a picture may take of memory while it is read, whatever its file is like."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

from PIL import Image

from .image_files import claiming, encode, png, png_chunk

SIDE = 1200
# Bytes for each pixel that its header claims, as docs/security.md says; and beside them.
PER_PIXEL, ASIDE = 24, 8 * 2**20
# Reads files, and says by how much each raised the most memory that the process had.
READER = """
import sys
from pathlib import Path
from convlens.contract import Failure
from tests.workers.image_files import read

def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

for name in sys.argv[1:]:
    data = Path(name).read_bytes()
    Path("/proc/self/clear_refs").write_text("5")
    before = most()
    try:
        read(data)
        end = "read"
    except Failure:
        end = "refused"
    print(Path(name).name, end, most() - before)
"""


def turned(file: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(Image.new("RGB", (SIDE, SIDE)), file, exif=exif.tobytes(), **options)


def animation(format: str, frames: int) -> bytes:
    size = (SIDE, SIDE)
    pictures = [Image.new("RGBA", size, (index, 9, 9, 90 + index)) for index in range(frames)]
    return encode(pictures[0], format, save_all=True, append_images=pictures[1:])


def growing_gif() -> bytes:
    """The first frame is small, and the second one as large as GIF can say."""
    file = encode(Image.new("P", (8, 8)), "GIF", save_all=True)
    later = struct.pack("<BHHHHB", 0x2C, 0, 0, 65_535, 65_535, 0) + file[-1:]
    return file[:-1] + later


def with_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    """A small PNG with chunks before its pixels."""
    file = encode(Image.new("RGB", (8, 8)), "PNG")
    return file[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + file[33:]


def files() -> dict[str, tuple[int, bytes]]:
    """Files by name, and the pixels that each may take memory for."""
    bomb, row = zlib.compress(bytes(2**26)), bytes(1 + 8 * SIDE)
    return {
        "progressive JPEG": (
            SIDE**2,
            encode(Image.new("RGB", (SIDE, SIDE)), "JPEG", progressive=True, subsampling=0),
        ),
        "progressive CMYK JPEG": (
            SIDE**2,
            encode(Image.new("CMYK", (SIDE, SIDE)), "JPEG", progressive=True),
        ),
        "turned JPEG": (SIDE**2, turned("JPEG")),
        "16-bit PNG with alpha": (SIDE**2, png((SIDE, SIDE), 16, 6, row * SIDE)),
        "grey 16-bit PNG": (SIDE**2, png((SIDE, SIDE), 16, 0, bytes(1 + 2 * SIDE) * SIDE)),
        "palette PNG with alpha": (
            SIDE**2,
            encode(Image.new("P", (SIDE, SIDE)), "PNG", transparency=b"\0\1"),
        ),
        "animated WebP": (SIDE**2, animation("WEBP", 4)),
        "turned WebP": (SIDE**2, turned("WEBP", lossless=True)),
        "animated GIF": (SIDE**2, animation("GIF", 4)),
        "a GIF that grows": (64, growing_gif()),
        "texts that inflate": (64, with_chunks(*[(b"zTXt", b"Comment\0\0" + bomb)] * 20)),
        "a profile that inflates": (64, with_chunks((b"iCCP", b"x\0\0" + bomb))),
        "pixels that go on": (64, png((8, 8), 8, 2, bytes(2**26))),
        "WebP with a large profile": (
            64,
            encode(Image.new("RGB", (8, 8)), "WEBP", icc_profile=bytes(2**23)),
        ),
        **{f"refused: {name} of 16000": (64, claiming(name, 16_000)) for name in ("JPEG", "WEBP")},
        **{
            f"refused: {name} of 60000": (64, claiming(name, 60_000))
            for name in ("PNG", "BMP", "GIF")
        },
    }


def test_no_picture_takes_more_than_its_pixels_say(tmp_path: Path) -> None:
    given = files()
    for name, (_, data) in given.items():
        (tmp_path / name).write_bytes(data)
    names = [str(tmp_path / name) for name in given]
    command = [sys.executable, "-c", READER, *names]
    result = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=100
    )
    assert result.returncode == 0, result.stderr
    told = [line.rsplit(" ", 2) for line in result.stdout.splitlines()]
    assert [name for name, _, _ in told] == list(given)
    for name, end, more in told:
        pixels, data = given[name]
        assert end == ("refused" if name.startswith("refused") else "read"), name
        assert int(more) < PER_PIXEL * pixels + 4 * len(data) + ASIDE, (name, more)
    # The measure itself measures: a picture takes at least what it is.
    assert int(told[0][2]) > 3 * SIDE**2
