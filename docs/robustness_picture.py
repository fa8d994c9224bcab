"""The robustness curves of the bundled networks, drawn from what a server of its own answers.

uv run python docs/robustness_picture.py

It takes ten minutes on two cores, so `make_pictures.py` leaves it out.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from convlens.client import Client, LabeledImage, RobustnessDone
from convlens.client.cli._embedded import EmbeddedServer, server_command
from convlens.client.cli._robustness_page import robustness_svg
from convlens.client.cli._robustness_run import Evaluation
from convlens.client.methods import FGSM, PGD
from convlens.contract import with_defaults
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.shapes.dataset import HELD_OUT
from convlens.workers.shapes.draw import CLASSES, draw

OUT = Path(__file__).parent / "pictures" / "robustness.svg"
NETWORKS = ("shapes", "shapes-robust")
PICTURES = 200
EPSILONS = [step / 255 for step in (1, 2, 4, 6, 8, 12, 16, 24)]
ONE_STEP, MANY_STEPS = FGSM(), PGD(steps=40, relative_step_size=2.5 / 40)


def labeled() -> Iterator[LabeledImage]:
    """Pictures that no network was trained on."""
    for seed in HELD_OUT[:PICTURES]:
        made = draw(seed)
        yield LabeledImage(str(seed), made.image, CLASSES[made.label])


def evaluated(client: Client, network: str) -> Evaluation:
    """The curve of one network."""
    events = client.evaluate_robustness(
        labeled(), [ONE_STEP, MANY_STEPS], epsilons=EPSILONS, network=network
    )
    done = [event for event in events if isinstance(event, RobustnessDone)][-1]
    attacks = [methods.AttackMethod(fgsm=ONE_STEP), methods.AttackMethod(pgd=MANY_STEPS)]
    plan = with_defaults(pb.RobustnessPlan(attacks=attacks, epsilons=EPSILONS))
    return Evaluation(network, plan, done, [], {}, {}, PICTURES, 0)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "networks.yaml")
        file.write_text("networks:\n" + "".join(f"  - name: {name}\n" for name in NETWORKS))
        command = [*server_command(), "--networks", str(file)]
        with EmbeddedServer(command) as server, Client(server.address, timeout=3600) as client:
            evaluations = [evaluated(client, name) for name in NETWORKS]
    for evaluation in evaluations:
        for point in evaluation.done.points:
            print(evaluation.network, point)
    OUT.write_text(robustness_svg(evaluations))


if __name__ == "__main__":
    main()
