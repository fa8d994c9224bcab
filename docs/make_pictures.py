"""Draws the pictures of the documentation from what a running server answers.

uv run python docs/make_pictures.py
"""

from importlib.resources import as_file, files
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from convlens.client import Classification, ClassScore, Client
from convlens.client.cli._embedded import EmbeddedServer, server_command

OUT = Path(__file__).parent / "pictures"
COLUMNS = 4
TILE = 200
GAP = 24
BARS = 3
BAR = 24
# Drawn larger and scaled down, since Pillow draws without antialiasing.
OVER = 4
INK, FAINT, FILL = "#1f2430", "#6b7280", "#2f6fde"
RAIL = "#e5e9f0"


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def tile(picture: Path, answer: Classification) -> Image.Image:
    """The picture above its best classes, each with a bar as long as its probability."""
    canvas = Image.new("RGB", (TILE, TILE + 8 + BARS * BAR), "white")
    with Image.open(picture) as opened:
        canvas.paste(opened.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS))
    for row, score in enumerate(answer.classes[:BARS]):
        canvas.paste(bar(score, INK if row == 0 else FAINT), (0, TILE + 8 + row * BAR))
    return canvas


def bar(score: ClassScore, color: str) -> Image.Image:
    """A class in a line: its label, its probability as a bar, and in figures."""
    canvas = Image.new("RGB", (TILE * OVER, BAR * OVER), "white")
    draw = ImageDraw.Draw(canvas)
    left, right, top, bottom = 92 * OVER, (TILE - 46) * OVER, 6 * OVER, 15 * OVER
    radius = (bottom - top) // 2
    draw.rounded_rectangle((left, top, right, bottom), radius, fill=RAIL)
    length = round((right - left) * score.probability)
    draw.rounded_rectangle((left, top, left + length, bottom), min(radius, length // 2), fill=FILL)
    draw.text((2 * OVER, 2 * OVER), score.label, fill=color, font=font(15 * OVER))
    percent = f"{score.probability:.1%}"
    draw.text((TILE * OVER, 3 * OVER), percent, fill=color, font=font(13 * OVER), anchor="ra")
    return canvas.resize((TILE, BAR), Image.Resampling.LANCZOS)


def sheet(tiles: list[Image.Image]) -> Image.Image:
    """The tiles in rows."""
    width, height = tiles[0].size
    rows = -(-len(tiles) // COLUMNS)
    size = (COLUMNS * (width + GAP) + GAP, rows * (height + GAP) + GAP)
    canvas = Image.new("RGB", size, "white")
    for index, entry in enumerate(tiles):
        row, column = divmod(index, COLUMNS)
        canvas.paste(entry, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return canvas


def main() -> None:
    with as_file(files("convlens.client") / "pictures") as folder:
        pictures = sorted(folder.glob("*.png"))
        with EmbeddedServer(server_command()) as server, Client(server.address) as client:
            answers = client.classify(pictures)
        OUT.mkdir(exist_ok=True)
        tiles = [tile(path, answer) for path, answer in zip(pictures, answers, strict=True)]
    sheet(tiles).save(OUT / "classify.png", optimize=True)


if __name__ == "__main__":
    main()
