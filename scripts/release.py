"""Check a release, and with --apply record it: `make release VERSION=0.2.0`.

Usage: python scripts/release.py VERSION [--commit COMMIT] [--apply]

It measures what an update to COMMIT (or HEAD) does to projects of the last release, and refuses a
version or a changelog that does not say so. --apply dates the changelog's section, writes the
version and its commit into tests/releases.toml, commits both, and tags COMMIT.
"""

import argparse
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import changelog
import impact
from impact import Impact, git
from questions import TEMPLATE

RECORD = "tests/releases.toml"
CHANGELOG = "CHANGELOG.md"
TOLD = TOUCHED, CONFLICTS, ACTION = "Files touched", "Likely conflicts", "Action needed"
LATER = {CONFLICTS, ACTION}  # what may be written after the commit that is released
NONE = "- None."
NUMBER = r"(0|[1-9]\d*)"
VERSION = re.compile(rf"{NUMBER}\.{NUMBER}\.{NUMBER}")
Numbers = tuple[int, int, int]


class ReleaseError(Exception):
    """The release cannot be checked at all; the message is the line to print."""


@dataclass
class Release:
    """A version that is to be, the commit that it is, and what it does to projects."""

    root: Path
    version: str
    commit: str
    previous: dict[str, str]  # earlier versions and their commits
    impact: Impact

    @property
    def last(self) -> str | None:
        """The release before this one."""
        return max(self.previous, key=numbers, default=None)

    def section(self) -> changelog.Section:
        """Return the changelog's entries for this version, with the files it touches.

        They are those under the version, if it has a heading already; or else those that the
        commit's own changelog has as unreleased. What a project must do may be written later.
        """
        text = (self.root / CHANGELOG).read_text(encoding="utf-8")
        _, sections = changelog.parse(text)
        found = sections.get(self.version)
        if found is None:
            pending = sections.get(changelog.UNRELEASED, {})
            at_commit = git(self.root, "show", f"{self.commit}:{CHANGELOG}")
            known = changelog.parse(at_commit)[1].get(changelog.UNRELEASED, {})
            found = {
                heading: kept
                for heading, entries in pending.items()
                if (kept := [e for e in entries if heading in LATER or e in known.get(heading, [])])
            }
        found[TOUCHED] = touched(self.impact) if self.last else ["- All: it is the first release."]
        return {
            h: found[h]
            for h in sorted(found, key=lambda h: ("", *TOLD).index(h if h in TOLD else ""))
        }


def numbers(version: str) -> Numbers:
    """Return a version as numbers, to compare."""
    major, minor, patch = (int(part) for part in version.split("."))
    return major, minor, patch


def successors(last: str | None) -> dict[str, str]:
    """Return the version that each kind of release makes of the last.

    Before 1.0 a minor version may ask something of a project, as a major one does later.
    """
    if last is None:
        return {"major": "0.1.0", "minor": "0.1.0", "patch": "0.1.0"}
    major, minor, patch = numbers(last)
    least = f"{major}.{minor + 1}.0"
    return {
        "major": f"{major + 1}.0.0" if major else least,
        "minor": least,
        "patch": f"{major}.{minor}.{patch + 1}",
    }


def touched(found: Impact) -> list[str]:
    """List the files that an update adds, changes and removes, folders gathered."""
    ours = {"Adds": found.added, "Changes": found.changed - found.seeds, "Drops": found.removed}
    told = {**ours, "Leaves to you": found.changed & found.seeds}
    listed = {verb: ", ".join(f"`{p}`" for p in sorted(paths)) for verb, paths in told.items()}
    return [_wrapped(f"{verb} {paths}.") for verb, paths in listed.items() if paths] or [NONE]


def _wrapped(text: str) -> str:
    """Make text an entry of a list, in lines of at most 100 columns."""
    return textwrap.fill(
        text, 100, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False
    )


def problems(release: Release) -> Iterator[str]:
    """Yield what stands in the way, in one sentence each."""
    yield from _version_problems(release)
    for path in sorted(release.impact.lost):
        pattern = path.replace("<package>", "*")
        yield f"{path} is gone, and an update would delete edits with it: add {pattern} to _exclude"
    section = release.section()
    for heading in (CONFLICTS, ACTION):
        if not section.get(heading):
            yield f"the changelog has no entry under '### {heading}'; write '{NONE}' if so"
    action = "\n".join(section.get(ACTION, []))
    if release.impact.kind == "major" and action in {"", NONE}:
        yield f"projects lose something, so '### {ACTION}' must say what to do"
    for path in release.impact.asked:
        if path.split("/")[-1] not in action:
            yield f"{path} differs, and is left to users: name it under '### {ACTION}'"
    touched_names = release.impact.added | release.impact.changed | release.impact.removed
    for name in re.findall(r"`([^`]+)`", "\n".join(section.get(CONFLICTS, []))):
        if name not in touched_names:
            yield f"'### {CONFLICTS}' names {name}, which this release leaves as it was"


