"""The files of `convlens synthesize`: the pictures, how they grew, and the checkpoint."""

import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convlens.client import ConvLensError, SynthesisDone, SynthesisPreview
from convlens.client._images import read_file
from convlens.client._synthesis import sheet_of
from convlens.client._text import shown
from convlens.client.cli._files import check_folder, check_new, write_whole
from convlens.client.cli._receipts import NAME

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

# Milliseconds that a frame of the growth stays, and the last one.
FRAME, LAST = 100, 2000
# Sides of a frame at most, and how many there are; every second one goes where there are more.
FRAME_SIDE, MOST_FRAMES = 512, 200
# Seconds between two versions of the picture while it grows.
PAUSE = 1.0


class Album:
    """Writes the pictures, their growth and the checkpoint, each where a file is named for it.

    Where there are several pictures, the file named for them shows all, and each lies beside it
    with its number. `file` is that of the checkpoint, `checkpoint` what is in it; `receipt` is the
    file that says what was done, which only what is done gets.
    """

    def __init__(
        self, out: Path | None, gif: Path | None, checkpoint: Path | None, *, overwrite: bool
    ) -> None:
        self._out, self.file, self._overwrite = out, checkpoint, overwrite
        self.checkpoint = b""
        if checkpoint is not None:
            check_folder(checkpoint)
            check_new(checkpoint, overwrite=True)
            if checkpoint.exists():
                self.checkpoint = _read(checkpoint)
                # What an interrupted run has left is what this one goes on with.
                self._overwrite = True
        for option, path, suffix in (("--out", out, ".png"), ("--gif", gif, ".gif")):
            if path is not None:
                if path.suffix.lower() != suffix:
                    words = f"{option} is {str(path)!r}; it must end in {suffix}."
                    raise click.UsageError(words)
                check_folder(path)
                check_new(path, overwrite=self._overwrite)
        self._growth = Growth(gif, goes_on=bool(self.checkpoint))
        first = out or gif
        assert first is not None
        self.receipt = first.with_name(f"{first.stem}.{NAME}")
        check_new(self.receipt, overwrite=self._overwrite)
        self._last: SynthesisPreview | None = None
        self._next = 0.0
        self._expected = False

    def expect(self, count: int) -> None:
        """Says at once what would keep so many pictures from being written."""
        if not self._expected and count > 1:
            for path in self._places(count):
                check_new(path, overwrite=self._overwrite)
        self._expected = True

    def preview(self, preview: SynthesisPreview) -> None:
        """Keeps what the pictures look like so far."""
        self._last = preview
        # It would be that of other pictures from here on.
        self.receipt.unlink(missing_ok=True)
        self._keep(preview.checkpoint)
        self._growth.add(preview.pngs)
        if self._out is not None and time.monotonic() >= self._next:
            self._write_front(preview.pngs)
            self._next = time.monotonic() + PAUSE

    def done(self, done: SynthesisDone) -> list[Path]:
        """Writes the end; where each picture is."""
        pngs = [picture.png for picture in done.pictures]
        self._keep(done.checkpoint)
        self._growth.add(pngs)
        return self._write(pngs)

    def stop(self) -> None:
        """Writes what the last preview had, and says how to go on from there."""
        if self._last is None:
            return
        self._write(self._last.pngs)
        files = [path for path in (self._out, self._growth.file) if path is not None]
        said = f"stopped after step {self._last.step}"
        if files:
            said += f"; what there is so far is in {' and '.join(map(shown, files))}"
        if self.file is not None:
            said += f"; the same command goes on from {shown(self.file)}"
        click.echo(f"convlens: note: {said}.", err=True)

    def _write(self, pngs: Sequence[bytes]) -> list[Path]:
        self._growth.write()
        if self._out is None:
            return []
        places = self._places(len(pngs))
        if len(pngs) > 1:
            self._write_front(pngs)
        for path, png in zip(places, pngs, strict=True):
            if png:
                write_whole(path, png)
        return places

    def _write_front(self, pngs: Sequence[bytes]) -> None:
        """Writes the only picture, or a sheet with all of them."""
        found = pngs[0] if len(pngs) == 1 else sheet_of(pngs)
        if self._out is not None and found:
            write_whole(self._out, found)

    def _places(self, count: int) -> list[Path]:
        """A file for each picture."""
        out = self._out
        if out is None:
            return []
        digits = len(str(count))
        numbers = range(1, count + 1)
        several = [out.with_name(f"{out.stem}-{n:0{digits}}{out.suffix}") for n in numbers]
        return several if count > 1 else [out]

    def _keep(self, checkpoint: bytes) -> None:
        if not checkpoint:
            # A picture could not be made; the one before holds for the others.
            return
        self.checkpoint = checkpoint
        if self.file is not None:
            write_whole(self.file, checkpoint)


class Growth:
    """How pictures grew, as a .gif; every preview is a frame.

    Where it `goes_on`, those of the file that is there come first.
    """

    def __init__(self, file: Path | None, *, goes_on: bool) -> None:
        self.file = file
        self._frames: list[PILImage] = _frames(file) if file is not None and goes_on else []
        self._newest: PILImage | None = None
        self._seen, self._stride = 0, 1

    def add(self, pngs: Sequence[bytes]) -> None:
        """One more frame."""
        if self.file is None or (sheet := sheet_of(pngs)) is None:
            return
        self._newest = _frame(sheet)
        if self._frames and self._frames[0].size != self._newest.size:
            # Those of a file that was of something else.
            self._frames = []
        if self._seen % self._stride == 0:
            self._frames.append(self._newest)
        self._seen += 1
        if len(self._frames) > MOST_FRAMES:
            self._frames = self._frames[::2]
            self._stride *= 2

    def write(self) -> None:
        """Writes the file; its last frame stays longer."""
        if self.file is None or self._newest is None:
            return
        newest = [] if self._frames[-1] is self._newest else [self._newest]
        first, *others = [*self._frames, *newest]
        durations = [FRAME] * len(others) + [LAST]
        buffer = BytesIO()
        first.save(
            *(buffer, "GIF"), save_all=True, append_images=others, duration=durations, loop=0
        )
        write_whole(self.file, buffer.getvalue())


def _frame(sheet: bytes) -> "PILImage":
    """A picture in the 256 colours that a .gif has for it."""
    from PIL import Image

    with Image.open(BytesIO(sheet)) as image:
        image.thumbnail((FRAME_SIDE, FRAME_SIDE))
        return image.convert("RGB").quantize(256)


def _frames(file: Path) -> "list[PILImage]":
    """The frames of a .gif; none where there is no such file."""
    from PIL import Image, ImageSequence

    try:
        with Image.open(file, formats=["GIF"]) as image:
            return [frame.convert("RGB").quantize(256) for frame in ImageSequence.Iterator(image)]
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        # It is written anew.
        return []


def _read(file: Path) -> bytes:
    try:
        data = read_file(file)
    except ConvLensError as error:
        raise click.ClickException(error.message) from error
    if not data:
        raise click.ClickException(
            f"{shown(file)} is empty, and no checkpoint; give --checkpoint another name, or remove "
            "the file to begin anew."
        )
    return data
