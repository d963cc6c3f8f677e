# /// script
# requires-python = ">=3.11"
# dependencies = ["copier>=9.18,<10"]
# ///
"""Compare this project with its template, and update it. docs/updating.md says what is whose.

Usage: uv run scripts/template.py update [--yes] [QUESTION=ANSWER ...]
       uv run scripts/template.py diff
       uv run scripts/template.py report FOLDER
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

import copier
import yaml
from copier.errors import CopierError

ROOT = Path(__file__).parents[1]
ANSWERS = ".copier-answers.yml"
MARKER = b"<" * 7 + b" before updating"
# To answer anew updates seed files as well; data, which is no text to merge, stays.
ALL_BUT_DATA = ("!*", "data/sample/*")
ONCE: dict[str, Any] = {"defaults": True, "overwrite": True, "quiet": True}  # asks nothing


def run(*words: str, at: Path = ROOT, quiet: bool = True) -> str:
    """Run a command and return what it printed; leave with its last words if it fails."""
    out = subprocess.PIPE if quiet else None
    done = subprocess.run(words, cwd=at, stdout=out, stderr=out, encoding="utf-8", check=False)
    if done.returncode and quiet:
        sys.exit((done.stderr.strip() or f"{words[0]} failed").splitlines()[-1])
    return done.stdout or ""


def answers(at: Path) -> dict[str, Any]:
    """Return the answers last committed, with the template's address and version."""
    found: dict[str, Any] = yaml.safe_load(run("git", "show", f"HEAD:./{ANSWERS}", at=at))
    return found


def fresh(recorded: Mapping[str, Any], into: Path) -> dict[str, bytes]:
    """Render what the answers say and return the files by name, seed files included."""
    into.mkdir()
    (into / ANSWERS).write_text(yaml.safe_dump(dict(recorded)), encoding="utf-8")
    copier.run_recopy(into, vcs_ref=recorded["_commit"], **ONCE)
    files = [path for path in into.rglob("*") if path.is_file() and path.name != ANSWERS]
    return {path.relative_to(into).as_posix(): path.read_bytes() for path in files}


def is_seed(name: str, recorded: Mapping[str, Any]) -> bool:
    """Say whether a file is the user's."""
    seeds = [f"/{pattern.lstrip('/')}" for pattern in recorded.get("seed_files", [])]
    return any(PurePath(f"/{name}").match(pattern) for pattern in seeds)


def bring(project: Path, changes: Sequence[str]) -> list[str]:
    """Update a project; return the edited files that the template dropped, which stay."""
    before = answers(project)
    anew = {"vcs_ref": copier.VcsRef.CURRENT, "exclude": ALL_BUT_DATA} if changes else {}
    data = dict(change.split("=", 1) for change in changes)
    copier.run_update(project, data=data, **anew, **ONCE)
    after = yaml.safe_load((project / ANSWERS).read_text(encoding="utf-8"))
    with TemporaryDirectory() as scratch:
        old, new = fresh(before, Path(scratch, "old")), fresh(after, Path(scratch, "new"))
    dropped = {name for name in old.keys() - new.keys() if changes or not is_seed(name, before)}
    listed = run("git", "ls-tree", "-r", "--name-only", "HEAD", at=project).splitlines()
    kept = []
    for name in sorted(dropped.intersection(listed)):
        run("git", "checkout", "--quiet", "HEAD", "--", name, at=project)
        if (project / name).read_bytes() == old[name]:
            (project / name).unlink()
        else:
            kept.append(name)
    return kept


def effects(project: Path, kept: Sequence[str]) -> dict[str, str]:
    """Return what the update did to each file; conflicts are found by their markers."""
    found = dict.fromkeys(kept, "dropped by the template, kept for your edits")
    status = run("git", "status", "--porcelain", "-z", "--no-renames", "-uall", at=project)
    for entry in filter(None, status.split("\0")):
        path = project / entry[3:]
        marked = path.is_file() and MARKER in path.read_bytes()
        told = "removed" if "D" in entry[:2] else "new" if "?" in entry else "changed"
        found[entry[3:]] = "CONFLICT" if marked else told
    return found


