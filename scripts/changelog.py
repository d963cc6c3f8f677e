"""CHANGELOG.md as data: versions, their headings, and the entries under each."""

import re

UNRELEASED = "Unreleased"
VERSION_LINE = re.compile(r"^## \[(?P<version>[^\]]+)\].*\n", re.MULTILINE)
HEADING_LINE = re.compile(r"^### (?P<heading>.+)\n", re.MULTILINE)

Section = dict[str, list[str]]


def parse(text: str) -> tuple[str, dict[str, Section]]:
    """Split a changelog into what comes before its first version, and the versions in order."""
    opening, *rest = _split(VERSION_LINE, text)
    return opening, {name: _section(body) for name, body in zip(rest[::2], rest[1::2], strict=True)}


def _split(pattern: re.Pattern[str], text: str) -> list[str]:
    return [part.strip("\n") for part in pattern.split(text)]


def _section(body: str) -> Section:
    _, *rest = _split(HEADING_LINE, body)
    return {name: _entries(part) for name, part in zip(rest[::2], rest[1::2], strict=True)}


def _entries(text: str) -> list[str]:
    """Split a list into its entries; text that is no list is one entry."""
    found = re.split(r"\n(?=- )", text.strip("\n"))
    return [entry for entry in found if entry.strip()]


def unparse(opening: str, sections: dict[str, Section], dates: dict[str, str]) -> str:
    """Return the text of a changelog; `dates` holds the day of each released version."""
    parts = [opening]
    for version, section in sections.items():
        released = f" - {dates[version]}" if version in dates else ""
        parts.append(f"## [{version}]{released}")
        for heading, entries in section.items():
            parts.append(f"### {heading}\n\n" + "\n".join(entries))
    return "\n\n".join(parts) + "\n"


def dates(text: str) -> dict[str, str]:
    """Return the day each version was released."""
    return dict(re.findall(r"^## \[([^\]]+)\] - (\S+)$", text, re.MULTILINE))