def _version_problems(release: Release) -> Iterator[str]:
    allowed = successors(release.last)
    kind = release.impact.kind
    enough = {"major": ["major"], "minor": ["major", "minor"], "patch": list(allowed)}[kind]
    fitting = sorted({allowed[each] for each in enough}, key=numbers)
    if release.version not in fitting:
        reason = next(release.impact.reasons(), "nothing is added or gone")
        yield (
            f"after {release.last or 'nothing'} this is a {kind} release ({reason}): "
            f"call it {' or '.join(fitting)}"
        )


def read(root: Path, version: str, commit: str) -> Release:
    """Find the commit and measure it against the last release.

    Raises
    ------
    ReleaseError
        The version is no version, the commit is none of HEAD's, or the tree is not clean.
    """
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"{version!r} is no version; write three numbers, such as 0.2.0")
    if git(root, "status", "--porcelain"):
        raise ReleaseError("the tree is not clean; commit or stash your changes")
    previous = tomllib.loads((root / RECORD).read_text(encoding="utf-8"))["releases"]
    if version in previous:
        raise ReleaseError(f"{version} is released already, as {previous[version][:7]}")
    try:
        found = git(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}").strip()
    except subprocess.CalledProcessError:
        raise ReleaseError(f"{commit} is no commit") from None
    last = max(previous, key=numbers, default=None)
    for older, newer in ((found, "HEAD"), *(((previous[last], found),) if last else ())):
        if older not in git(root, "rev-list", newer).split():
            raise ReleaseError(f"{older[:7]} is not an ancestor of {newer[:7]}")
    measured = impact.between(root, previous[last], found) if last else Impact()
    return Release(root, version, found, previous, measured)


def record(release: Release) -> None:
    """Write the changelog and the record, commit them, and tag the release's commit."""
    path = release.root / CHANGELOG
    text = path.read_text(encoding="utf-8")
    opening, sections = changelog.parse(text)
    section = release.section()
    pending = sections.pop(changelog.UNRELEASED, {})
    left = {
        heading: kept
        for heading, entries in pending.items()
        if (kept := [entry for entry in entries if entry not in section.get(heading, [])])
    }
    sections.pop(release.version, None)
    days = {**changelog.dates(text), release.version: f"{datetime.now(UTC):%Y-%m-%d}"}
    ordered = {changelog.UNRELEASED: left, release.version: section, **sections}
    path.write_text(changelog.unparse(opening, ordered, days), encoding="utf-8")
    with (release.root / RECORD).open("a", encoding="utf-8") as out:
        out.write(f'"{release.version}" = "{release.commit}"\n')
    git(release.root, "add", CHANGELOG, RECORD)
    git(release.root, "commit", "--quiet", "--message", f"Release {release.version}")
    git(release.root, "tag", release.version, release.commit)


def main(words: list[str] | None = None, root: Path = TEMPLATE) -> int:
    """Print what the release is and what stands in its way; if nothing does, record it if told."""
    parser = argparse.ArgumentParser(description="Check a release, and record it.")
    parser.add_argument("version", help="three numbers")
    parser.add_argument("--commit", default="HEAD", help="what is released; HEAD unless told")
    parser.add_argument("--apply", action="store_true", help="record it")
    asked = parser.parse_args(words)
    try:
        release = read(root, asked.version, asked.commit)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    section = changelog.unparse("", {release.version: release.section()}, {})
    kind = f"a {release.impact.kind} release after {release.last}" if release.last else "the first"
    print(f"{release.commit[:7]} is {kind}.{section}")
    found = list(problems(release))
    for problem in found:
        print(f"release: {problem}", file=sys.stderr)
    if not found and asked.apply:
        record(release)
        print(
            f"Recorded and tagged {release.version}. Next    git push origin HEAD {release.version}"
        )
    elif not found:
        told = f"VERSION={release.version} COMMIT={release.commit[:7]} APPLY=1"
        print(f"Nothing stands in the way. Next    make release {told}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
