"""Paths of a lake's files: which ones DuckLake can work with, and when two of them are the same place.

DuckLake compares the texts of paths, not the places they lead to, and lists its files by a pattern. Where a path can be
written in two ways, or means more than one place as a pattern, its maintenance takes files in use for abandoned ones.
"""

import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

_IN_PATTERNS = re.compile(r"[*?\[\]{}\\]")
_OF_URLS = re.compile(r"[#%]")


def is_url(path: str) -> bool:
    """Whether it is a URL, of object storage, and no path of this machine."""
    return "://" in path


def plain(data_path: str) -> tuple[str, str]:
    """The one spelling of a folder or URL that DuckLake can work with, with a slash at its end.

    Returns:
        The spelling, and what is wrong with the path: a sentence where it has no such spelling, else empty.
    """
    scheme, separator, rest = data_path.rpartition("://") if is_url(data_path) else ("", "", data_path)
    place = f"{scheme}{separator}{_without_repetition(rest.lstrip('/') if scheme else rest)}/"
    unfit = sorted({*_IN_PATTERNS.findall(rest), *(_OF_URLS.findall(rest) if scheme else [])})
    wrong = ""
    if unfit:
        wrong = f"expected a path without {' '.join(unfit)}, which DuckLake takes for a pattern, found {data_path}"
    elif not rest.isprintable() or rest != rest.strip():
        wrong = f"expected a path without control characters and without spaces at its ends, found {data_path!r}"
    elif ".." in rest.split("/"):
        wrong = f"expected a path without .., which a link can lead elsewhere, found {data_path}"
    elif scheme.lower() == "file":
        wrong = f"expected a path without file://, found {data_path}"
    elif not scheme and not rest.startswith("/"):
        wrong = f"expected an absolute path, because tasks run in other folders, found {data_path or 'nothing'}"
    elif scheme and not rest.strip("/"):
        wrong = f"expected a bucket, found {data_path}"
    elif not scheme and not rest.strip("/."):
        wrong = f"expected a folder of its own, found {data_path}"
    return place, wrong


def is_same_text(data_path: str) -> bool:
    """Whether the path is written as DuckLake writes the names of the files below it."""
    return plain(data_path)[0] == data_path


def is_same(one: str, other: str) -> bool:
    """Whether two spellings mean the same place."""
    return _place(one) == _place(other)


def is_below(file: str, folder: str) -> bool:
    """Whether the file is somewhere in the folder, in whatever spelling."""
    return _place(file).startswith(_place(folder).rstrip("/") + "/")


def in_both(files: Sequence[str], named: Iterable[str]) -> list[str]:
    """Those of the files that are, or may be, among the named ones.

    A file is known by its place, and, lest one name for a folder is not seen to be another, by its own name and that
    of the folder it is in: DuckLake and `staged` give each file a name of its own.
    """
    known: set[object] = set()
    for name in named:
        known |= {_place(name), _tail(name)}
    return [file for file in files if _place(file) in known or _tail(file) in known]


def _without_repetition(path: str) -> str:
    """The path without repeated slashes, steps that lead nowhere, and a slash at its end."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def _place(path: str) -> str:
    if path.lower().startswith("file:"):
        path = "/" + path[len("file:") :].lstrip("/")
    if is_url(path):
        # A bucket has one name, whatever protocol it is asked by; a character may be written as its number.
        return posixpath.normpath(unquote(path.partition("://")[2]).lstrip("/"))
    return os.path.realpath(path)


def _tail(path: str) -> tuple[str, ...]:
    return tuple(_without_repetition(unquote(path)).split("/")[-2:])
