"""Ask the TLC's site which months it has published."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import requests

from include.nyc_taxi import catalogue

REQUESTS_AT_ONCE = 4


Head = Callable[[str], requests.Response]
"""Send a HEAD for a path on the TLC's site, with a time-out; return the response, whatever its status."""


@dataclass(frozen=True)
class Answer:
    """What the site says of a month's file; `last_modified` as in the header."""

    published: bool
    last_modified: str | None = None


def ask_site(head: Head, wanted: Sequence[tuple[str, str]]) -> tuple[dict[tuple[str, str], Answer], str | None]:
    """Ask the site for months' files, four at a time, and no more of it once it could not be asked.

    Args:
        wanted: pairs of fleet and month.

    Returns:
        The answers by fleet and month, and in a few words why some are lacking, or None.
    """
    answers: dict[tuple[str, str], Answer] = {}
    problems: list[str] = []
    stop = threading.Event()

    def ask(fleet: str, month: str) -> None:
        if stop.is_set():
            return
        try:
            with head(catalogue.file_path(fleet, month)) as response:
                status, modified = response.status_code, response.headers.get("Last-Modified")
        except requests.RequestException as error:
            problems.append("no answer in time" if isinstance(error, requests.Timeout) else type(error).__name__)
            stop.set()
            return
        if status == requests.codes.ok:
            answers[fleet, month] = Answer(published=True, last_modified=modified)
        elif status in (requests.codes.forbidden, requests.codes.not_found):
            answers[fleet, month] = Answer(published=False)
        else:
            problems.append(f"status {status}")
            stop.set()

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        for done in [pool.submit(ask, fleet, month) for fleet, month in wanted]:
            done.result()
    return answers, problems[0] if problems else None
