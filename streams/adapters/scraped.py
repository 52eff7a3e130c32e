"""Metrics of processes that this one has started: read from them, and given on with a label that tells them apart."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Scraped:
    """Reads `/metrics` of each process whenever it is called.

    Attributes:
        label: that every sample gets.
        ports: of the processes on this machine, by the value of that label; may be changed at any time.
    """

    label: str
    ports: dict[str, int] = field(default_factory=dict)

    async def __call__(self) -> Sequence[Metric]:
        """Return what all of them say; one that does not answer within a second is left out."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=False) as client:
            pages = await asyncio.gather(
                *(self._page(client, value, port) for value, port in sorted(self.ports.items()))
            )
        return [family for page in pages for family in page]

    async def _page(self, client: httpx.AsyncClient, value: str, port: int) -> Sequence[Metric]:
        try:
            page = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
        except httpx.HTTPError:
            # it is just starting, or ending
            return []
        return list(self._labelled(page, value))

    def _labelled(self, page: str, value: str) -> Iterator[Metric]:
        for family in text_string_to_metric_families(page):
            # when a counter began; of ours it stands beside the counter, and would be there twice
            if family.name.endswith("_created"):
                continue
            labelled = Metric(family.name, family.documentation, family.type)
            for sample in family.samples:
                labelled.add_sample(sample.name, {self.label: value} | sample.labels, sample.value)
            yield labelled
