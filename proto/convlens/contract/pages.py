"""Writes docs/errors.md and docs/methods.md from the contract.

uv run python -m convlens.contract.pages docs
"""

import sys
from pathlib import Path

from convlens.contract.errors import DOMAIN, ErrorReason, code_name, keys_of, reason_name, rule_of
from convlens.contract.method_page import methods_page

HEAD = f"""# Errors

Every error that the server sends carries exactly one `google.rpc.ErrorInfo` with the domain
`{DOMAIN}`, a reason of this table, and the words in braces as metadata. `INVALID_REQUEST` carries a
`BadRequest` that names all fields at once, up to 16 or 2000 bytes of them; a retryable error
carries a `RetryInfo` with the delay. In a
request of many images each image has a status of its own, with the same details. The id of the
request is in the trailing metadata `x-request-id`.

This page is written from `convlens/v1/error.proto` by `python -m convlens.contract.pages docs`.

| reason | code | retry | what it says | metadata |
|---|---|---|---|---|
"""


def errors_page() -> str:
    """The page, as Markdown."""
    rows = [
        f"| `{reason_name(reason)}` | {code_name(rule_of(reason).code)} "
        f"| {'yes' if rule_of(reason).retryable else 'no'} | {rule_of(reason).sentence} "
        f"| {', '.join(f'`{key}`' for key in keys_of(reason)) or '–'} |"
        for reason in ErrorReason.values()
        if reason
    ]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    for name, page in (("errors", errors_page()), ("methods", methods_page())):
        (Path(sys.argv[1]) / f"{name}.md").write_text(page, encoding="utf-8")
