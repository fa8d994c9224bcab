"""What runs beside the device: networks, methods, and the worker that answers jobs with them."""

from importlib.metadata import version

__version__ = version("convlens-workers")
