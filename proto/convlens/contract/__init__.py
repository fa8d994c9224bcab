"""What the protos say beyond their types: defaults, ranges, units, papers, errors. No torch."""

from convlens.contract.errors import DOMAIN, RETRY_SECONDS, ErrorReason, Failure
from convlens.contract.rules import digest, rule_of, with_defaults
from convlens.contract.validation import check, violations

__all__ = [
    "DOMAIN",
    "RETRY_SECONDS",
    "ErrorReason",
    "Failure",
    "check",
    "digest",
    "rule_of",
    "violations",
    "with_defaults",
]
