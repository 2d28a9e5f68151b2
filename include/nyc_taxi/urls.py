"""Addresses without their logins: only these are logged, stored or shown."""

import re
from typing import NamedTuple
from urllib.parse import unquote

# The login ends at the last @ before the path. A password may even contain an unquoted slash: otherwise its first part
# would be read as an invalid port, and the error about that would repeat the whole address.
_LOGIN = re.compile(r"((?:[a-z][a-z0-9+.-]*:)?//)?([^/?#\s]*|[^/?#\s:\[]*:(?![0-9]*(?:[/?#]|$))\S*)@", re.IGNORECASE)


class Login(NamedTuple):
    """A user's name and password, decoded; either may be empty."""

    user: str
    password: str


def split_login(url: str) -> tuple[str, Login | None]:
    """Split an address into the address without its login, and the login or None.

    Args:
        url: with or without a scheme: "https://me:secret@host:8000/path" or "me:secret@host".
    """
    found = _LOGIN.match(url)
    if not found:
        return url, None
    user, _, password = found[2].partition(":")
    return (found[1] or "") + url[found.end() :], Login(unquote(user), unquote(password))


def without_login(url: str) -> str:
    """The address without a user's name and password; unchanged if it has none."""
    return split_login(url)[0]
