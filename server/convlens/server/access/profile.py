"""What suits a server in production, and which settings are dangerous together."""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convlens.server.settings import Settings

# What a profile says where nobody else does.
DEFAULTS: dict[str, dict[str, object]] = {"production": {"reflection": False}}
ANYWAY = "or say that you want it so, with insecure: true"


def mistakes(settings: "Settings") -> Iterator[str]:
    """What cannot be meant so, in a line each."""
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        given, missing = "tls_certificate", "tls_key"
        if settings.tls_key:
            given, missing = missing, given
        yield f"{missing}: is missing; {given} is of no use without it"
    elif settings.tls_client_ca and not settings.tls_certificate:
        yield "tls_client_ca: needs tls_certificate and tls_key; callers show theirs over TLS alone"
    if settings.profile == "production" and not settings.insecure:
        yield from (f"{danger}; {ANYWAY}" for danger in dangers(settings))


def dangers(settings: "Settings") -> Iterator[str]:
    """What makes the server open to people whom nobody meant, in a line each."""
    encrypted = settings.tls_certificate or _on_this_machine(settings.listen)
    known = settings.tokens or settings.tls_client_ca
    if settings.tokens and not encrypted:
        yield (
            f"tokens: travel readable to {settings.listen}; set tls_certificate and tls_key, "
            "listen on 127.0.0.1 behind a proxy that speaks TLS"
        )
    if not known and (settings.profile == "production" or not _on_this_machine(settings.listen)):
        also = ", and load networks" if settings.loading else ""
        yield (
            f"listen: whoever reaches {settings.listen} may call{also}; "
            "set tokens, or tls_client_ca for callers with certificates"
        )


def _on_this_machine(listen: str) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
