"""TLS to Triton: what is trusted, and what its errors mean."""

import ssl
from pathlib import Path

import grpc

from convlens.server.engine import EngineError

# What a handshake fails with, and what whoever runs the server can do. Waiting helps none of them.
REMEDIES = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not signed by an authority in triton_ca: "
    "give the file with the certificate of the authority that signed it",
    "Hostname Verification Check failed": "its certificate is for another name: write one of the "
    "names that it is for in triton_url",
    "WRONG_VERSION_NUMBER": "it does not speak TLS: leave triton_ca out, "
    "or start Triton with --grpc-use-ssl=true",
}


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


def remedy(text: str) -> str:
    """What to do about a connection that failed with `text`; empty where TLS is not the reason."""
    return next((words for sign, words in REMEDIES.items() if sign in text), "")
