"""SHA-256 of files and folders: what says that bytes are still those that were recorded."""

import hashlib
from pathlib import Path


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def path_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or over all files of a folder."""
    return tree_digest(path) if path.is_dir() else file_digest(path)


def tree_digest(folder: Path, leave_out: frozenset[str] = frozenset()) -> str:
    """Return the SHA-256 over the relative names and contents of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in leave_out:
            digest.update(f"{name}\0{file_digest(path)}\n".encode())
    return digest.hexdigest()
