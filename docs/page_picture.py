"""The picture of a report, as a browser shows it."""

import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from method_pictures import picture
from PIL import Image

# Of the window, in pixels: as much of the page as shows a whole picture.
WIDTH, HEIGHT = 1280, 1560
BROWSER = shutil.which("chromium")


def page_picture(address: str) -> Image.Image:
    """The upper part of the page of one picture, as the server at that address explains it."""
    assert BROWSER, "this needs chromium"
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder, "report.html"), Path(folder, "report.png")
        source = picture("star-2")
        command = [sys.executable, "-m", "convlens.client.cli", "report", source.name]
        # From beside it: the page says where a picture lies.
        asked = [*command, "-o", page, "--server", address]
        subprocess.run(asked, cwd=source.parent, check=True)
        size = f"--window-size={WIDTH},{HEIGHT}"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", size]
        subprocess.run([BROWSER, *flags, f"--screenshot={shot}", page.as_uri()], check=True)
        return Image.open(BytesIO(shot.read_bytes())).convert("RGB")
