"""Fetch a file over HTTP: streamed, verified, retried, and complete or absent under its final name."""

import errno
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol

import requests
import tenacity

from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.errors import DownloadError, NotPublishedError, NycTaxiError, RefusedError
from include.nyc_taxi.files import replacing
from include.nyc_taxi.source.parquet import verify_parquet
from include.nyc_taxi.urls import without_login

log = logging.getLogger(__name__)

Verify = Callable[[Path], None]
"""Raise DownloadError when a complete transfer is not the file that was asked for; or another error of this package,
where it is that file and can never be used."""


class Site(Protocol):
    """Where files come from: the hook for the TLC's site, or anything that answers alike."""

    def fetch(self, path: str, headers: Mapping[str, str]) -> requests.Response:
        """Send a GET; return the response with its body not yet read, whatever its status."""
        ...

    def url(self, path: str) -> str:
        """The full address of `path`, for messages and for the record: without a login."""
        ...


CHUNK_BYTES = 1 << 20
ATTEMPTS = 6
MAX_WAIT_SECONDS = 300.0
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_TRANSIENT = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


@dataclass(frozen=True)
class Edition:
    """Which edition of a file is here. Kept beside the file as `<name>.edition.json`.

    Attributes:
        url: where it came from.
        etag, last_modified: as the server said, or None where it said nothing.
        bytes: the file's size.
    """

    url: str
    etag: str | None
    last_modified: str | None
    bytes: int


@dataclass(frozen=True)
class Download:
    """What a download did.

    Attributes:
        path: the file.
        edition: which edition it is.
        fetched: False where the edition on the server was here already.
    """

    path: Path
    edition: Edition
    fetched: bool


class TransientDownloadError(DownloadError, permanent=False):
    """Worth another attempt; `retry_after` is in seconds, from the server's Retry-After."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def read_edition(path: Path) -> Edition | None:
    """The edition of the file at `path`, or None where it is not known or the file is not as it was fetched."""
    try:
        edition = Edition(**json.loads(_edition_path(path).read_text()))
        edition = replace(edition, url=without_login(edition.url))  # older versions noted the login, too
        return edition if path.stat().st_size == edition.bytes else None
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _note(path: Path, edition: Edition) -> None:
    with replacing(_edition_path(path)) as temporary:
        temporary.write_text(_note_text(edition))


def _note_text(edition: Edition) -> str:
    return json.dumps(asdict(edition), indent=1) + "\n"


def forget_edition(path: Path) -> None:
    """Forget which edition the file at `path` is, so that the next download fetches it anew.

    For a file that turns out to be damaged: while its edition is known, the site answers that it has not changed (304).
    """
    _edition_path(path).unlink(missing_ok=True)


def month_path(fleet: str, month: str) -> Path:
    """Where a month's file is kept, as the TLC published it."""
    return settings.raw_dir() / catalogue.file_name(fleet, month)


def download_month(site: Site, fleet: str, month: str) -> Download:
    """Bring a month's file to its place in raw/; see `download` for what that does and raises."""
    return download(site, catalogue.file_path(fleet, month), month_path(fleet, month), verify_parquet)


def download(
    site: Site,
    source: str,
    path: Path,
    verify: Verify,
    *,
    attempts: int = ATTEMPTS,
    max_wait: float = MAX_WAIT_SECONDS,
) -> Download:
    """Bring the file at `source`, a path on the site, to `path`, unless that edition is there (conditional GET).

    A broken, refused or timed-out transfer and the statuses 408, 425, 429 and 5xx are tried again: after as many
    seconds as Retry-After says, else with exponential backoff up to `max_wait` seconds. A server that asks for more
    than `max_wait` is not kept a worker for: that is an error, and the task's own retry comes later.
    Memory does not grow with the file.

    Raises:
        NotPublishedError: 403 or 404.
        RefusedError: another status from 400 to 499 that is not tried again.
        DownloadError: anything else, when attempts are used up or at once when another attempt would not help.
        NycTaxiError: another error of `verify`. In any case, whatever was at `path` before is still there.
    """
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(attempts),
        wait=_wait(max_wait),
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, TransientDownloadError) and (error.retry_after or 0) <= max_wait
        ),
        before_sleep=tenacity.before_sleep_log(log, logging.WARNING),
        reraise=True,
    )
    return retrying(_download_once, site, source, path, verify)


