"""How many of the edits that users make conflict when the template is updated?

Usage: PYTHONPATH=scripts:tests python tests/benchmarks/conflict_rate.py

Run it with the template's interpreter, .venv/bin/python. Each recorded release is rendered with a
pairwise set of its answers, edited (tests/edits.py) and updated to the working tree; the working
tree is updated to a made-up release that changes a line of each file and moves and deletes some
(tests/later.py). An edit conflicts if a line of it stands between markers; it is lost if its text
is gone.
"""

import os
import tempfile
from collections import Counter
from pathlib import Path

from conftest import NEXT, clone_to, render_to
from edits import Edit, at_hand, make_all
from later import LATER, build
from matrix import CHOICES, Answers, pairwise
from projects import is_seed, starting_points, update

IDENTITY = {
    f"GIT_{who}_{what}": "benchmark@example.com"
    for who in ("AUTHOR", "COMMITTER")
    for what in ("NAME", "EMAIL")
}


def kind(edit: Edit, project: Path) -> str:
    """Say whose lines an edit is among."""
    if is_seed(project).match_file(edit.file):
        return "in seed files"
    return "among the template's lines" if edit.ours else "at other places"


def count(template: Path, answers: Answers, version: str, to: str, project: Path) -> Counter[str]:
    """Edit and update a project; count its edits, by kind, and those in conflict and lost."""
    render_to(template, project, answers, version)
    chosen = at_hand(answers, version)
    make_all(project, chosen)
    update(project, to)
    found: Counter[str] = Counter()
    for edit in chosen:
        of = kind(edit, project)
        in_conflict, kept = edit.is_in_conflict(project), edit.is_kept(project)
        found.update({of: 1, f"{of}, in conflict": in_conflict, f"{of}, lost": not kept})
        if in_conflict or not kept:
            found.update({f"{edit.name} ({edit.file})": 1})
    return found


def main() -> None:
    """Print a line for each pair of versions."""
    os.environ.update(IDENTITY)
    with tempfile.TemporaryDirectory() as scratch:
        released, later = Path(scratch, "template"), Path(scratch, "later")
        clone_to(released)
        build(released, later)
        starts = [(version, answers, NEXT) for version, answers in starting_points()]
        starts += [(NEXT, answers, LATER) for answers in pairwise(CHOICES)]
        totals: dict[str, Counter[str]] = {}
        for number, (version, answers, to) in enumerate(starts):
            project = Path(scratch, f"project-{number}")
            step = f"{version} to {to}"
            totals.setdefault(step, Counter()).update(count(later, answers, version, to, project))
            totals[step]["projects"] += 1
    for step, found in totals.items():
        print(step)
        for name, value in sorted(found.items()):
            print(f"  {value:4} {name}")
    overall = sum(totals.values(), Counter())
    kinds = ("in seed files", "at other places", "among the template's lines")
    edits = sum(overall[name] for name in kinds)
    conflicts = sum(overall[f"{name}, in conflict"] for name in kinds)
    print(f"{conflicts} of {edits} edits conflict: {100 * conflicts / edits:.1f} per hundred")


if __name__ == "__main__":
    main()
