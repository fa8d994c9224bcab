"""What is let in: by its cost in passes, by the time it would take, and by its bytes."""

from convlens.server.admission.admission import Admission, Limits, limits_of
from convlens.server.admission.load import Work
from convlens.server.admission.pricing import is_partial, price

__all__ = ["Admission", "Limits", "Work", "is_partial", "limits_of", "price"]