def _wait(max_wait: float) -> Callable[[tenacity.RetryCallState], float]:
    backoff = tenacity.wait_exponential_jitter(initial=1, max=max_wait)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, TransientDownloadError) else None
        return asked if asked is not None else backoff(state)

    return wait


def _download_once(site: Site, source: str, path: Path, verify: Verify) -> Download:
    here, url = read_edition(path), without_login(site.url(source))
    if here and here.url != url:
        here = None  # another site's file: its dates and tags say nothing here
    try:
        with site.fetch(source, _conditions(here)) as response:
            if response.status_code == requests.codes.not_modified and here:
                log.info("%s: the edition on the server is here already (%s), not fetched again", path.name, here.etag)
                if _edition_path(path).read_text() != _note_text(here):  # it has a login in it; see `read_edition`
                    _note(path, here)
                return Download(path, here, fetched=False)
            _check_status(response, url)
            edition = _receive(response, url, path, verify)
    except _TRANSIENT as error:
        raise TransientDownloadError(f"{url}: the connection failed or broke off: {error}") from error
    log.info("%s: fetched %s bytes, ETag %s", path.name, f"{edition.bytes:,}", edition.etag)
    return Download(path, edition, fetched=True)


def _conditions(here: Edition | None) -> dict[str, str]:
    # Compressed transfer would make Content-Length the length of something else than the file.
    headers = {"Accept-Encoding": "identity"}
    if here and here.etag:
        headers["If-None-Match"] = here.etag
    elif here and here.last_modified:
        headers["If-Modified-Since"] = here.last_modified
    return headers


def _check_status(response: requests.Response, url: str) -> None:
    status = response.status_code
    if status == requests.codes.ok:
        return
    found = f"{url}: expected status 200, found {status} {response.reason}"
    if status in (requests.codes.forbidden, requests.codes.not_found):
        raise NotPublishedError(
            f"{found}: the TLC has not published the file, or has withdrawn it. To wait for a month, clear "
            "`wait_for_file` of this run; for another file, check NYC_TAXI_TLC_URL and the connection `tlc`"
        )
    if status in RETRIED_STATUSES:
        raise TransientDownloadError(found, _retry_after(response.headers.get("Retry-After")))
    kind = RefusedError if 400 <= status < 500 else DownloadError
    raise kind(f"{found}; check NYC_TAXI_TLC_URL and the connection `tlc`, then clear this task")


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which is a number of seconds or an HTTP date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _receive(response: requests.Response, url: str, path: Path, verify: Verify) -> Edition:
    """Write the body under a temporary name, verify it, move it into place, then note its edition."""
    try:
        with replacing(path) as temporary:
            size = 0
            with temporary.open("wb") as out:
                for chunk in response.iter_content(CHUNK_BYTES):
                    size += out.write(chunk)
            _check_length(response, url, size)
            try:
                verify(temporary)
            except NycTaxiError as error:
                raise type(error)(f"{url}: {error}".replace(temporary.name, path.name)) from error
            # While the new file has no note of its own it must not have the old one's: a kill between the two
            # steps then costs one more fetch, and never passes one edition off as the other.
            _edition_path(path).unlink(missing_ok=True)
        edition = Edition(
            url=url,
            etag=response.headers.get("ETag"),
            last_modified=response.headers.get("Last-Modified"),
            bytes=size,
        )
        _note(path, edition)
        return edition
    except OSError as error:
        # requests' own errors are OSErrors too: those are the transfer's and are retried by the caller.
        if isinstance(error, requests.RequestException):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(
                f"{path}: no space left while writing {url}; the temporary file is removed. "
                "Free some space or set NYC_TAXI_DATA_DIR to a larger disk, then clear this task"
            ) from error
        raise DownloadError(f"{path}: cannot be written: {error}") from error


def _check_length(response: requests.Response, url: str, size: int) -> None:
    announced = response.headers.get("Content-Length")
    if announced is not None and int(announced) != size:
        raise TransientDownloadError(f"{url}: expected {announced} bytes (Content-Length), received {size}")


def _edition_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.edition.json")
