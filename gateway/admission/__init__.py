"""Whether a question or a search is accepted now, and if not, when its caller will be let in."""

from gateway.admission.admission import Admission, Who

__all__ = ["Admission", "Who"]
