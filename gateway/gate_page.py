"""The report of a gate as one page of HTML with plots, which loads nothing. All that comes from outside is escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

NAMES: Final[Mapping[str, str]] = {
    "ndcg": "nDCG@10 of documents",
    "recall": "recall@10 of documents",
    "passage": "passage found",
    "answer": "answer right",
    "answered": "answered",
    "faithfulness": "faithfulness of answers, as scored",
    "relevance": "relevance of answers, as scored",
    "overlap": "documents that both have, of the first ten",
    "agreement": "words that both answers have",
}
HEADLINES: Final[Mapping[str, str]] = {
    "better": "Better: it may answer",
    "equal": "Equal: it may answer",
    "worse": "Worse: it must not answer",
    "unsure": "Unsure: nobody can tell yet",
}
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2126; --dim: #5d6873; --line: #d9dee3; --page: #fff; --box: #f5f7f9;
        --good: #15803d; --bad: #c2261e; --open: #a15c07; --bar: #3b6ea8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --dim: #9aa5b0; --line: #39424b; --page: #14181c; --box: #1d2328;
          --good: #4ade80; --bad: #ff7b72; --open: #f0b35a; --bar: #7fb0e6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--page); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
.verdict { background: var(--box); border-left: .4rem solid var(--open); padding: 1rem 1.2rem; border-radius: .3rem; }
.verdict.better, .verdict.equal { border-color: var(--good); }
.verdict.worse, .verdict.failed { border-color: var(--bad); }
.dim { color: var(--dim); font-size: .9rem; } p { margin: .3rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--dim); font-size: .85rem; } td.n, th.n { text-align: right; }
.better, .equal { color: var(--good); } .worse { color: var(--bad); } .unsure { color: var(--open); }
.verdict, .verdict h1 { color: var(--ink); }
svg { display: block; max-width: 100%; height: auto; } svg text { fill: var(--dim); font: 11px system-ui, sans-serif; }
.axis { stroke: var(--line); } .zero { stroke: var(--dim); } .limit { stroke: var(--bad); stroke-dasharray: 4 3; }
.range { stroke: var(--ink); stroke-width: 2; } .dot { fill: var(--ink); }
.bar { fill: var(--bar); } .bar.lost { fill: var(--bad); } .bar.won { fill: var(--good); }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem; }
details { border: 1px solid var(--line); border-radius: .3rem; padding: .5rem .8rem; margin: .4rem 0; }
summary { cursor: pointer; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1.2rem; }
@media (max-width: 45rem) { .pair { grid-template-columns: 1fr; } }
.pair ol { padding-left: 1.2rem; margin: .3rem 0; } .pair li { margin: .4rem 0; overflow-wrap: anywhere; }
.pair b { overflow-wrap: anywhere; }
"""


def page(gate: Mapping[str, Any]) -> str:
    """Return the page of a gate, as `GateRows.latest` gives it.

    One without a report says how far it is; or its verdict alone, if it is so old that its texts are forgotten.
    """
    title = f"Gate: {gate['candidate']} against {gate['base']}"
    report = gate["report"]
    body = _bare(gate) if report is None else _finished(gate, report)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>{body}</main></body></html>\n"
    )


def _bare(gate: Mapping[str, Any]) -> str:
    progress, verdict = gate["progress"], gate["verdict"]
    if verdict is not None:
        headline, told = HEADLINES[verdict], f"{gate['reason']}. Its report is not kept any more."
    else:
        headline = f"No verdict: the gate is {gate['state']}"
        asked = f"{progress.get('n_asked', 0)} of {progress.get('n_questions', '?')} questions are asked."
        told = gate["why"] or asked
    return (
        f'<section class="verdict {escape(verdict or gate["state"])}"><h1>{escape(headline)}</h1>'
        f"<p>{escape(told)}</p>{_between(gate)}</section>"
    )


