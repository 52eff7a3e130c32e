"""Judges a fault run from its history alone; knows nothing of how Headrace works inside.

Entries it reads (`history.py`): `submit`, `delete` (an operation was sent), `acknowledged`, `unacknowledged` (answer),
`visible` (a reader was told that it is searchable), `ask`, `event` (one SSE event), `shown` (a text shown to a reader,
with the time of asking), `stored` (a chunk row at the end), `sought` (markers of a document that were searched for at
the end), `found` (a document that such a search gave), `kill`.

Every paragraph that is ever submitted holds a marker that occurs nowhere else, so a text tells which version it
belongs to.
"""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.history import read

MARKER = re.compile(r"\bmk[0-9a-z]+x\b")
TERMINAL = {"done", "error", "cancelled"}
Entry = dict[str, Any]


@dataclass
class Verdict:
    """What the checker found; `violations` empty means that every invariant held."""

    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, invariant: str, message: str) -> None:
        """Note one violation."""
        self.violations.append(f"{invariant}: {message}")
        self.counts[invariant] += 1


def check(entries: Iterable[Entry]) -> Verdict:
    """Judge a whole history."""
    by_kind: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_kind[entry["kind"]].append(entry)
    verdict = Verdict()
    _documents(by_kind, verdict)
    _shown(by_kind, verdict)
    _questions(by_kind, verdict)
    return verdict


def _operations(by_kind: dict[str, list[Entry]]) -> dict[str, list[Entry]]:
    """Operations per document, in the order in which they were sent, each with `answer`: True, False (unknown)."""
    acknowledged = {entry["op"] for entry in by_kind["acknowledged"]}
    operations: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(by_kind["submit"] + by_kind["delete"], key=lambda entry: entry["op"]):
        operations[entry["document"]].append({**entry, "answer": entry["op"] in acknowledged})
    return operations


def _documents(by_kind: dict[str, list[Entry]], verdict: Verdict) -> None:
    rows: dict[str, list[str]] = defaultdict(list)
    for entry in by_kind["stored"]:
        rows[entry["document"]].extend(MARKER.findall(entry["text"]))
    found = {(entry["document"], entry["marker"]) for entry in by_kind["found"]}
    sought = {entry["document"]: set(entry["markers"]) for entry in by_kind["sought"]}
    for document, operations in _operations(by_kind).items():
        verdict.counts["documents"] += 1
        possible = _possible_ends(operations)
        stored = Counter(rows.pop(document, []))
        doubled = [marker for marker, n in stored.items() if n > 1]
        if doubled:
            verdict.add(
                "I2 duplicate", f"{document}: {len(doubled)} paragraphs are stored more than once: {doubled[:3]}"
            )
        if set(stored) not in possible:
            wanted = possible[-1]
            missing, extra = sorted(wanted - set(stored)), sorted(set(stored) - wanted)
            if missing:
                verdict.add("I1 lost", f"{document}: {len(missing)} of {len(wanted)} paragraphs missing: {missing[:3]}")
            if extra:
                verdict.add("I3 resurrected", f"{document}: {len(extra)} paragraphs of another version: {extra[:3]}")
        shown = {marker for name, marker in found if name == document}
        if not any(shown <= end for end in possible):
            verdict.add("I3 resurrected", f"{document}: search finds {sorted(shown)[:3]} of another version")
        if not any(end & sought.get(document, set()) <= shown or set(stored) != end for end in possible):
            verdict.add("I2 sinks differ", f"{document}: stored, but search does not find it")
    for document, markers in rows.items():
        verdict.add("I3 resurrected", f"{document}: {len(markers)} paragraphs of a document that nobody submitted")


def _possible_ends(operations: list[Entry]) -> list[set[str]]:
    """Marker sets that the document may end with: of the last acknowledged operation, or of a later one without
    an answer.
    """
    ends = []
    for operation in reversed(operations):
        ends.append(set(operation.get("markers", [])))
        if operation["answer"]:
            break
    else:
        ends.append(set())
    return ends


def _shown(by_kind: dict[str, list[Entry]], verdict: Verdict) -> None:
    """No reader is shown a version that was known to be replaced before he asked."""
    owner: dict[str, tuple[str, int]] = {}
    for entry in by_kind["submit"]:
        owner.update((marker, (entry["document"], entry["op"])) for marker in entry["markers"])
    visible: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for entry in by_kind["visible"]:
        visible[entry["document"]].append((entry["at"], entry["op"]))
    for entry in by_kind["shown"]:
        verdict.counts["texts shown"] += 1
        for marker in MARKER.findall(entry["text"]):
            document, operation = owner.get(marker, ("?", -1))
            newer = [op for at, op in visible[document] if at < entry["asked_at"] and op > operation]
            if newer:
                verdict.add(
                    "I3 old version served", f"{document}: {marker} of operation {operation} after {max(newer)}"
                )


def _questions(by_kind: dict[str, list[Entry]], verdict: Verdict) -> None:
    events: dict[str, list[Entry]] = defaultdict(list)
    for entry in by_kind["event"]:
        events[entry["query"]].append(entry)
    for entry in by_kind["ask"]:
        verdict.counts["questions"] += 1
        query, stream = entry["query"], events[entry["query"]]
        names = [event["event"] for event in stream]
        terminals = [name for name in names if name in TERMINAL]
        if len(terminals) != 1:
            verdict.add("I4 terminal", f"{query}: {len(terminals)} terminal events: {names}")
        if terminals:
            verdict.counts[f"ended by {terminals[0]}"] += 1
        if "token" in names and "sources" not in names[: names.index("token")]:
            verdict.add("I5 order", f"{query}: a token before the sources: {names}")
        answers = [event["data"]["answer"] for event in stream if event["event"] == "answer"]
        if "done" in terminals and len(answers) != 1:
            verdict.add("I5 answer", f"{query}: {len(answers)} answers: {names}")
        if answers and _joined(stream) != answers[0]:
            verdict.add("I5 tokens", f"{query}: the tokens are not the answer")


def _joined(stream: list[Entry]) -> str:
    """Tokens of the last attempt, joined."""
    text = ""
    for event in stream:
        if event["event"] == "reset":
            text = ""
        elif event["event"] == "token":
            text += event["data"]["text"]
    return text


def report(verdict: Verdict) -> str:
    """Say it in a few lines."""
    lines = [f"{name}: {n}" for name, n in sorted(verdict.counts.items())]
    lines += verdict.violations[:20]
    lines.append("VIOLATED" if verdict.violations else "all invariants held")
    return "\n".join(lines)


if __name__ == "__main__":
    outcome = check(read(Path(sys.argv[1])))
    print(report(outcome))
    sys.exit(1 if outcome.violations else 0)
