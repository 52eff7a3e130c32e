"""The order of statuses within one version of a document, so that events that come late move nothing back."""

from typing import Final

STATUS_RANKS: Final = {"accepted": 1, "chunked": 2, "embedded": 3, "failed": 4, "indexed": 5, "deleted": 6}
"""`failed` is below `indexed`: a version that failed and was done again is searchable, and then says so. Words that are
not here (superseded, warned, later ones) do not change the status."""

REJECTED_RANK: Final = 9
"""Of a status set by `DocumentStore.reject`: nothing that becomes of the version before moves it, the next version
does."""
