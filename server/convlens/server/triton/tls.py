"""TLS to Triton: what is trusted."""

from pathlib import Path

import grpc

from convlens.server.access import pem
from convlens.server.access.files import Unusable
from convlens.server.engine import EngineError


def credentials(ca: Path) -> grpc.ChannelCredentials:
    """Trusts the authorities in a PEM file; raises EngineError where it has none.

    gRPC would only say so with the first call, and in other words.
    """
    try:
        return grpc.ssl_channel_credentials(pem.authorities("triton_ca", ca))
    except Unusable as error:
        raise EngineError(str(error)) from None
