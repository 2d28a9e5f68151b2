"""Paths of a lake's files: which paths DuckLake can handle, and whether two paths lead to the same place.

DuckLake compares paths as text, and lists its files with a pattern. If a path can be spelled in two ways, or matches
more than one place as a pattern, DuckLake's maintenance treats files in use as abandoned.
"""

import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

_IN_PATTERNS = re.compile(r"[*?\[\]{}\\]")
_OF_URLS = re.compile(r"[#%]")


def is_url(path: str) -> bool:
    """Whether the path is a URL of object storage, not a path on this machine."""
    return "://" in path


def plain(data_path: str) -> tuple[str, str]:
    """The only spelling of a folder or URL that DuckLake can handle, with a trailing slash.

    Returns:
        The spelling, and an error message if DuckLake cannot handle the path in any spelling, else an empty string.
    """
    scheme, separator, rest = data_path.rpartition("://") if is_url(data_path) else ("", "", data_path)
    place = f"{scheme}{separator}{_without_repetition(rest.lstrip('/') if scheme else rest)}/"
    unfit = sorted({*_IN_PATTERNS.findall(rest), *(_OF_URLS.findall(rest) if scheme else [])})
    wrong = ""
    if unfit:
        wrong = f"expected a path without {' '.join(unfit)}, which DuckLake interprets as a pattern, found {data_path}"
    elif not rest.isprintable() or rest != rest.strip():
        wrong = f"expected a path without control characters and without spaces at either end, found {data_path!r}"
    elif ".." in rest.split("/"):
        wrong = f"expected a path without .., because a link can lead elsewhere, found {data_path}"
    elif scheme.lower() == "file":
        wrong = f"expected a path without file://, found {data_path}"
    elif not scheme and not rest.startswith("/"):
        wrong = f"expected an absolute path, because tasks run in other folders, found {data_path or 'nothing'}"
    elif scheme and not rest.strip("/"):
        wrong = f"expected a URL with a bucket, found {data_path}"
    elif not scheme and not rest.strip("/."):
        wrong = f"expected a folder for the lake alone, found {data_path}"
    return place, wrong


def is_same_text(data_path: str) -> bool:
    """Whether the path has the spelling that DuckLake uses in the names of the files below it."""
    return plain(data_path)[0] == data_path


def is_same(one: str, other: str) -> bool:
    """Whether two paths lead to the same place."""
    return _place(one) == _place(other)


def is_below(file: str, folder: str) -> bool:
    """Whether the file is below the folder, whatever the spelling of both."""
    return _place(file).startswith(_place(folder).rstrip("/") + "/")


def in_both(files: Sequence[str], others: Iterable[str]) -> list[str]:
    """The files that are, or may be, among the others.

    Files are compared by their place, and also by their name and the name of their folder, because two paths to the
    same folder may not look alike. Files of different places have different names, from DuckLake and from `staged`.
    """
    known: set[object] = set()
    for other in others:
        known |= {_place(other), _tail(other)}
    return [file for file in files if _place(file) in known or _tail(file) in known]


def _without_repetition(path: str) -> str:
    """The path without repeated slashes, `.` and a trailing slash."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def _place(path: str) -> str:
    if path.lower().startswith("file:"):
        path = "/" + path[len("file:") :].lstrip("/")
    if is_url(path):
        # A bucket has the same name in all protocols, and characters may be percent-encoded.
        return posixpath.normpath(unquote(path.partition("://")[2]).lstrip("/"))
    return os.path.realpath(path)


def _tail(path: str) -> tuple[str, ...]:
    return tuple(_without_repetition(unquote(path)).split("/")[-2:])
