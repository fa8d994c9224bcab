"""The gateway: gRPC in front, worker pools behind, and no pixel touched in between."""

from importlib.metadata import version

__version__ = version("convlens-server")
