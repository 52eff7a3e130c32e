"""Sends files of many formats through a running stack, one after the other, and tells what became of each.

`python -m tests.bench.formats --data DIR`; DIR holds docs_formats/files, or is itself a folder of files. CPU time and
memory are those of the processes that parse, sampled while a file is on its way; the peak is the kernel's own, set back
before each file.
"""

import argparse
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from headrace.client import Client, Json
from headrace.local.family import members
from tests.stack import running

SAMPLE_S = 0.02
SETTLED = ("indexed", "failed")


@dataclass(slots=True)
class Cost:
    """Of one file: CPU seconds and peak resident memory (MB) of the processes that parse; seconds until it settled."""

    cpu_s: float = 0.0
    peak_mb: float = 0.0
    elapsed_s: float = 0.0


@dataclass(slots=True)
class Watch:
    """Watches the processes that parse, children of an ingest worker, which come and go."""

    worker: psutil.Process
    cpu_s: dict[int, float] = field(default_factory=dict)
    peak_mb: float = 0.0
    rss_mb: float = 0.0

    @contextmanager
    def cost(self) -> Iterator[Cost]:
        """Give what the block costs, filled in at its end."""
        cost, stop, began = Cost(), threading.Event(), time.monotonic()
        for child in self._children():
            with suppress(OSError):
                Path(f"/proc/{child.pid}/clear_refs").write_text("5")  # sets the peak back
        self._sample()
        before, self.peak_mb = sum(self.cpu_s.values()), 0.0
        thread = threading.Thread(target=self._sample_until, args=(stop,))
        thread.start()
        try:
            yield cost
        finally:
            stop.set()
            thread.join()
            cost.cpu_s = sum(self.cpu_s.values()) - before
            cost.peak_mb, cost.elapsed_s = self.peak_mb, time.monotonic() - began

    def _children(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return self.worker.children()
        return []

    def _sample_until(self, stop: threading.Event) -> None:
        while not stop.wait(SAMPLE_S):
            self._sample()
        self._sample()

    def _sample(self) -> None:
        held = 0.0
        for child in self._children():
            with suppress(psutil.Error, OSError, StopIteration):
                times = child.cpu_times()
                self.cpu_s[child.pid] = times.user + times.system
                status = Path(f"/proc/{child.pid}/status").read_text().splitlines()
                peak_kb = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
                self.peak_mb = max(self.peak_mb, peak_kb / 1024)
                held += child.memory_info().rss / 2**20
        self.rss_mb = max(self.rss_mb, held)


def ended(client: Client, path: Path) -> Json:
    """Send a file and wait for its end."""
    [receipt] = client.upload([{"content": path.read_bytes(), "filename": path.name, "collection": "formats"}])
    while True:
        [found] = client.lookup([(receipt["id"], receipt["submission"])])
        if found["status"] in SETTLED:
            return found
        time.sleep(0.02)


def told(path: Path, found: Json, cost: Cost) -> str:
    """Say in one line what became of a file."""
    failure = found.get("failure") or {}
    outcome = "searchable" if found["status"] == "indexed" else f"refused ({failure.get('reason')})"
    what = f"{found.get('n_chunks')} chunks" if found["status"] == "indexed" else str(failure.get("message"))[:100]
    return f"{path.name:44} {outcome:34} {cost.cpu_s:6.2f} s {cost.peak_mb:6.0f} MB  {what}"


def main() -> None:
    """Print a line per file, and the totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the datasets, or of files")
    data: Path = parser.parse_args().data
    folder = data / "docs_formats" / "files"
    files = sorted(path for path in (folder if folder.is_dir() else data).iterdir() if path.is_file())
    outcomes: Counter[str] = Counter()
    costs: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory() as home, running(Path(home)) as stack, Client(stack.url, "acme-key") as client:
        [worker] = [each.process for each in members(stack.home.path) if each.part == "worker-ingest"]
        watch = Watch(worker)
        for path in files:
            if not path.stat().st_size:
                outcomes["refused (empty, by the gateway)"] += 1
                print(f"{path.name:44} refused (empty, by the gateway)")
                continue
            with watch.cost() as cost:
                found = ended(client, path)
            costs[path.name] = cost
            failure = found.get("failure") or {}
            outcomes["searchable" if found["status"] == "indexed" else f"refused ({failure['reason']})"] += 1
            print(told(path, found, cost), flush=True)
    print(f"\n{len(files)} files: " + " · ".join(f"{name} {n}" for name, n in outcomes.most_common()))
    cpu_s = sum(cost.cpu_s for cost in costs.values())
    print(f"parse processes: {cpu_s:.1f} s of CPU in all, at most {watch.rss_mb:.0f} MB resident together")
    by_cpu = max(costs, key=lambda name: costs[name].cpu_s)
    by_memory = max(costs, key=lambda name: costs[name].peak_mb)
    print(f"worst by CPU: {by_cpu} ({costs[by_cpu].cpu_s:.2f} s)")
    print(f"worst by memory: {by_memory} ({costs[by_memory].peak_mb:.0f} MB)")
    slowest = max(costs, key=lambda name: costs[name].elapsed_s)
    print(f"slowest to end: {slowest} ({costs[slowest].elapsed_s:.2f} s)")


if __name__ == "__main__":
    main()
