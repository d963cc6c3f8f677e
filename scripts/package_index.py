"""Install rendered projects where a package index that they name cannot be reached.

PyTorch's CPU wheels live on an index of their own. Behind a mirror or a firewall pip is given a
folder of wheels instead, in PIP_FIND_LINKS; this serves the same wheels to uv, as an index of the
same name, so that the project is installed exactly as it was rendered.
"""

import os
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PROBE_SECONDS = 5


class UnreachableIndexError(Exception):
    """An index cannot be reached, and no wheels stand in for it."""


def environment(project: Path, scratch: Path) -> dict[str, str]:
    """Return the variables that let uv install a project on this machine; usually none.

    Raises
    ------
    UnreachableIndexError
        The project names an index that is away, and PIP_FIND_LINKS has none of its packages.
    """
    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    uv: dict[str, Any] = settings.get("tool", {}).get("uv", {})
    away = [index for index in uv.get("index", []) if not _answers(index["url"])]
    stand_ins = []
    for index in away:
        folder = scratch / index["name"]
        for package, source in uv.get("sources", {}).items():
            if source.get("index") == index["name"]:
                _list_wheels(package, folder, index["url"])
        stand_ins.append(f"{index['name']}={folder.resolve().as_uri()}")
    return {"UV_INDEX": " ".join(stand_ins)} if stand_ins else {}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PROBE_SECONDS):  # noqa: S310  (our own URL)
            return True
    except urllib.error.HTTPError:
        return True  # it is there, whatever it thinks of the question
    except OSError:
        return False


def _list_wheels(package: str, folder: Path, url: str) -> None:
    places = [Path(place) for place in os.environ.get("PIP_FIND_LINKS", "").split()]
    wheels = [wheel for place in places for wheel in sorted(place.glob(f"{package}-*.whl"))]
    if not wheels:
        raise UnreachableIndexError(
            f"{url} cannot be reached, and PIP_FIND_LINKS names no folder with a {package} wheel"
        )
    page = folder / package / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    links = "".join(f'<a href="{wheel.resolve().as_uri()}">{wheel.name}</a>\n' for wheel in wheels)
    page.write_text(links, encoding="utf-8")
