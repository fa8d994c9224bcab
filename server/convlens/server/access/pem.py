"""Certificates and keys in PEM, checked before gRPC has them: it would fail with the first call."""

import ssl
from pathlib import Path

from convlens.server.access.files import Unusable

NO_CERTIFICATE = "has no certificate in PEM"
# OpenSSL's words for a key of another certificate, of the same kind and of another one.
MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


def read(setting: str, path: Path) -> bytes:
    """What the file of a setting holds; raises Unusable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unusable(f"{setting}: {path}: {error.strerror}") from None


def authorities(setting: str, path: Path) -> bytes:
    """The certificates in the file of a setting; raises Unusable where it has none."""
    pem = read(setting, path)
    if not _has_certificate(pem):
        raise Unusable(f"{setting}: {path}: {NO_CERTIFICATE}")
    return pem


def pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """The server's certificate and its key; raises Unusable where they do not fit."""
    pems = authorities("tls_certificate", certificate), read("tls_key", key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password here, it would be asked for on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise Unusable(_mistake(certificate, key, getattr(error, "reason", None))) from None
    if pems != (read("tls_certificate", certificate), read("tls_key", key)):
        raise Unusable(f"tls_certificate: {certificate}: changed while it was read")
    return pems


def expiry(setting: str, pem: bytes) -> float:
    """When the first of the certificates expires, in seconds since 1970; raises Unusable."""
    # Here, since it takes a while and many servers have no certificate.
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(_without_comments(pem).encode())
    except ValueError:
        raise Unusable(f"{setting}: has a certificate that cannot be read") from None
    return min(each.not_valid_after_utc for each in found).timestamp()


def _has_certificate(pem: bytes) -> bool:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=_without_comments(pem))
    except (ssl.SSLError, ValueError):
        return False
    return True


def _without_comments(pem: bytes) -> str:
    """Without what comments may hold in other letters."""
    return pem.decode("ascii", "ignore")


def _mistake(certificate: Path, key: Path, reason: str | None) -> str:
    if reason in MISMATCHES:
        return f"tls_key: {key}: is not the key of the certificate in {certificate}"
    if reason:
        return f"tls_certificate: {certificate}: {reason.replace('_', ' ').lower()}"
    return f"tls_key: {key}: has no key in PEM that can be read without a password"
