"""Addresses without what is secret in them: only these are logged, stored or shown."""

import re
from typing import NamedTuple
from urllib.parse import unquote

# The login ends at the last @ before the path. A password with a bare slash is taken for one, too: without that its
# first part would be a port that is no number, and the error about it would repeat the whole address.
_LOGIN = re.compile(r"((?:[a-z][a-z0-9+.-]*:)?//)?([^/?#\s]*|[^/?#\s:\[]*:(?![0-9]*(?:[/?#]|$))\S*)@", re.IGNORECASE)


class Login(NamedTuple):
    """A user's name and password, as they are sent; either may be empty."""

    user: str
    password: str


def split_login(url: str) -> tuple[str, Login | None]:
    """The address without its login, and the login, or None where there is none.

    Args:
        url: with or without a scheme: "https://me:secret@host:8000/path" or "me:secret@host".
    """
    found = _LOGIN.match(url)
    if not found:
        return url, None
    user, _, password = found[2].partition(":")
    return (found[1] or "") + url[found.end() :], Login(unquote(user), unquote(password))


def without_login(url: str) -> str:
    """The address without the user's name and password in it; all others as they are."""
    return split_login(url)[0]
