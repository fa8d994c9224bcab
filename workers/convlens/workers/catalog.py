"""Makes what networks.yaml lists: networks that answer, on their devices."""

import torch

from convlens.v1 import network_pb2, receipt_pb2
from convlens.workers.builders import BuildError, Built, builder_of
from convlens.workers.entries import NetworkEntry
from convlens.workers.inputs import input_of
from convlens.workers.network import Computation, ServedNetwork
from convlens.workers.parity import pass_gate
from convlens.workers.probe import check_trace, classes_of, labels_of


def load_network(entry: NetworkEntry, device: str = "auto") -> ServedNetwork:
    """The network of an entry, with its weights, on `device` or else on the entry's own.

    It has scored one black picture when it is returned. Raises ConfigError.
    """
    builder, _ = builder_of(entry.builder)
    try:
        built = builder.build(entry.order)
        facts = network_pb2.Network(
            name=entry.name,
            version=entry.version,
            kind=built.kind,
            input=input_of(entry.input, built.input),
            accuracies=built.accuracies,
            method_scores=built.method_scores,
            traffic_weight=entry.traffic_weight,
        )
        place = _device(entry.device if device == "auto" else device)
        network = _placed(built, facts, place, _computation(entry, place))
        network.name_classes(labels_of(entry.labels, built.labels, classes_of(network)))
        if network.facts.precision == receipt_pb2.PRECISION_BFLOAT16:
            pass_gate(network)
        check_trace(network)
    except BuildError as error:
        raise entry.mistake(error.key, str(error)) from None
    return network


def _computation(entry: NetworkEntry, device: torch.device) -> Computation:
    # On a GPU 32 rows take hardly longer than 8; on a CPU they take four times as long.
    rows = entry.rows or (32 if device.type == "cuda" else 8)
    return Computation(entry.precision == "bf16", entry.channels_last, entry.compile, rows)


def _device(name: str) -> torch.device:
    count = torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if count else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        known = ", ".join(["cpu", *(f"cuda:{index}" for index in range(count))])
        raise BuildError("device", f"there is no {name} on this machine; there are: {known}")
    return device


def _placed(
    built: Built, facts: network_pb2.Network, device: torch.device, computation: Computation
) -> ServedNetwork:
    try:
        return ServedNetwork(built.body.float(), facts, device, computation)
    except torch.OutOfMemoryError as error:
        raise BuildError("device", f"the network does not fit on {device}: {error}") from None
