"""The model card: one self-contained page made from the gates' evidence, and from nothing else.

The sections follow Mitchell et al. 2019, Model Cards for Model Reporting. The same evidence,
texts and plots give the same bytes.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .config import CardConfig
from .contract import FEATURES, TARGET

STYLE = """
:root{--ink:#1c2530;--soft:#5b6876;--line:#e3e8ee;--good:#12724a;--bad:#b3261e;--bar:#3867d6}
*{box-sizing:border-box}body{margin:0;background:#f4f6f8;color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}main{max-width:62rem;margin:0 auto;
padding:1.5rem;display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:1rem}
header,section{grid-column:1/-1;background:#fff;border:1px solid var(--line);border-radius:10px;
padding:1.1rem 1.4rem}section.half{grid-column:auto}header{border-top:6px solid}
header h1,.facts{color:var(--ink)}h1{margin:0;font-size:1.6rem;overflow-wrap:anywhere}
h2{margin:0 0 .6rem;font-size:1.05rem}p,ul{margin:.3rem 0}ul{padding-left:1.2rem}
code{font-size:.85em;color:var(--soft);overflow-wrap:anywhere}small{color:var(--soft)}
.facts{display:flex;flex-wrap:wrap;gap:.4rem 2.2rem;margin-top:.8rem}.facts div{min-width:9rem}
.facts small{display:block;font-weight:400}
.facts b{font-size:1.15rem;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}table{border-collapse:collapse;min-width:60%}.gates table{width:100%}
.gates td:nth-child(2){white-space:nowrap}
th,td{padding:.28rem 1.4rem .28rem 0;text-align:left;vertical-align:top;
border-bottom:1px solid var(--line)}tr:last-child td{border-bottom:0}th{color:var(--soft);
font-weight:600;font-size:.85rem}.n{text-align:right;font-variant-numeric:tabular-nums;
white-space:nowrap}.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}.verdict{
display:inline-block;padding:.1rem .7rem;border-radius:99px;color:#fff;font-weight:600}
.verdict.good{background:var(--good)}.verdict.bad{background:var(--bad)}figure{margin:.4rem 0 1rem}
img{max-width:100%;height:auto;display:block}svg{display:block;margin-top:.35rem}
@media(max-width:40rem){main{padding:.6rem;gap:.6rem}header,section{padding:.9rem 1rem}
section.half{grid-column:1/-1}th,td{padding-right:.8rem}.gates thead{display:none}
.gates tr{display:grid;grid-template-columns:3.2rem 1fr;padding:.3rem 0;
border-bottom:1px solid var(--line)}
.gates td:nth-child(n){border:0;padding:0;white-space:normal}.gates td+td+td{grid-column:2}
.gates td:last-child{color:var(--soft)}.gates td:last-child::before{content:"needed: "}}
@media print{body{background:#fff}section{break-inside:avoid}}
"""
HALF = frozenset({"Intended use", "Limits"})


def render(evidence: Mapping[str, Any], card: CardConfig, plots: Mapping[str, bytes]) -> str:
    """Return the page.

    Parameters
    ----------
    evidence
        What `Evidence.as_dict` returns.
    card
        The intended use and the limits, as people wrote them.
    plots
        PNG pictures by name.
    """
    title = f"{evidence['model']} version {evidence['version']}"
    sections = {
        "Intended use": f"<p>{escape(card.intended_use)}</p>",
        "Limits": "<ul>" + "".join(f"<li>{escape(limit)}</li>" for limit in card.limits) + "</ul>",
        "Gates": f'<div class="gates">{_gates(evidence["gates"])}</div>',
        "Holdout metrics": _metrics(evidence),
        "Slices": _slices(evidence["slices"]),
        "Plots": "".join(_plot(name, content) for name, content in sorted(plots.items())),
        "Data": _data(evidence),
        "Provenance": _provenance(evidence),
    }
    return page(title, _header(title, evidence), sections)


def page(
    title: str, top: str, sections: Mapping[str, str], more_style: str = "", script: str = ""
) -> str:
    """Return a page that loads nothing: a header, then each section that has content."""
    body = "".join(
        f"<section{' class=half' if name in HALF else ''}><h2>{name}</h2>{content}</section>\n"
        for name, content in sections.items()
        if content
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{more_style}</style></head><body><main>\n"
        f"{top}\n{body}</main>{script}</body></html>\n"
    )


def _header(title: str, evidence: Mapping[str, Any]) -> str:
    """Say what somebody in a hurry decides on."""
    passed = bool(evidence["passed"])
    failed = sum(not gate["passed"] for gate in evidence["gates"])
    verdict = "passes its gates" if passed else f"fails {failed} of {len(evidence['gates'])} gates"
    gain, holdout = evidence["improvement"], evidence["holdout"]
    facts = {"predicts": TARGET.name, "in production": evidence["champion"] or "none"}
    if gain:
        facts["loss saved against it"] = f"{gain['value']:+.2%}"
        facts["sure of at least"] = f"{gain['low']:+.2%}"
    if holdout:
        facts["judged on"] = f"{holdout['rows']:,} rows"
        facts["of the days"] = f"{holdout['first_day']} to {holdout['last_day']}"
    return header(title, _tone(passed), verdict, facts)


def header(
    title: str, tone: str, verdict: str, facts: Mapping[str, object], words: str = ""
) -> str:
    """Return the top of a page: its title, the verdict, words that are HTML already, and facts."""
    listed = "".join(
        f"<div><small>{escape(name)}</small><b>{escape(str(fact))}</b></div>"
        for name, fact in facts.items()
    )
    return (
        f'<header class="{tone}"><h1>{escape(title)}</h1>\n'
        f'<p><span class="verdict {tone}">{verdict}</span></p>{words}'
        f'<div class="facts">{listed}</div></header>'
    )


def _tone(good: object) -> str:
    return "good" if good else "bad"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """Build a table from cells that are HTML already; the columns in `numbers` align right."""
    kinds = [" class=n" if name in numbers else "" for name in head]
    titles = "".join(f"<th{kind}>{name}</th>" for name, kind in zip(head, kinds, strict=True))
    lines = "".join(
        "<tr>"
        + "".join(f"<td{k}>{cell}</td>" for k, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    top = f"<thead><tr>{titles}</tr></thead>" if any(head) else ""
    return f'<div class="scroll"><table>{top}<tbody>{lines}</tbody></table></div>'


def _number(value: float | None) -> str:
    missing = value is None or math.isnan(value)
    return "<small>not measured</small>" if missing else f"{value:.4f}"


def _gates(gates: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for gate in sorted(gates, key=lambda gate: bool(gate["passed"])):  # what fails comes first
        word, advice = ("pass", "") if gate["passed"] else ("FAIL", f"<br>{escape(gate['advice'])}")
        mark = f'<span class="{_tone(gate["passed"])}">{word}</span>'
        name, measured = escape(gate["name"]), escape(gate["measured"])
        rows.append([mark, name, measured + advice, escape(gate["bound"])])
    return table(["", "gate", "measured", "needed"], rows)


def _metrics(evidence: Mapping[str, Any]) -> str:
    champion = evidence["champion_metrics"]
    head = ["metric", "value", "95 % interval"]
    head += [f"version {evidence['champion']}"] if champion else []
    rows = [
        [
            escape(name),
            _number(found["value"]),
            f"{_number(found['low'])} to {_number(found['high'])}",
            *([_number(champion.get(name))] if champion else []),
        ]
        for name, found in evidence["metrics"].items()
    ]
    return table(head, rows, head[1:]) if rows else ""


def _slices(slices: Sequence[Mapping[str, Any]]) -> str:
    names = [key for key in (slices[0] if slices else {}) if key not in {"slice", "rows", "judged"}]
    most = max((part["rows"] for part in slices), default=1)
    rows = [
        [
            escape(str(part["slice"])),
            f"{part['rows']:,}",
            _bar(part["rows"] / most) if part["judged"] else "<small>too few to judge</small>",
            *(_number(part[name]) for name in names),
        ]
        for part in slices
    ]
    return table(["slice", "rows", "", *names], rows, ["rows", *names]) if rows else ""


def _bar(share: float) -> str:
    return (
        '<svg width="120" height="12" role="img" aria-label="share of rows">'
        f'<rect width="{max(1, round(120 * share))}" height="12" rx="2" fill="var(--bar)"/></svg>'
    )


def _plot(name: str, content: bytes) -> str:
    encoded = base64.b64encode(content).decode()
    text = escape(name.replace("_", " "))
    picture = f'<img alt="{text}" src="data:image/png;base64,{encoded}">'
    return f"<figure><figcaption><small>{text}</small></figcaption>{picture}</figure>"


def _data(evidence: Mapping[str, Any]) -> str:
    found = evidence["holdout"]
    if not found:
        return "<p>The holdout could not be read.</p>"
    rows = [
        [escape(c.name), c.kind, "may be missing" if c.nullable else "always there"]
        for c in FEATURES
    ]
    return (
        f"<p>Judged on {found['rows']:,} rows from {found['first_day']} to {found['last_day']}, "
        f"later than every row it learned from.</p><p><code>{found['sha256']}</code></p>"
        + table(["feature", "kind", "missing values"], rows)
    )


def _provenance(evidence: Mapping[str, Any]) -> str:
    served = {f"served bundle, {name}": value for name, value in evidence["bundle"].items()}
    facts = {"sha256": evidence["sha256"], **served, **evidence["provenance"]}
    rows = [[escape(key), f"<code>{escape(str(value))}</code>"] for key, value in facts.items()]
    return table(["", ""], rows)
