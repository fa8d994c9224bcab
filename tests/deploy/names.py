"""One name for several servers: a name server of the tests, and servers of one port."""

import socket
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

from dnslib import QTYPE, RR, A  # pyright: ignore[reportMissingTypeStubs]
from dnslib.server import BaseResolver, DNSLogger, DNSServer  # pyright: ignore[reportMissingTypeStubs]

NAME = "convlens.test"
Process: TypeAlias = "subprocess.Popen[str]"
Start: TypeAlias = Callable[[str], Process]


class Addresses(BaseResolver):
    """Says which hosts the name has, now."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    def resolve(self, request: Any, handler: Any) -> Any:
        """The hosts, to be asked for again at once."""
        reply = request.reply()
        if str(request.q.qname) == f"{NAME}." and request.q.qtype in (QTYPE.A, QTYPE.ANY):
            for host in self.hosts:
                reply.add_answer(RR(f"{NAME}.", QTYPE.A, rdata=A(host), ttl=0))
        return reply


@contextmanager
def name_server() -> Generator[tuple[Addresses, str]]:
    """Answers for the name on a free port, over UDP."""
    addresses = Addresses()
    silent = DNSLogger("-request,-reply")
    server = DNSServer(addresses, address="127.0.0.1", port=0, logger=silent)
    server.start_thread()
    try:
        host, port = server.server.server_address[:2]
        yield addresses, f"{host}:{port}"
    finally:
        server.stop()
        server.server.server_close()


@contextmanager
def servers() -> Generator[tuple[int, Start]]:
    """A port that is free on every host of the loopback, and what starts a server on one."""
    port = _free_port()
    with ExitStack() as stack:

        def start(host: str) -> Process:
            command = [sys.executable, "-m", "tests.deploy.named_server", f"{host}:{port}", host]
            process = stack.enter_context(
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            )
            stack.callback(process.kill)
            assert process.stdout and process.stdout.readline() == "serving\n"
            return process

        yield port, start


def _free_port() -> int:
    with socket.socket() as any_host:
        any_host.bind(("0.0.0.0", 0))
        return any_host.getsockname()[1]
