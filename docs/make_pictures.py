"""Draws the pictures of the documentation from what a running server answers.

uv run python docs/make_pictures.py
"""

from pathlib import Path

from attack_pictures import ATTACK_FIGURES, attacks_of_one
from figures import save
from loadtest_picture import loadtest_picture
from method_pictures import FIGURES
from overview import overview
from page_picture import BROWSER, page_picture
from synthesis_pictures import SYNTHESIS_FIGURES, class_models

from convlens.client import Client
from convlens.client.cli._embedded import EmbeddedServer, server_command

OUT = Path(__file__).parent / "pictures"


def main() -> None:
    with EmbeddedServer(server_command()) as server, Client(server.address) as client:
        save(overview(client), OUT / "explain.png")
        if BROWSER:
            save(page_picture(server.address), OUT / "report.png")
        save(attacks_of_one(client), OUT / "attacks.png")
        save(class_models(client), OUT / "synthesis.png")
        for name, figure in {**FIGURES, **ATTACK_FIGURES, **SYNTHESIS_FIGURES}.items():
            save(figure(client), OUT / "methods" / f"{name}.png")
    if BROWSER:
        save(loadtest_picture(), OUT / "loadtest.png")


if __name__ == "__main__":
    main()
