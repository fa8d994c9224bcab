"""How a client is sure of its server, and says who it is: TLS, certificates and tokens."""

import os
import re
import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias

import grpc

from convlens.client._errors import InvalidRequest

PathLike: TypeAlias = str | os.PathLike[str]

TLS_VARIABLE = "CONVLENS_TLS"
CA_VARIABLE = "CONVLENS_CA"
CERTIFICATE_VARIABLE = "CONVLENS_CERTIFICATE"
KEY_VARIABLE = "CONVLENS_KEY"
TOKEN_VARIABLE = "CONVLENS_TOKEN"
TOKEN_FILE_VARIABLE = "CONVLENS_TOKEN_FILE"
SWITCHES = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}
TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,512}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Security:
    """What a channel is made with, and what each call says of its caller.

    `token` is a token, or the file that has it: that is read again for every call, so that it may
    be replaced while the client lives. Neither token nor key is ever shown.
    """

    tls: bool = False
    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    token: str | Path = field(default="", repr=False)

    @classmethod
    def of(
        cls,
        address: str,
        *,
        tls: bool | None,
        ca: PathLike | None,
        certificate: PathLike | None,
        key: PathLike | None,
        token: str | os.PathLike[str] | None,
        allow_plaintext_token: bool,
        own_channel: bool,
    ) -> "Security":
        """What was given, checked; what was not is the environment's.

        A channel of the caller's own has a security of its own: the token alone is said here.
        """
        if own_channel:
            _refuse_beside_channel(tls=tls, ca=ca, certificate=certificate, key=key)
            return cls(token="" if token is None else _checked(token))
        if tls is None:
            tls = _switch(TLS_VARIABLE)
        if tls is not False:
            ca = ca or os.environ.get(CA_VARIABLE)
            certificate = certificate or os.environ.get(CERTIFICATE_VARIABLE)
            key = key or os.environ.get(KEY_VARIABLE)
        given = {"ca": ca, "certificate": certificate, "key": key}
        for name, path in given.items():
            if path and tls is False:
                raise InvalidRequest(f"{name} is given, and is of no use with tls=False.")
        if bool(certificate) != bool(key):
            raise InvalidRequest("certificate and key must be given together.")
        chosen = cls(
            tls=tls is True or any(given.values()),
            ca=_authorities(ca) if ca else None,
            certificate=_read("certificate", certificate) if certificate else None,
            key=_pair(certificate, key) if certificate and key else None,
            token=_token_of_environment() if token is None else _checked(token),
        )
        if chosen.token and not (chosen.tls or allow_plaintext_token or is_local(address)):
            raise InvalidRequest(
                f"The token would travel to {address} readable to everybody on the way: use TLS, "
                "or allow_plaintext_token where the way is safe."
            )
        return chosen

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What a channel with TLS is made with; without `ca`, trusts those that gRPC knows."""
        if not self.tls:
            return None
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What travels with every call to say who calls."""
        token = _from_file(self.token) if isinstance(self.token, Path) else self.token
        return (("authorization", f"Bearer {token}"),) if token else ()


def is_local(address: str) -> bool:
    """Whether an address is one of this very machine, by itself and not by what its name says."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refuse_beside_channel(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise InvalidRequest(f"{name} is given; a channel of your own comes with its own.")


def _switch(variable: str) -> bool | None:
    value = os.environ.get(variable)
    if not value:
        return None
    if value.lower() not in SWITCHES:
        raise InvalidRequest(f"{variable} is {value!r}; it must be 1 or 0.")
    return SWITCHES[value.lower()]


def _token_of_environment() -> str | Path:
    token, file = os.environ.get(TOKEN_VARIABLE), os.environ.get(TOKEN_FILE_VARIABLE)
    if token and file:
        raise InvalidRequest(f"{TOKEN_VARIABLE} and {TOKEN_FILE_VARIABLE} are both set; set one.")
    return _checked(Path(file) if file else token or "")


def _checked(token: str | os.PathLike[str]) -> str | Path:
    if isinstance(token, str):
        return _whole(token) if token else ""
    path = Path(token)
    _from_file(path)
    return path


def _from_file(path: Path) -> str:
    try:
        return _whole(path.read_text(encoding="utf-8").strip())
    except OSError as error:
        raise InvalidRequest(f"The token's file {path}: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise InvalidRequest(f"The token's file {path} is no text.") from None


def _whole(token: str) -> str:
    if not TOKEN.fullmatch(token):
        # Without the token, which may be right but for a line feed.
        raise InvalidRequest(
            "The token is none: it must be 1 to 512 letters, digits and '._~+/=-', without spaces."
        )
    return token


def _read(name: str, path: PathLike) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{name}: {os.fspath(path)}: {error.strerror}.") from error


def _authorities(path: PathLike) -> bytes:
    """gRPC would only say with the first call that they are none, and in other words."""
    pem = _read("ca", path)
    # Without what comments may hold in other letters.
    text = pem.decode("ascii", "ignore")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        raise InvalidRequest(f"ca: {os.fspath(path)}: has no certificate in PEM.") from None
    return pem


def _pair(certificate: PathLike, key: PathLike) -> bytes:
    pem = _read("key", key)
    try:
        # Without a password here, it would be asked for on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except ssl.SSLError:
        words = f"certificate {os.fspath(certificate)} and key {os.fspath(key)}"
        raise InvalidRequest(
            f"{words} are no pair in PEM that fits and needs no password."
        ) from None
    return pem
