"""`convlens-server token`: makes a token, and its entry for the file of tokens."""

import argparse
import secrets
import sys
from collections.abc import Sequence

import yaml
from pydantic import ValidationError

from convlens.server.access.scopes import SCOPES
from convlens.server.access.tokens import Token, hash_of, in_words
from convlens.server.output import written

# Known to those who search for secrets that were published by mistake.
PREFIX = "convlens_"
RANDOM_BYTES = 32


def make_token(argv: Sequence[str]) -> int:
    """Prints the entry on stdout, ready to be appended to the file, and the token on stderr."""
    chosen = vars(_parser().parse_args(argv))
    token = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    chosen.update(sha256=hash_of(token), scopes=chosen["scopes"].split(","))
    entry = {key: chosen[key] for key in Token.model_fields if chosen[key] is not None}
    try:
        Token.model_validate(entry)
    except ValidationError as error:
        for mistake in error.errors():
            words = in_words(mistake, mistake["loc"][:1])
            print(f"convlens-server token: {words}", file=sys.stderr)
        return 2
    if not written(yaml.safe_dump([entry], sort_keys=False)):
        return 1
    if sys.stderr.isatty():
        print("The token, shown this once:", file=sys.stderr)
    print(token, file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="convlens-server token",
        description="Makes a token. Its entry for the file of the setting tokens goes to stdout, "
        "the token itself, this once, to stderr: "
        "convlens-server token lab --scopes classify >> tokens.yaml 2> lab.token",
    )
    parser.add_argument("name", metavar="NAME", help="who gets it; stands in the log of each call")
    parser.add_argument(
        "--scopes", required=True, metavar="SCOPE,…", help=f"what they may do: {', '.join(SCOPES)}"
    )
    for key, what in (("requests", "calls, and requests of streams,"), ("passes", "passes")):
        parser.add_argument(
            f"--{key}-per-second", type=float, metavar="N", help=f"{what} a second, in the mean"
        )
        parser.add_argument(
            f"--{key}-burst", type=float, metavar="N", help=f"{what} at once, after a rest"
        )
    parser.add_argument(
        "--batch-only",
        action="store_const",
        const=True,
        help="they may not ask for interactive priority",
    )
    return parser
