"""TLS of the server: its certificate, its key, and the authorities of its callers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc

from convlens.server.access import pem
from convlens.server.access.files import Followed


class Certificates:
    """The certificate that the server shows; with `client_ca`, callers must show theirs as well.

    gRPC asks at every new connection whether there is a newer one; connections that stand go on
    with the one that they began with. Raises Unusable where a file has a mistake.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        paths = [path for path in (certificate, key, client_ca) if path]
        # When the first certificate in the file of a setting expires, in seconds since 1970.
        self.expiries: Mapping[str, float] = {}
        self.followed = Followed("tls_certificate", paths, self._read)
        self._shown = self.followed.value

    def credentials(self) -> grpc.ServerCredentials:
        """What a port is opened with."""
        mutual = self._client_ca is not None
        newer: Any = self._newer  # Its type has no None, which gRPC takes for "as before".
        return grpc.dynamic_ssl_server_credentials(self._shown, newer, mutual)

    def _newer(self) -> grpc.ServerCertificateConfiguration | None:
        """What new connections get from now on, None where it is as before; in gRPC's threads."""
        newest = self.followed.value
        if newest is self._shown:
            return None
        self._shown = newest
        return newest

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key = pem.pair(self._certificate, self._key)
        expiries = {"tls_certificate": pem.expiry("tls_certificate", certificate)}
        ca = None
        if self._client_ca:
            ca = pem.authorities("tls_client_ca", self._client_ca)
            expiries["tls_client_ca"] = pem.expiry("tls_client_ca", ca)
        self.expiries = expiries
        return grpc.ssl_server_certificate_configuration([(key, certificate)], ca)
