"""Judges a fault run from its history alone; knows nothing of how Headrace works inside.

Entries it reads (`history.py`): `submit`, `delete`, `patch` (an operation was sent), `acknowledged`, `unacknowledged`
(answer), `visible` (a reader was told that it is searchable), `ask` (a reader was told that a question is accepted),
`event` (one SSE event), `gave_up` (a reader hears no more of a stream), `shown` (a text shown to a reader, with the
time of asking), `stored` (a chunk row at the end), `sought` (markers of a document that were searched for at the
end), `found` (a document that such a search gave), `question` (a row of a question at the end), `result` (a record of
a finished question), `allowed` (how long a question may take), `gateways` (the names of all there are), `promised`
(every question is answered, not only ended), `poison` (a record that no stage can handle was sent),
`poison_acknowledged`, `dead_letter` (as kept at the end), `lag` (of a group on a topic at the end), `gauge` (what a
process holds at the end), `kill`, `freeze` and `thawed`, `away` and `back`, `down` (it has no process, or one that
was not ready yet) and `up` (of a part).

Every paragraph that is ever submitted holds a marker that occurs nowhere else, so a text tells which version it
belongs to. Every patch adds a metadata field of its own, so fields tell which patches a version has.
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
FIELD = re.compile(r"p\d+")
TERMINAL = {"done", "error", "cancelled"}
GRACE_S = 10.0
"""How long after its deadline a reader may hear the end of a question: a killed gateway must come back first."""
TELLING = ("kafka", "postgres")
"""Without these no gateway can tell a reader how his question ended; the grace begins when they are back."""
MEMORY_MAX_BYTES = 1_500_000_000
"""What one part may hold, its children included."""
HANDLES_MAX = 1_000
"""Open files, sockets and the like of one process."""
Entry = dict[str, Any]
End = tuple[frozenset[str], frozenset[str]]
"""How a document may end: the markers of its text, and the fields of its patches."""
Span = tuple[float, float]
"""From and until."""


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
    _answered(by_kind, verdict)
    _dead_letters(by_kind, verdict)
    _quiet(by_kind, verdict)
    return verdict


def _operations(by_kind: dict[str, list[Entry]]) -> dict[str, list[Entry]]:
    """Operations per document, in the order in which they were sent, each with `answer`: True, False (unknown)."""
    acknowledged = {entry["op"] for entry in by_kind["acknowledged"]}
    operations: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(by_kind["submit"] + by_kind["delete"] + by_kind["patch"], key=lambda entry: entry["op"]):
        operations[entry["document"]].append({**entry, "answer": entry["op"] in acknowledged})
    return operations


def _documents(by_kind: dict[str, list[Entry]], verdict: Verdict) -> None:
    rows: dict[str, list[str]] = defaultdict(list)
    fields: dict[str, set[frozenset[str]]] = defaultdict(set)
    for entry in by_kind["stored"]:
        rows[entry["document"]].extend(MARKER.findall(entry["text"]))
        fields[entry["document"]].add(frozenset(filter(FIELD.fullmatch, entry.get("fields", ()))))
    found = {(entry["document"], entry["marker"]) for entry in by_kind["found"]}
    sought = {entry["document"]: set(entry["markers"]) for entry in by_kind["sought"]}
    for document, operations in _operations(by_kind).items():
        verdict.counts["documents"] += 1
        ends = _possible_ends(operations)
        possible = [markers for markers, _ in ends]
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
        _patched(document, fields[document], [names for markers, names in ends if markers == set(stored)], verdict)
        shown = {marker for name, marker in found if name == document}
        if not any(shown <= end for end in possible):
            verdict.add("I3 resurrected", f"{document}: search finds {sorted(shown)[:3]} of another version")
        if not any(end & sought.get(document, set()) <= shown or set(stored) != end for end in possible):
            verdict.add("I2 sinks differ", f"{document}: stored, but search does not find it")
    for document, markers in rows.items():
        verdict.add("I3 resurrected", f"{document}: {len(markers)} paragraphs of a document that nobody submitted")


def _patched(document: str, stored: set[frozenset[str]], possible: list[frozenset[str]], verdict: Verdict) -> None:
    """All rows of a document have the fields of all its patches, and of none before its text was sent."""
    for names in stored:
        if possible and names not in possible:
            missing, extra = sorted(possible[-1] - names), sorted(names - possible[-1])
            if missing:
                verdict.add("I1 patch lost", f"{document}: {len(missing)} patches missing: {missing[:3]}")
            if extra:
                verdict.add("I3 patch resurrected", f"{document}: {len(extra)} patches of another version: {extra[:3]}")


def _possible_ends(operations: list[Entry]) -> list[End]:
    """How the document may end: by the last acknowledged operation, or by later ones without an answer too; that
    without them comes last.
    """
    ends: list[End] = [(frozenset(), frozenset())]
    for operation in operations:
        if operation["kind"] == "patch":
            # what is deleted cannot be patched
            done = [(markers, names | {operation["field"]}) if markers else (markers, names) for markers, names in ends]
        else:
            done = [(frozenset(operation.get("markers", ())), frozenset[str]())]
        ends = done if operation["answer"] else list(dict.fromkeys([*done, *ends]))
    return ends


def _shown(by_kind: dict[str, list[Entry]], verdict: Verdict) -> None:
    """No reader is shown a version that was known to be replaced before he asked, nor a text of others."""
    owner: dict[str, tuple[str, int]] = {}
    loads: dict[str, str] = {}
    for entry in by_kind["submit"]:
        owner.update((marker, (entry["document"], entry["op"])) for marker in entry["markers"])
        loads.update((marker, entry.get("load", "")) for marker in entry["markers"])
    visible: dict[str, list[tuple[float, int]]] = defaultdict(list)
    texts = {entry["op"] for entry in by_kind["submit"] + by_kind["delete"]}
    for entry in (each for each in by_kind["visible"] if each["op"] in texts):
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
            if "may" in entry and marker in loads and loads[marker] not in entry["may"]:
                verdict.add("I12 shown to others", f"{document}: {marker} of {loads[marker]!r} to {entry['may']}")


def _questions(by_kind: dict[str, list[Entry]], verdict: Verdict) -> None:
    rows = {entry["query"]: entry for entry in by_kind["question"]}
    streams: dict[str, list[Entry]] = defaultdict(list)
    for entry in by_kind["event"]:
        streams[entry["reader"]].append(entry)
    absences, deserted = _absences(by_kind), _deserted(by_kind)
    allowed_s = max((entry["seconds"] for entry in by_kind["allowed"]), default=float("inf"))
    verdict.counts["questions"] = len({entry["query"] for entry in by_kind["ask"]})
    for entry in by_kind["ask"]:
        stream = _Stream(entry["query"], streams.pop(entry["reader"], []))
        verdict.counts["streams"] += 1
        _order(stream, verdict)
        due = _due(entry["at"] + allowed_s, absences)
        _end(stream, rows.get(stream.query), due, deserted, verdict)
    for reader, events in streams.items():
        verdict.add("I4 terminal", f"{reader}: events of a question that was not accepted: {_Stream('', events).names}")
    for entry in by_kind["gave_up"]:
        if entry["query"]:
            verdict.add("I4 terminal", f"{entry['query']}: a reader heard no more of it: {entry['why']}")
        elif entry["status"] not in (429, 503, None):
            verdict.add("I4 refused", f"{entry['reader']}: {entry['status']}: {entry['why']}")
    _rows(rows, by_kind["result"], deserted, verdict)


def _absences(by_kind: dict[str, list[Entry]]) -> list[Span]:
    """When a part was away without which nobody can be told that a question has ended, from and until, in order."""
    return sorted(absence for part in TELLING for absence in _absences_of(part, by_kind))


def _absences_of(part: str, by_kind: dict[str, list[Entry]]) -> list[Span]:
    absences: list[Span] = []
    began: float | None = None
    for entry in sorted(by_kind["away"] + by_kind["back"], key=lambda entry: entry["at"]):
        if entry["part"] == part and entry["kind"] == "away":
            began = entry["at"]
        elif entry["part"] == part and began is not None:
            absences.append((began, entry["at"]))
            began = None
    return absences


def _deserted(by_kind: dict[str, list[Entry]]) -> list[Span]:
    """When every gateway was down or frozen, so that none could end a question; never if they are not all known.

    One that is only not ready, for Kafka is away, ends questions all the same.
    """
    gateways = [name for entry in by_kind["gateways"] for name in entry["parts"]]
    deserted = _idle_of(gateways[0], by_kind) if gateways else []
    for name in gateways[1:]:
        both = [(max(one[0], other[0]), min(one[1], other[1])) for one in deserted for other in _idle_of(name, by_kind)]
        deserted = [(began, ended) for began, ended in both if began < ended]
    return deserted


def _idle_of(part: str, by_kind: dict[str, list[Entry]]) -> list[Span]:
    """When a part was down or frozen; a new process is not frozen, whatever became of the one before."""
    spans: list[Span] = []
    causes: set[str] = set()
    began = 0.0
    seen = (entry for kind in ("down", "up", "freeze", "thawed") for entry in by_kind[kind] if entry["part"] == part)
    for entry in sorted(seen, key=lambda entry: entry["at"]):
        was_idle = bool(causes)
        match entry["kind"]:
            case "up":
                causes.clear()
            case "thawed":
                causes.discard("freeze")
            case cause:
                causes.add(cause)
        if causes and not was_idle:
            began = entry["at"]
        elif was_idle and not causes:
            spans.append((began, entry["at"]))
    return spans


def _within(spans: list[Span], began: float, ended: float) -> float:
    """How much of a time these spans, which do not overlap, cover, seconds."""
    return sum(max(0.0, min(ended, until) - max(began, since)) for since, until in spans)


def _due(deadline: float, absences: list[Span]) -> float:
    """When the end of a question is due: at its deadline, or when what tells it came back where it was away then."""
    due = deadline
    for began, ended in absences:
        if began <= due + GRACE_S:
            due = max(due, ended)
    return due


@dataclass
class _Stream:
    """What one reader heard of a question."""

    query: str
    events: list[Entry]

    @property
    def names(self) -> list[str]:
        return [event["event"] for event in self.events]

    @property
    def last_attempt(self) -> list[Entry]:
        begun = max((n for n, name in enumerate(self.names) if name == "reset"), default=-1)
        return self.events[begun + 1 :]

    def data(self, name: str) -> list[dict[str, Any]]:
        """Data of these events in the last attempt."""
        return [event["data"] for event in self.last_attempt if event["event"] == name]

    @property
    def joined(self) -> str:
        return "".join(data["text"] for data in self.data("token"))

    def tokens_fit(self, answer: str) -> bool:
        """The tokens are the answer; one that has no place in the log was told by the row, and ends them anywhere."""
        from_log = any(event["place"] for event in self.last_attempt if event["event"] == "answer")
        return self.joined == answer if from_log else answer.startswith(self.joined)


def _order(stream: _Stream, verdict: Verdict) -> None:
    """The order of events, and the places in the log between two resets."""
    names = stream.names
    if "token" in names and "sources" not in names[: names.index("token")]:
        verdict.add("I5 order", f"{stream.query}: a token before the sources: {names}")
    before: tuple[str, int] | None = None
    for event in stream.events:
        if event["event"] == "reset":
            before, place = None, None
        else:
            place = event.get("place") and _place(event["place"])
        if place and before:
            # an event without a place of its own repeats the last one; a token always has one
            again = place == before and event["event"] != "token"
            if not again and (place[0] != before[0] or place[1] <= before[1]):
                verdict.add("I5 place", f"{stream.query}: {event['event']} at {place} after {before}")
        before = place or before


def _place(text: str) -> tuple[str, int]:
    partition, _, offset = text.partition(":")
    return partition, int(offset)


def _end(stream: _Stream, row: Entry | None, due: float, deserted: list[Span], verdict: Verdict) -> None:
    """One end, in time, that is the stored one; the tokens are the answer, and the answer is the stored one."""
    query, names = stream.query, stream.names
    ends = [event for event in stream.events if event["event"] in TERMINAL]
    if len(ends) != 1:
        verdict.add("I4 terminal", f"{query}: {len(ends)} terminal events: {names}")
        return
    (end,) = ends
    verdict.counts[f"ended by {end['event']}"] += 1
    if names[-1] not in TERMINAL:
        verdict.add("I4 terminal", f"{query}: goes on after its end: {names}")
    late_s = end["at"] - due - _within(deserted, due, end["at"])
    if late_s > GRACE_S:
        verdict.add("I4 late", f"{query}: heard {late_s - GRACE_S:.1f} s after deadline and grace")
    if row is None:
        verdict.add("I4 forgotten", f"{query}: accepted, but there is no row")
        return
    if row["outcome"] != end["event"]:
        verdict.add("I4 end differs", f"{query}: heard {end['event']}, stored {row['outcome']}")
    if end["event"] == "done":
        answers = stream.data("answer")
        if len(answers) != 1:
            verdict.add("I5 answer", f"{query}: {len(answers)} answers: {names}")
        elif not stream.tokens_fit(answers[0]["answer"]):
            verdict.add("I5 tokens", f"{query}: the tokens are not the answer: {stream.joined!r}")
        elif row["text"] != answers[0]["answer"]:
            verdict.add("I5 stored", f"{query}: the answer heard is not the stored one: {row['text']!r}")
    if end["event"] == "cancelled":
        stored, heard = row["text"] or "", stream.joined
        verdict.counts["cancelled with the very text heard"] += stored == heard
        # a gateway that ends it in its worker's place keeps what it can see; a token may still be on its way
        if end["data"]["text"] != stored or not (stored.startswith(heard) or heard.startswith(stored)):
            verdict.add(
                "I5 stored", f"{query}: cancelled with {stored!r}, told {end['data']['text']!r} after {heard!r}"
            )


def _rows(rows: dict[str, Entry], results: list[Entry], deserted: list[Span], verdict: Verdict) -> None:
    """Every question that the database knows has ended, in time while any gateway could, and its result says so."""
    told: dict[str, list[Entry]] = defaultdict(list)
    for result in results:
        told[result["query"]].append(result)
    for query, row in rows.items():
        if row["state"] == "rejected":
            continue
        if row["state"] != "finished" or not row["published"]:
            verdict.add("I10 forgotten", f"{query}: is {row['state']}, published: {row['published']}")
        elif (late_s := _late_s(row, deserted)) > GRACE_S:
            verdict.add("I4 late", f"{query}: ended {late_s:.1f} s after its deadline")
        elif {(each["outcome"], each["text"]) for each in told[query]} != {(row["outcome"], row["text"])}:
            verdict.add("I4 result", f"{query}: stored {row['outcome']}, results {told[query]}")
        verdict.counts["taken over"] += row["attempt"] > 1


def _late_s(row: Entry, deserted: list[Span]) -> float:
    """How long after its deadline a question ended, without the time in which every gateway was idle, seconds."""
    late_s: float = row["late_s"]
    if "deadline_at" not in row:
        return late_s
    return late_s - _within(deserted, row["deadline_at"], row["deadline_at"] + late_s)


def _answered(by_kind: dict[str, list[Entry]], verdict: Verdict) -> None:
    """Where it was promised, no question ends by an error."""
    if by_kind["promised"]:
        for row in by_kind["question"]:
            if row["outcome"] == "error":
                verdict.add("I4 not answered", f"{row['query']}: ended by an error, though its worker can be replaced")


def _dead_letters(by_kind: dict[str, list[Entry]], verdict: Verdict) -> None:
    """The poison is kept byte for byte, with its headers, and nothing else is given up."""
    acknowledged = {entry["poison"] for entry in by_kind["poison_acknowledged"]}
    kept = Counter(_identity(entry) for entry in by_kind["dead_letter"])
    sent = {_identity(entry): entry for entry in by_kind["poison"]}
    verdict.counts["poison"], verdict.counts["dead letters"] = len(acknowledged), len(by_kind["dead_letter"])
    for identity, entry in sent.items():
        if entry["poison"] in acknowledged and not kept[identity]:
            verdict.add("I8 not kept", f"poison {entry['poison']} of {entry['topic']} is no dead letter as it was sent")
    for entry in by_kind["dead_letter"]:
        if _identity(entry) not in sent:
            verdict.add("I8 not poison", f"{entry['key']} of {entry['topic']} was given up: {entry['why']}")


def _identity(entry: Entry) -> tuple[Any, ...]:
    """What a record and its dead letter have in common."""
    return entry["topic"], entry["key"], entry["value"], tuple((name, value) for name, value in entry["headers"])


def _quiet(by_kind: dict[str, list[Entry]], verdict: Verdict) -> None:
    """At the end nothing waits, and no process holds too much."""
    for entry in by_kind["lag"]:
        if entry["records"]:
            verdict.add("I10 lag", f"{entry['group']}: {entry['records']} records of {entry['topic']} wait")
    for entry in by_kind["gauge"]:
        if entry["rss_bytes"] > MEMORY_MAX_BYTES:
            verdict.add("I11 memory", f"{entry['part']}: {entry['rss_bytes'] / 1e6:.0f} MB")
        if entry["handles"] > HANDLES_MAX:
            verdict.add("I11 handles", f"{entry['part']}: {entry['handles']}")


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