def _finished(gate: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    rule, verdict = report["rule"], report["verdict"]
    numbers = (
        f"Bounds: paired bootstrap, one-sided, {rule['confidence']:.0%} each; {rule['resamples']:,} resamples, "
        f"seed {rule['seed']}. Margin {rule['margin']}: a set decides from {rule['questions_min']} questions on, and "
        "passes where the lower bound is above minus the margin."
    )
    return (
        f'<section class="verdict {escape(verdict)}"><h1>{escape(HEADLINES.get(verdict, verdict))}</h1>'
        f"<p>{escape(report['reason'][:1].upper() + report['reason'][1:])}.</p>{_between(gate)}</section>"
        f'<p class="dim">{escape(numbers)}</p>' + "".join(_set(each, rule) for each in report["sets"])
    )


def _between(gate: Mapping[str, Any]) -> str:
    when = gate["finished_at"] or gate["asked_at"]
    return (
        f'<p class="dim">Candidate <b>{escape(gate["candidate"])}</b>, base <b>{escape(gate["base"])}</b> · '
        f"{escape(f'{when:%Y-%m-%d %H:%M} UTC')} · gate {escape(gate['id'])}</p>"
    )


def _set(found: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    left_out = "; ".join(f"{n} left out: {why}" for why, n in found["left_out"].items())
    told = f"{found['kind']}, {found['n']} questions" + (f"; {left_out}" if left_out else "")
    parts = [f"<h2>Set {escape(found['name'])}</h2>", f'<p class="dim">{escape(told)}</p>']
    parts += [_measures(found), _plots(found, rule), _likeness(found)]
    for title, name in (("Worst losses", "losses"), ("Best gains", "gains"), ("Least alike", "unlike")):
        if found[name]:
            parts.append(f"<h3>{title}</h3>" + "".join(map(_example, found[name])))
    return f"<section>{''.join(parts)}</section>"


def _measures(found: Mapping[str, Any]) -> str:
    rows = []
    for each in found["measures"]:
        judged = "verdict" in each
        cells = [
            _cell(NAMES.get(each["name"], each["name"])),
            *(_cell(f"{each[name]:.3f}", number=True) for name in ("base", "candidate")),
            _cell(f"{each['difference']:+.3f}", number=True),
            _cell(f"{each['low']:+.3f} to {each['high']:+.3f}" if judged else "–", number=True),
            _cell(f"{each['n_better']} / {each['n_worse']} / {each['n']}", number=True),
            f'<td class="{escape(each["verdict"])}">{escape(each["verdict"])}</td>' if judged else _cell("–"),
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = ("base", "candidate", "difference", "bounds", "better / worse / all")
    head = "".join(f'<th class="n">{name}</th>' for name in heads)
    return f'<div class="wide"><table><tr><th>measure</th>{head}<th>verdict</th></tr>{"".join(rows)}</table></div>'


def _likeness(found: Mapping[str, Any]) -> str:
    rows = [
        f"<tr>{_cell(NAMES.get(name, name))}{_cell(f'{share:.3f}', number=True)}</tr>"
        for name, share in found["likeness"].items()
        if share is not None
    ]
    rows += [
        f"<tr>{_cell(f'retrieval of the {side}, mean')}{_cell(f'{seconds * 1000:.1f} ms', number=True)}</tr>"
        for side, seconds in found["seconds"].items()
        if seconds is not None
    ]
    return f'<div class="wide"><table>{"".join(rows)}</table></div>' if rows else ""


def _cell(text: str, *, number: bool = False) -> str:
    return f"<td{' class=n' if number else ''}>{escape(text)}</td>"


def _plots(found: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    judged = [each for each in found["measures"] if "verdict" in each]
    if not judged:
        return ""
    drawn = "".join(_histogram(each) for each in judged)
    return f"<h3>Difference, with its bounds</h3>{_bounds(judged, rule)}<h3>Questions by their difference</h3>" + (
        f'<div class="plots">{drawn}</div>'
    )


def _bounds(judged: Sequence[Mapping[str, Any]], rule: Mapping[str, Any]) -> str:
    """Draw the mean difference of each measure with its bounds, zero and the margin."""
    width, left, row = 640, 190, 34
    reach = 1.15 * float(max(rule["margin"], *(abs(each[name]) for each in judged for name in ("low", "high"))))
    height = row * len(judged) + 34

    def x(value: float) -> float:
        return round(left + (width - left - 20) * (value + reach) / (2 * reach), 1)

    parts = [
        f'<line class="{kind}" x1="{x(value)}" x2="{x(value)}" y1="4" y2="{height - 22}"/>'
        f'<text x="{x(value)}" y="{height - 6}" text-anchor="middle">{text}</text>'
        for kind, value, text in (("limit", -rule["margin"], f"{-rule['margin']:+g}"), ("zero", 0.0, "0"))
    ]
    for number, each in enumerate(judged):
        y = row * number + 22
        parts.append(
            f'<text x="0" y="{y + 4}">{escape(NAMES.get(each["name"], each["name"]))}</text>'
            f'<line class="range" x1="{x(each["low"])}" x2="{x(each["high"])}" y1="{y}" y2="{y}"/>'
            f'<circle class="dot" cx="{x(each["difference"])}" cy="{y}" r="4"/>'
        )
    return _svg(width, height, "mean differences with their bounds", parts)


def _histogram(measure: Mapping[str, Any]) -> str:
    """Draw how many questions lost and gained how much."""
    width, height, floor = 420, 170, 140
    counts, edges = measure["histogram"]["counts"], measure["histogram"]["edges"]
    step, most = width / len(counts), max([*counts, 1])
    parts = [f'<line class="axis" x1="0" x2="{width}" y1="{floor}" y2="{floor}"/>']
    for number, n in enumerate(counts):
        if not n:
            continue
        begin, end = edges[number], edges[number + 1]
        kind = "lost" if end <= 0 else "won" if begin >= 0 else ""
        tall = max(1.0, 110 * n / most)
        parts.append(
            f'<rect class="bar {kind}" x="{step * number + 1:.1f}" y="{floor - tall:.1f}" width="{step - 2:.1f}" '
            f'height="{tall:.1f}"><title>{begin:+.2f} to {end:+.2f}: {n}</title></rect>'
            f'<text x="{step * (number + 0.5):.1f}" y="{floor - tall - 4:.1f}" text-anchor="middle">{n}</text>'
        )
    for place, anchor, text in ((0, "start", "-1"), (width / 2, "middle", "0"), (width, "end", "+1")):
        parts.append(f'<text x="{place}" y="{floor + 16}" text-anchor="{anchor}">{text}</text>')
    name = NAMES.get(measure["name"], measure["name"])
    drawn = _svg(width, height, name, parts)
    return f'<figure style="margin:0"><figcaption class="dim">{escape(name)}</figcaption>{drawn}</figure>'


def _svg(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg role="img" aria-label="{escape(label)}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'
    )


def _example(found: Mapping[str, Any]) -> str:
    sides = "".join(_side(name, found[name]) for name in ("base", "candidate"))
    return (
        f"<details><summary>{found['difference']:+.2f} · {escape(found['text'])} "
        f'<span class="dim">{escape(found["tenant"])}</span></summary><div class="pair">{sides}</div></details>'
    )


def _side(name: str, side: Mapping[str, Any]) -> str:
    sources = "".join(
        f'<li><b>{escape(each["document"])}</b><br><span class="dim">{escape(each["text"])}</span></li>'
        for each in side["sources"]
    )
    measured = ", ".join(f"{NAMES.get(key, key)} {value:.2f}" for key, value in side["measures"].items())
    return (
        f"<div><h3>{escape(name)}</h3><p>{escape(side['answer'])}</p>"
        f'<p class="dim">{escape(measured)}</p><ol>{sources}</ol></div>'
    )