def update(words: Sequence[str]) -> None:
    """Update, once the changes were shown on a clone and agreed to."""
    if run("git", "status", "--porcelain"):
        sys.exit("The tree is not clean: commit or stash your changes, then update.")
    changes = [word for word in words if word != "--yes"]
    for change in changes:
        if change.split("=")[0] not in answers(ROOT) or "=" not in change:
            sys.exit(f"{change!r} answers no question; {ANSWERS} lists the questions")
    if "--yes" not in words:
        with TemporaryDirectory() as scratch:
            run("git", "clone", "--quiet", str(ROOT), scratch)
            found = show(Path(scratch), changes)
        print("Update? [y/N] " if found else "Nothing to update.\n", end="", flush=True)
        if not found or sys.stdin.readline().strip().lower() != "y":
            return
    if show(ROOT, changes):
        print("Updated. Resolve what is marked CONFLICT, then: make install lint test")


def show(project: Path, changes: Sequence[str]) -> dict[str, str]:
    """Update a project and print what that did to each file."""
    found = effects(project, bring(project, changes))
    for name, told in found.items():
        print(f"{told:10} {name}")
    return found


def diff(_words: Sequence[str]) -> None:
    """Show what was changed here in files that are the template's."""
    recorded = answers(ROOT)
    with TemporaryDirectory() as scratch:
        ours = Path(scratch, "template")
        for name in fresh(recorded, ours):
            copy = Path(scratch, "project", name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if is_seed(name, recorded):
                (ours / name).unlink()
            elif (ROOT / name).is_file():
                copy.write_bytes((ROOT / name).read_bytes())
        (ours / ANSWERS).unlink()
        run("git", "diff", "--no-index", "template", "project", at=Path(scratch), quiet=False)


def report(words: Sequence[str]) -> None:
    """Update in place; describe it in FOLDER/body.md, and in $GITHUB_OUTPUT for the next steps."""
    before = answers(ROOT)
    found = effects(ROOT, bring(ROOT, []))
    after = yaml.safe_load((ROOT / ANSWERS).read_text(encoding="utf-8"))
    version = str(after["_commit"])
    branch = ("--head", f"template-update/{version}", "--state", "all", "--json", "number")
    opened = found and run("gh", "pr", "list", *branch, "--jq", ".[].number")
    conflicts = [name for name, told in found.items() if told == "CONFLICT"]
    kept = [name for name, told in found.items() if told.startswith("dropped")]
    body = [f"Updates the template from {before['_commit']} to {version}."]
    body += [f"- [ ] Resolve the conflict markers in `{name}`." for name in conflicts]
    body += [f"- [ ] Move your edits out of `{name}`: the template dropped it." for name in kept]
    body += excerpt(str(after["_src_path"]), str(before["_commit"]), version)
    Path(words[0], "body.md").write_text("\n\n".join(body) + "\n", encoding="utf-8")
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as out:
        out.write(f"version={version if found and not opened else ''}\n")
        out.write(f"conflicts={len(conflicts)}\n")


def excerpt(source: str, old: str, new: str) -> list[str]:
    """Return the template's changelog after one version, up to another."""
    with TemporaryDirectory() as scratch:
        address = source.replace("gh:", "https://github.com/")
        run("git", "clone", "--quiet", "--depth=1", address, scratch)
        text = Path(scratch, "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(
        r"^(## \[(\d+\.\d+\.\d+)\].*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE
    )
    low, high = _numbers(old), _numbers(new)
    return [body.strip() for body, version in sections if low < _numbers(version) <= high]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


COMMANDS = {"update": update, "diff": diff, "report": report}

if __name__ == "__main__":
    if len(sys.argv) == 1 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    try:
        COMMANDS[sys.argv[1]](sys.argv[2:])
    except (CopierError, ValueError) as error:
        sys.exit(" ".join(str(error).split()))
