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
:root{--ink:#1c2530;--soft:#5b6876;--line:#dfe4ea;--good:#12724a;--bad:#b3261e;--bar:#3867d6}
*{box-sizing:border-box}body{margin:0;background:#f4f6f8;color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}main{max-width:60rem;margin:0 auto;
padding:1.5rem}header,section{background:#fff;border:1px solid var(--line);border-radius:10px;
padding:1.1rem 1.4rem;margin-bottom:1rem}h1{margin:0;font-size:1.5rem}h2{margin:0 0 .6rem;
font-size:1.05rem}p,ul{margin:.3rem 0}code{font-size:.85em;color:var(--soft);overflow-wrap:anywhere}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}th,td{padding:.3rem .7rem .3rem 0;
text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}th{color:var(--soft);
font-weight:600}td.n{text-align:right;font-variant-numeric:tabular-nums}.good{color:var(--good)}
.bad{color:var(--bad);font-weight:600}.verdict{display:inline-block;padding:.15rem .7rem;
border-radius:99px;color:#fff;font-weight:600}.verdict.good{background:var(--good)}
.verdict.bad{background:var(--bad)}img{max-width:100%;height:auto;display:block;margin:.6rem 0}
svg{display:block}footer{color:var(--soft);font-size:.85rem;padding:0 .4rem}
"""


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
    passed = bool(evidence["passed"])
    verdict = (
        f'<span class="verdict {_tone(passed)}">{"passes" if passed else "fails"} its gates</span>'
    )
    sections = {
        "Intended use": f"<p>{escape(card.intended_use)}</p>",
        "Limits": "<ul>" + "".join(f"<li>{escape(limit)}</li>" for limit in card.limits) + "</ul>",
        "Gates": _gates(evidence["gates"]),
        "Holdout metrics": _metrics(evidence),
        "Slices": _slices(evidence["slices"]),
        "Plots": "".join(_plot(name, content) for name, content in sorted(plots.items())),
        "Data": _data(evidence),
        "Provenance": _pairs({"sha256": evidence["sha256"], **evidence["provenance"]}),
    }
    body = "".join(
        f"<section><h2>{name}</h2>{content}</section>\n"
        for name, content in sections.items()
        if content
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>\n"
        f"<header><h1>{escape(title)}</h1>\n<p>predicts {escape(TARGET.name)} {verdict}</p></header>\n"
        f"{body}</main></body></html>\n"
    )


def _tone(good: object) -> str:
    return "good" if good else "bad"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Build a table from cells that are HTML already; those starting with a digit align right."""
    titles = "".join(f"<th>{name}</th>" for name in head)
    lines = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    table = f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _cell(content: str) -> str:
    numeric = content[:1].isdigit() or content[:1] in {"-", "+"}
    return f'<td class="n">{content}</td>' if numeric else f"<td>{content}</td>"


def _number(value: float | None) -> str:
    return "not measured" if value is None or math.isnan(value) else f"{value:.4f}"


def _gates(gates: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for gate in gates:
        mark = (
            f'<span class="{_tone(gate["passed"])}">{"pass" if gate["passed"] else "FAIL"}</span>'
        )
        advice = "" if gate["passed"] else f"<br>{escape(gate['advice'])}"
        name, measured = escape(gate["name"]), escape(gate["measured"])
        rows.append([mark, name, f"<span>{measured}</span>{advice}", escape(gate["bound"])])
    return _table(["", "gate", "measured", "bound"], rows)


def _metrics(evidence: Mapping[str, Any]) -> str:
    champion = evidence["champion_metrics"]
    head = [
        "metric",
        "value",
        "95 % interval",
        *([f"version {evidence['champion']}"] if champion else []),
    ]
    rows = [
        [
            escape(name),
            _number(found["value"]),
            f"{_number(found['low'])} to {_number(found['high'])}",
            *([_number(champion.get(name))] if champion else []),
        ]
        for name, found in evidence["metrics"].items()
    ]
    return _table(head, rows) if rows else ""


def _slices(slices: Sequence[Mapping[str, Any]]) -> str:
    names = [key for key in (slices[0] if slices else {}) if key not in {"slice", "rows", "judged"}]
    most = max((part["rows"] for part in slices), default=1)
    rows = [
        [
            escape(str(part["slice"])),
            f"{part['rows']:,}{'' if part['judged'] else ' (too few to judge)'}",
            _bar(part["rows"] / most),
            *(_number(part[name]) for name in names),
        ]
        for part in slices
    ]
    return _table(["slice", "rows", "", *names], rows) if rows else ""


def _bar(share: float) -> str:
    return (
        '<svg width="120" height="12" role="img" aria-label="share of rows">'
        f'<rect width="{max(1, round(120 * share))}" height="12" rx="2" fill="#3867d6"/></svg>'
    )


def _plot(name: str, content: bytes) -> str:
    encoded = base64.b64encode(content).decode()
    text = escape(name.replace("_", " "))
    return f'<p>{text}</p><img alt="{text}" src="data:image/png;base64,{encoded}">'


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
        + _table(["feature", "kind", "missing values"], rows)
    )


def _pairs(pairs: Mapping[str, Any]) -> str:
    return _table(
        ["", ""],
        [[escape(key), f"<code>{escape(str(value))}</code>"] for key, value in pairs.items()],
    )
