"""Lists what torchvision offers: the answer to ListPretrained."""

from functools import cache

from convlens.v1 import network_pb2
from convlens.workers.builders import torchvision as builder


def list_pretrained(name_contains: str) -> network_pb2.ListPretrainedResponse:
    """The weights of the networks whose name contains a text."""
    import torchvision  # pyright: ignore[reportMissingTypeStubs]

    return network_pb2.ListPretrainedResponse(
        weights=[entry for entry in _all() if name_contains in entry.network],
        torchvision_version=torchvision.__version__,
    )


@cache
def _all() -> list[network_pb2.PretrainedWeights]:
    return [
        _message(name, weights, builder.default_of(name).name == weights.name)
        for name in builder.names()
        for weights in builder.weights_of(name)
    ]


def _message(
    name: str, weights: builder.Weights, is_default: bool
) -> network_pb2.PretrainedWeights:
    meta = weights.meta
    return network_pb2.PretrainedWeights(
        network=name,
        weights=weights.name,
        is_default=is_default,
        accuracy=builder.accuracy_of(weights),
        parameters=meta["num_params"],
        # torchvision gives billions and mebibytes, with three digits after the point.
        multiply_adds=round(meta["_ops"] * 1e9),
        file_bytes=round(meta["_file_size"] * 2**20),
        input=builder.geometry_of(weights),
        classes=len(meta["categories"] or ()),
        recipe=meta["recipe"],
        url=weights.url,
    )
