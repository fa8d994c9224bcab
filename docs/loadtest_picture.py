"""The picture of the page of a load test, as a browser shows it."""

import os
import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

from convlens.client.cli._embedded import EmbeddedServer, server_command

# A network that takes its time, so that what is shown is the server's limit and no other.
NETWORKS = """
networks:
- {name: resnet18, builder: 'torchvision:resnet18', weights: random}
"""
# Of the window, in pixels: as much of the page as shows what the server can take, and the curves.
WIDTH, HEIGHT = 1280, 1650
BROWSER = shutil.which("chromium")
# So that it is drawn in a minute.
CHANGES = (
    "phases.warm-up.duration=2s",
    "phases.saturation.steps={from: 4, to: 200, factor: 1.4, each: 4s}",
    "phases.overload.duration=15s",
    "phases.recovery.duration=10s",
)


def loadtest_picture() -> Image.Image:
    """The upper part of the page of an overload of ResNet-18."""
    assert BROWSER, "this needs chromium"
    # Leaves a core to those who ask it.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        networks, page, shot = (Path(folder, n) for n in ("networks.yaml", "p.html", "p.png"))
        networks.write_text(NETWORKS)
        command = [sys.executable, "-m", "convlens.loadtest", "overload-5x", "--quiet"]
        changes = [f"--set={change}" for change in CHANGES]
        # Whether its limits hold depends on what else the machine does.
        with EmbeddedServer([*server_command(), "--networks", str(networks)]) as server:
            asked = [*command, *changes, "--server", server.address, "--html", page]
            subprocess.run(asked, check=False)
        size = f"--window-size={WIDTH},{HEIGHT}"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", size]
        subprocess.run([BROWSER, *flags, f"--screenshot={shot}", page.as_uri()], check=True)
        return Image.open(BytesIO(shot.read_bytes())).convert("RGB")
