"""Ask the TLC's site about files with HEAD requests: is a file published, and has it changed?"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import requests

Key = TypeVar("Key")

Head = Callable[[str, Mapping[str, str]], requests.Response]
"""Send a HEAD request for an address with these headers and a timeout; return the response, whatever its status."""


@dataclass(frozen=True)
class Question:
    """A file to ask about.

    Attributes:
        address: what `Head` takes: the file's path or URL.
        etag, last_modified: the known edition, if any; the site then says only whether the file has changed.
        required: a header without which an answer with status 200 is useless.
    """

    address: str
    etag: str | None = None
    last_modified: str | None = None
    required: Literal["ETag", "Last-Modified"] | None = None


@dataclass(frozen=True)
class Answer:
    """What the site says about a file.

    Attributes:
        published: False for status 403 or 404.
        last_modified, etag: the headers of the current edition. If the file has not changed or is not published, the
            edition in the question.
    """

    published: bool
    last_modified: str | None = None
    etag: str | None = None


def conditions(etag: str | None, last_modified: str | None) -> dict[str, str]:
    """The headers that request a file only if it is not this edition; None, None requests it unconditionally."""
    # A compressed transfer would have another ETag and another Content-Length than the file.
    headers = {"Accept-Encoding": "identity"}
    if etag:
        headers["If-None-Match"] = etag
    elif last_modified:
        headers["If-Modified-Since"] = last_modified
    return headers


def ask_site(
    head: Head, questions: Mapping[Key, Question], *, at_once: int = 4, max_problems: int = 1
) -> tuple[dict[Key, Answer], dict[Key, str]]:
    """Ask the site about several files, `at_once` at a time; stop after `max_problems` requests without an answer.

    Returns:
        The answers, and for each request without one a short reason; both by the keys of `questions`. Neither contains
        the files that were not asked about any more.
    """
    answers: dict[Key, Answer] = {}
    problems: dict[Key, str] = {}

    def ask(key: Key) -> None:
        if len(problems) >= max_problems:
            return
        answer = _ask(head, questions[key])
        if isinstance(answer, Answer):
            answers[key] = answer
        else:
            problems[key] = answer

    with ThreadPoolExecutor(at_once) as pool:
        for done in [pool.submit(ask, key) for key in questions]:
            done.result()
    return answers, problems


def _ask(head: Head, question: Question) -> Answer | str:
    """The answer to one question, or why there is none."""
    try:
        with head(question.address, conditions(question.etag, question.last_modified)) as response:
            status, headers = response.status_code, response.headers
    except requests.Timeout:
        return "no answer in time"
    except requests.RequestException as error:
        return type(error).__name__
    if status in (requests.codes.not_modified, requests.codes.forbidden, requests.codes.not_found):
        return Answer(status == requests.codes.not_modified, question.last_modified, question.etag)
    if status != requests.codes.ok:
        return f"status {status}"
    if question.required and not headers.get(question.required):
        return f"status 200 without {question.required}, which it had when it was loaded"
    return Answer(True, headers.get("Last-Modified"), headers.get("ETag"))
