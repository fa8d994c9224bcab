"""What a receipt must hold so that it can be replayed; ValueError says what it does not."""

import json
from typing import Any, TypeAlias, cast

Kinds: TypeAlias = tuple[type, ...]

NAMES = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    type(None): "null",
}
TEXT, OBJECT, LIST, NUMBER, TRUTH = (str,), (dict,), (list,), (int,), (bool,)
NULL = type(None)
# Characters of a wrong value that are shown.
SHOWN = 40


def check_document(document: object) -> None:
    """The file as a whole."""
    _has("the file", document, format=TEXT)


def check_call(call: object, where: str, found: str) -> None:
    """One call; a picture that has no error has what was `found`: "answers" or a "verdict"."""
    for place, picture in _pictures(call, where):
        if "error" in picture:
            _check_error(place, picture)
        elif found == "verdict":
            _check_verdict(f"{place}.verdict", _has(place, picture, verdict=OBJECT)["verdict"])
        else:
            answers = _has(place, picture, answers=LIST)["answers"]
            for place_of, answer in enumerate(answers):
                _check_answer(f"{place}.answers[{place_of}]", answer)


def check_synthesis(call: object, where: str) -> None:
    """The call of a synthesis: the picture that it began from, if any, and what it made."""
    _pictures(call, where)
    given = _has(where, call, made=LIST, is_partial=TRUTH)
    for number, entry in enumerate(given["made"]):
        place = f"{where}.made[{number}]"
        made = _has(place, entry, target=(dict, NULL), arrays=OBJECT, file=(str, NULL))
        if made["target"] is not None:
            _has(f"{place}.target", made["target"], label=TEXT)
        _check_texts(f"{place}.arrays", made["arrays"])


def _pictures(call: object, where: str) -> list[tuple[str, dict[str, Any]]]:
    """The pictures of a call, checked, each with its place."""
    given = _has(where, call, receipt=OBJECT, pictures=LIST)
    _check_kind(f"{where}.receipt.parameters", given["receipt"].get("parameters", {}), OBJECT)
    found: list[tuple[str, dict[str, Any]]] = []
    for number, entry in enumerate(given["pictures"]):
        place = f"{where}.pictures[{number}]"
        picture = _has(place, entry, path=TEXT, digest=TEXT)
        if "path_hex" in picture:
            _check_hex(f"{place}.path_hex", picture["path_hex"])
        found.append((place, picture))
    return found


def _check_answer(where: str, answer: object) -> None:
    index: Kinds = (int, NULL)
    given = _has(where, answer, method=TEXT, method_index=NUMBER, target_index=index)
    if "error" in given:
        _check_error(where, given)
        return
    _has(where, given, target=(dict, NULL), arrays=OBJECT, files=OBJECT, is_partial=TRUTH)
    if given["target"] is not None:
        _has(f"{where}.target", given["target"], label=TEXT)
    for name in ("arrays", "files"):
        _check_texts(f"{where}.{name}", given[name])


def _check_verdict(where: str, verdict: object) -> None:
    given = _has(where, verdict, method=TEXT, status=TEXT, before=LIST, arrays=OBJECT)
    for number, score in enumerate(given["before"]):
        _has(f"{where}.before[{number}]", score, label=TEXT)
    _check_texts(f"{where}.arrays", given["arrays"])


def _check_error(where: str, given: dict[str, Any]) -> None:
    _has(f"{where}.error", _has(where, given, error=OBJECT)["error"], reason=TEXT, message=TEXT)


def _check_texts(where: str, given: dict[str, Any]) -> None:
    for name, value in given.items():
        _check_kind(f"{where}[{json.dumps(name)}]", value, TEXT)


def _check_hex(where: str, value: object) -> None:
    _check_kind(where, value, TEXT)
    try:
        bytes.fromhex(cast(str, value))
    except ValueError:
        raise ValueError(f"{where} is {_said(value)}; it must be hexadecimal") from None


def _has(where: str, value: object, **kinds: Kinds) -> dict[str, Any]:
    """The object, where it has all of these, each of its kind."""
    _check_kind(where, value, OBJECT)
    given = cast(dict[str, Any], value)
    for name, kind in kinds.items():
        if name not in given:
            raise ValueError(f"it lacks {name!r} in {where}")
        _check_kind(f"{where}.{name}", given[name], kind)
    return given


def _check_kind(where: str, value: object, kinds: Kinds) -> None:
    # JSON's kinds are Python's own, and true is no number there.
    if type(value) not in kinds:
        allowed = " or ".join(NAMES[kind] for kind in kinds)
        raise ValueError(f"{where} is {_said(value)}; it must be {allowed}")


def _said(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
