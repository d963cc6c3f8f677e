"""What promote_model prints for people; with --json it prints its results as they are."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

Result = Mapping[str, Any]


def terminal() -> Console:
    """Return a console that prints what people wrote as they wrote it, brackets included."""
    return Console(markup=False, highlight=False)


def show_status(result: Result, console: Console) -> None:
    """Print the versions and anything that needs attention."""
    if not result["versions"]:
        console.print(f"{result['model']} has no version yet; run `make run` first")
    else:
        table = _table("version", "stage", "created", "sha256")
        for row in result["versions"]:
            standing = [*row["stages"], *(["quarantined"] if row["quarantined"] else [])]
            stage = ", ".join(standing) or "none"
            table.add_row(row["version"], stage, row["created"], str(row["sha256"])[:12])
        console.print(table)
    for line in result["attention"]:
        console.print(f"attention: {line}", soft_wrap=True)


def show_history(result: Result, console: Console) -> None:
    """Print the journal, or who was where at a moment."""
    if "at" in result:
        for stage, version in result["stages"].items():
            console.print(f"{stage} at {result['at']}: version {version or 'none'}")
        return
    table = _table(
        Column("when", no_wrap=True), "event", "stage", "from", "to", "outcome", "by", "why"
    )
    for row in result["events"]:
        moved = row["before"] or "none", row["after"] or "none", row["outcome"]
        why = row["reason"] or row["note"]
        table.add_row(row["when"], row["kind"], row["stage"], *moved, row["actor"], why)
    console.print(table if result["events"] else "nothing has been promoted yet")


def show_gates(result: Result, console: Console) -> None:
    """Print each gate's verdict."""
    table = _table("", "gate", "measured", "needed")
    for gate in result["gates"]:
        mark = Text("pass", "green") if gate["passed"] else Text("FAIL", "red")
        table.add_row(mark, gate["name"], gate["measured"], gate["bound"])
    console.print(table)
    for gate in result["gates"]:
        if not gate["passed"]:
            console.print(f"{gate['name']}: {gate['advice']}", soft_wrap=True)
    console.print(f"Card    {result['card']}", soft_wrap=True)


def show_move(result: Result, console: Console) -> None:
    """Print what moved, or why nothing did."""
    before = result["previous"] or "none"
    label = f"{result['stage']}: {result['model']} version {result['version']}"
    if result["moved"]:
        console.print(f"{label}, was {before}")
    else:
        console.print(f"{label} not moved, {result['why']}")
    if "card" in result:
        console.print(f"Card    {result['card']}", soft_wrap=True)


def show_repair(result: Result, console: Console) -> None:
    """Print what was repaired."""
    for line in result["done"] or result.get("attention") or ["nothing to repair"]:
        console.print(line, soft_wrap=True)


def _table(*columns: Column | str) -> Table:
    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))


SHOW: Mapping[str, Callable[[Result, Console], None]] = {
    "status": show_status,
    "history": show_history,
    "evaluate": show_gates,
    "promote": show_move,
    "rollback": show_move,
    "break-lock": show_repair,
}
