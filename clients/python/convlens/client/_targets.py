"""Classes as people write them."""

from typing import Any

from convlens.v1 import target_pb2

KINDS = {"index": "class_index", "label": "label", "rank": "rank"}


def target_of(text: str) -> target_pb2.Target:
    """A class by index, by label or by rank: "3", "cat", "rank:2", "label:7".

    Raises ValueError where an index or a rank is no such number.
    """
    prefix, separator, rest = text.partition(":")
    kind = prefix if separator and prefix in KINDS else ""
    value = rest if kind else text
    if not kind:
        kind = "index" if text.isdecimal() else "label"
    try:
        given: Any = value if kind == "label" else int(value)
        return target_pb2.Target(**{KINDS[kind]: given})
    except ValueError:
        words = f"{value!r} is no whole number from 0 to {2**32 - 1}"
        raise ValueError(f"{text!r}: {words}.") from None
