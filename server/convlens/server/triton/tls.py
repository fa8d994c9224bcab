"""TLS to Triton: what is trusted."""

import ssl
from pathlib import Path

import grpc

from convlens.server.engine import EngineError


def credentials(ca: Path) -> grpc.ChannelCredentials:
    """Trusts the authorities in a PEM file; raises EngineError where it has none.

    gRPC would only say so with the first call, and in other words.
    """
    try:
        pem = ca.read_bytes()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode())
    except OSError as error:
        # SSLError is one too, without a word on what to do.
        reason = "has no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise EngineError(f"triton_ca: {ca}: {reason}") from None
    except ValueError:
        raise EngineError(f"triton_ca: {ca}: has no certificate in PEM") from None
    return grpc.ssl_channel_credentials(pem)
