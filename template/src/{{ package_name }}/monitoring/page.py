"""The report as a page that loads nothing, drawn from the report alone, and as lines of text."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from ..model_card import header, page, table
from .profile import Metric
from .report import UNLISTED, Bin, ColumnReport, Day, Report

DRAWN = 200  # histograms on one page; wider data shows those that moved most
DETAILED = 60  # features whose bins are listed in numbers
HEADLINES = {
    "none": ("good", "nothing has changed that matters"),
    "alarm": ("bad", "alarm"),
    "insufficient": ("warn", "too little data to judge"),
}
EVENTS = {"retrain": "a retraining", "data-quality": "a look at the data"}
MORE_STYLE = """
:root{--warn:#8a5a00;--was:#c3ccd6;--now:#3867d6;--seen:#12724a}.warn{color:var(--warn)}
.verdict.warn{background:var(--warn)}header ul,header p{color:var(--ink);font-weight:400}
header ul{margin:.9rem 0}header li{margin:.25rem 0}header li:first-child{font-weight:600}
.ends{display:flex;justify-content:space-between;gap:1rem;color:var(--soft);font-size:.75rem}
.key{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;margin:0 0 .6rem;font-size:.85rem;
color:var(--soft)}.key i{display:inline-block;width:.8rem;height:.8rem;margin-right:.35rem;
border-radius:2px;vertical-align:-.08rem}.key .was{background:var(--was)}.key .now{background:
var(--now)}.key .seen{background:var(--seen)}.wide{width:100%;height:auto}.plot{width:15rem;
max-width:100%;height:auto;margin:0}.features table{width:100%}.features td{vertical-align:middle}
.features th{white-space:nowrap}.features .what{min-width:8rem}
.features .draw{padding-top:.5rem;min-width:12rem}main{max-width:68rem}
th button{all:unset;cursor:pointer}
th button:focus-visible{outline:2px solid var(--now)}th button::after{content:" ↕";opacity:.4}
th[aria-sort=ascending] button::after{content:" ↑";opacity:1}
th[aria-sort=descending] button::after{content:" ↓";opacity:1}
.tag{display:inline-block;margin:.1rem .3rem .1rem 0;padding:0 .5rem;border-radius:99px;
background:#fdecea;color:var(--bad);font-size:.8rem;overflow-wrap:anywhere}
details summary{cursor:pointer;color:var(--soft);font-size:.85rem}
details table{min-width:0;margin-top:.3rem;font-size:.85rem}.name b{display:block;
overflow-wrap:break-word}
@media(max-width:40rem){.features thead{display:none}.features>.scroll>table>tbody>tr{
display:grid;grid-template-columns:1fr 1fr;gap:.1rem .8rem;padding:.7rem 0;
border-bottom:1px solid var(--line)}.features>.scroll>table>tbody>tr>td{border:0;padding:0;
text-align:left;white-space:normal}.features .name,.features .draw,.features .what{
grid-column:1/-1}.features td[data-head]::before{content:attr(data-head) " ";font-size:.8rem;
color:var(--soft)}.plot{width:100%}.gates td:nth-child(n){text-align:left}}
"""
SCRIPT = """
for(const button of document.querySelectorAll("th button"))button.onclick=()=>{
const head=button.parentNode,body=head.closest("table").tBodies[0],at=head.cellIndex,
down=head.getAttribute("aria-sort")!=="descending";
for(const other of head.parentNode.cells)other.removeAttribute("aria-sort");
head.setAttribute("aria-sort",down?"descending":"ascending");
const value=row=>row.cells[at].dataset.value;
body.append(...[...body.rows].sort((a,b)=>{const x=value(a),y=value(b);
return (isNaN(x)||isNaN(y)?x.localeCompare(y)*-1:y-x)*(down?1:-1)}))}
"""


def render(report: Report) -> str:
    """Return the page."""
    title = f"{report.model} version {report.version}"
    sections = {
        "Performance": _performance(report),
        "Over time": _time(report.days),
        "Predictions": _predictions(report.prediction),
        "Features": _features(report.features),
        "Features together": "".join(f"<p>{escape(f.sentence)}</p>" for f in report.together),
        "The log": _log(report),
    }
    whole = f"{title}: {HEADLINES[report.verdict][1]}"
    script = f"<script>{SCRIPT}</script>"
    return page(whole, _header(title, report), sections, MORE_STYLE, script)


def _header(title: str, report: Report) -> str:
    """Say what somebody who was woken up decides on."""
    tone, headline = HEADLINES[report.verdict]
    alarms = sum(column.alarm for column in report.features)
    facts = {
        "from": f"{report.since:%d %b %Y, %H:%M}",
        "until": f"{report.until:%d %b %Y, %H:%M} UTC",
        "predictions": f"{report.log.rows:,}",
        "reference": f"{report.reference_rows:,} rows",
        "features that alarm": f"{alarms} of {len(report.features)}",
    }
    if report.performance:
        facts["labels"] = f"{report.performance.labelled:,} ({report.performance.coverage:.0%})"
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in report.reasons)
    listed = f"<ul class=reasons>{reasons}</ul>" if reasons else ""
    return header(title, tone, headline, facts, f"{listed}<p>{escape(asked(report))}</p>")


def asked(report: Report) -> str:
    """Say what was asked for outside, or what stands against it."""
    request = report.request
    if request is None or request.event == "none":
        return ""
    what = EVENTS[request.event]
    if request.sent:
        return f"Asked for {what}."
    if request.blocked:
        return f"No request for {what}: {'; '.join(request.blocked)}."
    return f"Would ask for {what}; --request does."


def _performance(report: Report) -> str:
    found = report.performance
    if found is None:
        return (
            "<p>No labels were given, so nobody knows yet whether the predictions were right.</p>"
        )
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in found.sentences)
    rows = [
        [escape(name), *_metric(metric), *_metric(report.holdout.get(name))]
        for name, metric in found.metrics.items()
    ]
    head = ["metric", "now", "95 % interval", "holdout", "95 % interval"]
    return f"<ul>{said}</ul>{table(head, rows, head[1:]) if rows else ''}"


def _metric(found: Metric | None) -> tuple[str, str]:
    if found is None:
        return "", ""
    return f"{found.value:.4f}", f"{found.low:.4f} to {found.high:.4f}"


def _key(names: Mapping[str, str]) -> str:
    marks = "".join(f"<span><i class={kind}></i>{text}</span>" for kind, text in names.items())
    return f'<div class="key">{marks}</div>'


def _time(days: Sequence[Day]) -> str:
    """Draw rows per day as bars, and below them the mean score and the mean target as lines."""
    if not days:
        return "<p>There are no predictions in the window.</p>"
    width, step = 720, 720 / len(days)
    most = max(day.rows for day in days)
    bars = "".join(
        f'<rect x="{n * step + step * 0.1:.1f}" y="{90 - 70 * day.rows / most:.1f}" '
        f'width="{step * 0.8:.1f}" height="{70 * day.rows / most:.1f}" rx="2" fill="var(--was)">'
        f"<title>{day.day}: {day.rows:,} predictions</title></rect>"
        for n, day in enumerate(days)
    )
    scores, targets = [day.score for day in days], [day.observed for day in days]
    known = [value for value in (*scores, *targets) if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    lines = "".join(
        _line(values, step, low, high, colour)
        for values, colour in ((scores, "var(--now)"), (targets, "var(--seen)"))
    )
    names = {
        "was": f"predictions a day, at most {most:,}",
        "now": f"mean score, {low:.4g} to {high:.4g}",
    }
    if any(target is not None for target in targets):
        names["now"], names["seen"] = "mean score", f"mean label, both {low:.4g} to {high:.4g}"
    return (
        _key(names)
        + f'<svg class="wide" viewBox="0 0 {width} 210" role="img" aria-label="days">{bars}{lines}'
        f"</svg>{_ends(days[0].day, days[-1].day)}"
    )


def _ends(first: str, last: str) -> str:
    if last == UNLISTED:
        return ""  # a category: its values have no order
    return f'<div class="ends"><span>{escape(first)}</span><span>{escape(last)}</span></div>'


def _line(values: Sequence[float | None], step: float, low: float, high: float, colour: str) -> str:
    spread = (high - low) or 1.0
    points = [
        (n * step + step / 2, None if v is None else 200 - 80 * (v - low) / spread)
        for n, v in enumerate(values)
    ]
    paths = "".join(
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in stretch)
        for there, stretch in groupby(points, lambda point: point[1] is not None)
        if there
    )
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points if y
    )
    return f'<path d="{paths}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'


def _predictions(column: ColumnReport | None) -> str:
    if column is None:
        return ""
    said = "".join(f"<p>{escape(f.sentence)}</p>" for f in column.findings if f.effect)
    return f"{said}{_both()}{_histogram(column.bins, 'wide', 700, 120)}{_bins(column.bins)}"


def _both() -> str:
    return _key({"was": "reference", "now": "this window", "": "share of rows in each bin"})


def _histogram(bins: Sequence[Bin], kind: str = "plot", width: int = 240, height: int = 52) -> str:
    """Draw the reference filled, and the window as an outline over it."""
    most = max((max(b.reference, b.current) for b in bins), default=0) or 1.0
    step = width / max(len(bins), 1)

    def bars(values: Iterable[float]) -> str:
        return "".join(
            f"M{n * step + 1:.1f} {height}V{height - (height - 3) * value / most:.1f}"
            f"h{step - 2:.1f}V{height}"
            for n, value in enumerate(values)
            if value
        )

    was, now = bars(b.reference for b in bins), bars(b.current for b in bins)
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height + 1}" role="img" aria-label="histogram">'
        f'<path d="{was}" fill="var(--was)"/><path d="{now}" fill="var(--now)" fill-opacity=".18" '
        f'stroke="var(--now)" stroke-width="1.5"/></svg>{_ends(bins[0].label, bins[-1].label)}'
    )


def _bins(bins: Sequence[Bin]) -> str:
    rows = [[escape(b.label), f"{b.reference:.1%}", f"{b.current:.1%}"] for b in bins]
    told = table(["", "reference", "now"], rows, ["reference", "now"])
    return f"<details><summary>numbers</summary>{told}</details>"


FEATURE_HEAD = ("feature", "distribution", "moved", "missing", "not listed", "by chance", "")


def _features(columns: Sequence[ColumnReport]) -> str:
    heads = "".join(
        f"<th{' class=n' if 1 < n < 6 else ''}>"  # noqa: PLR2004 - the numbers in the middle
        + (f"<button>{name}</button></th>" if name and name != "distribution" else f"{name}</th>")
        for n, name in enumerate(FEATURE_HEAD)
    )
    rows = "".join(_feature(n, column) for n, column in enumerate(columns))
    return (
        f'{_both()}<div class="features"><div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def _feature(place: int, column: ColumnReport) -> str:
    """Draw one row; a cell's data-value is what the column is sorted by."""
    chance = min((f.q for f in column.findings), default=1.0)
    before, now = column.missing
    unlisted = sum(column.new.values())
    tone = "bad" if column.alarm else "good"
    alarms = "".join(
        f'<span class="tag">{escape(f.check.replace("_", " "))}</span>'
        for f in column.findings
        if f.alarm
    )
    named = ", ".join(f"{value} ({rows:,})" for value, rows in list(column.new.items())[:5])
    said = f"<small>new: {escape(named)}</small>" if named else ""
    drawn = _histogram(column.bins) if place < DRAWN else ""
    cells = [
        ("name", column.name, f'<b class="{tone}">{escape(column.name)}</b>{column.kind}'),
        ("draw", "", drawn),
        ("n", column.moved or 0, "" if column.moved is None else f"{column.moved:.1%}"),
        ("n", now - before, f"{before:.1%} → {now:.1%}"),
        ("n", unlisted, f"{unlisted:,}"),
        ("n", chance, "&lt; 0.1%" if chance < 0.001 else f"{chance:.1%}"),  # noqa: PLR2004
        ("what", "", alarms + said + (_bins(column.bins) if place < DETAILED else "")),
    ]
    heads = ("", "", *FEATURE_HEAD[2:6], "")
    return (
        "<tr>"
        + "".join(
            f'<td class="{kind}"{f" data-head={chr(34)}{head}{chr(34)}" if head else ""} '
            f'data-value="{escape(str(value))}">{cell}</td>'
            for head, (kind, value, cell) in zip(heads, cells, strict=True)
        )
        + "</tr>"
    )


def _log(report: Report) -> str:
    log = report.log
    counts = {
        "rows compared": log.rows,
        **{reason.replace("_", " "): rows for reason, rows in log.excluded.items()},
        "values cut short": log.truncated_values,
        "values not finite, taken as missing": log.not_finite_values,
        "files read": log.files,
        "files of other days": log.files_of_other_days,
        "files that cannot be read": len(log.unreadable_files),
    }
    if report.labels:
        counts["labels that could not be used"] = report.labels.unusable
        counts["labels replaced by later ones"] = report.labels.replaced
    rows = [[escape(name), f"{n:,}"] for name, n in counts.items() if n or name == "rows compared"]
    notes = [f"Read from {log.place}."]
    if log.samples and log.samples != [1.0]:
        notes.append(f"Sampled: {', '.join(f'{s:.0%}' for s in log.samples)} of the requests.")
    if len(log.versions) > 1:
        seen = ", ".join(f"{number} ({rows:,})" for number, rows in sorted(log.versions.items()))
        notes.append(f"Versions that answered: {seen}.")
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return said + table(["", "count"], rows, ["count"])


def text(report: Report, folder: Path) -> str:
    """Return the lines for a terminal."""
    window = f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    lines = [
        f"{report.model} version {report.version}, {window}: {HEADLINES[report.verdict][1]}",
        f"  {report.log.rows:,} predictions against {report.reference_rows:,} reference rows",
        *(f"  {reason}" for reason in report.reasons),
        *(
            f"  left out: {rows:,} {reason.replace('_', ' ')}"
            for reason, rows in report.log.excluded.items()
        ),
        *([f"  {asked(report)}"] if asked(report) else []),
        f"Report  {folder / 'report.html'}",
    ]
    return "\n".join(lines)
