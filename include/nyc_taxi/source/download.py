"""Download a file over HTTP: streamed, retried, verified, and either complete under its final name or absent."""

import errno
import functools
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
from include.nyc_taxi.source.site import conditions
from include.nyc_taxi.urls import without_login

log = logging.getLogger(__name__)

Verify = Callable[[Path], None]
"""Raise DownloadError if a completely transferred file is not the requested one, or another error of this package if it
is the requested one but can never be used."""


class Site(Protocol):
    """The site to download from: the hook for the TLC's site, or any object with the same methods."""

    def fetch(self, path: str, headers: Mapping[str, str]) -> requests.Response:
        """Send a GET request; return the response, whatever its status, without reading its body."""
        ...

    def url(self, path: str) -> str:
        """The full URL of `path`, without a login, for messages and records."""
        ...


CHUNK_BYTES = 1 << 20
ATTEMPTS = 6
MAX_WAIT_SECONDS = 300.0
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_TRANSIENT = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


@dataclass(frozen=True)
class Edition:
    """The edition of a downloaded file. It is stored beside the file as `<name>.edition.json`.

    Attributes:
        url: where the file came from.
        etag, last_modified: the server's headers, or None if it did not send them.
        bytes: the file's size.
    """

    url: str
    etag: str | None
    last_modified: str | None
    bytes: int


@dataclass(frozen=True)
class Download:
    """The result of a download.

    Attributes:
        path: the file.
        edition: its edition.
        fetched: False if the server's edition had been downloaded before.
    """

    path: Path
    edition: Edition
    fetched: bool


class TransientDownloadError(DownloadError, permanent=False):
    """An error that another attempt may cure. `retry_after` is the server's Retry-After in seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def read_edition(path: Path) -> Edition | None:
    """The edition of the file at `path`, or None if it is unknown or the file has changed since its download."""
    try:
        beside = _edition_path(path)
        facts = beside.stat()
        edition = _edition_in(str(beside), facts.st_ino, facts.st_size, facts.st_mtime_ns)
        return edition if path.stat().st_size == edition.bytes else None
    except (FileNotFoundError, ValueError, TypeError):
        return None


@functools.lru_cache(maxsize=100_000)  # the page of the warehouse asks for every month again and again
def _edition_in(beside: str, *_version: int) -> Edition:
    """The edition in a file. Whoever writes it replaces it, so each version of it has its own number, size and time."""
    edition = Edition(**json.loads(Path(beside).read_text()))
    return replace(edition, url=without_login(edition.url))  # older versions recorded the login too


def _record(path: Path, edition: Edition) -> None:
    with replacing(_edition_path(path)) as temporary:
        temporary.write_text(_as_text(edition))


def _as_text(edition: Edition) -> str:
    return json.dumps(asdict(edition), indent=1) + "\n"


def forget_edition(path: Path) -> None:
    """Delete the record of the edition of the file at `path`, so that the next download fetches the file again.

    This is for damaged files: as long as the edition is known, the site answers that the file has not changed (304).
    """
    _edition_path(path).unlink(missing_ok=True)


def month_path(fleet: str, month: str) -> Path:
    """The path of a month's file, which is stored exactly as the TLC published it."""
    return settings.raw_dir() / catalogue.file_name(fleet, month)


def download_month(site: Site, fleet: str, month: str) -> Download:
    """Download a month's file into raw/; see `download` for details and errors."""
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
    """Download the file at `source`, a path on the site, to `path`, unless `path` already has that edition.

    The request is a conditional GET. Broken, refused and timed-out transfers and the statuses 408, 425, 429, 500, 502,
    503 and 504 are retried after the seconds in Retry-After, or else with exponential backoff of up to `max_wait`
    seconds. If the server asks for more than `max_wait`, the download fails instead of occupying a worker; the task's
    own retry comes later. Memory use does not depend on the file's size.

    Raises:
        NotPublishedError: the status is 403 or 404.
        RefusedError: another status from 400 to 499 that is not retried.
        DownloadError: anything else, after the last attempt or as soon as another attempt cannot help.
        NycTaxiError: another error from `verify`. After any error, the previous file is still at `path`.
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
    local, url = read_edition(path), without_login(site.url(source))
    if local and local.url != url:
        local = None  # ETags and dates of another site cannot be compared
    try:
        headers = conditions(local.etag, local.last_modified) if local else conditions(None, None)
        with site.fetch(source, headers) as response:
            if response.status_code == requests.codes.not_modified and local:
                log.info("%s: not downloaded again, because edition %s has not changed", path.name, local.etag)
                if _edition_path(path).read_text() != _as_text(local):  # the record has a login; see `read_edition`
                    _record(path, local)
                return Download(path, local, fetched=False)
            _check_status(response, url)
            edition = _receive(response, url, path, verify)
    except _TRANSIENT as error:
        raise TransientDownloadError(f"{url}: the connection failed or was interrupted: {error}") from error
    log.info("%s: downloaded %s bytes, ETag %s", path.name, f"{edition.bytes:,}", edition.etag)
    return Download(path, edition, fetched=True)


def _check_status(response: requests.Response, url: str) -> None:
    status = response.status_code
    if status == requests.codes.ok:
        return
    found = f"{url}: expected status 200, found {status} {response.reason}"
    if status in (requests.codes.forbidden, requests.codes.not_found):
        raise NotPublishedError(
            f"{found}: the TLC has not published the file, or has withdrawn it. To wait for a month, clear "
            "`wait_for_file` of this run. For any other file, check NYC_TAXI_TLC_URL and the connection `tlc`"
        )
    if status in RETRIED_STATUSES:
        raise TransientDownloadError(found, _retry_after(response.headers.get("Retry-After")))
    kind = RefusedError if 400 <= status < 500 else DownloadError
    raise kind(f"{found}; check NYC_TAXI_TLC_URL and the connection `tlc`, then clear this task")


def _retry_after(value: str | None) -> float | None:
    """The seconds to wait according to a Retry-After header, which holds a number of seconds or an HTTP date."""
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
    """Write the body under a temporary name, verify it, move it into place, and record its edition."""
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
            # The old record must not stand beside the new file. A kill before the new record is written then costs one
            # more download, but never makes one edition pass for the other.
            _edition_path(path).unlink(missing_ok=True)
        edition = Edition(
            url=url,
            etag=response.headers.get("ETag"),
            last_modified=response.headers.get("Last-Modified"),
            bytes=size,
        )
        _record(path, edition)
        return edition
    except OSError as error:
        # The errors of requests are OSErrors too. They concern the transfer, which the caller retries.
        if isinstance(error, requests.RequestException):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(
                f"{path}: no space left while writing {url}; the temporary file has been deleted. "
                "Free some space or set NYC_TAXI_DATA_DIR to a larger disk, then clear this task"
            ) from error
        raise DownloadError(f"{path}: cannot be written: {error}") from error


def _check_length(response: requests.Response, url: str, size: int) -> None:
    announced = response.headers.get("Content-Length")
    if announced is not None and int(announced) != size:
        raise TransientDownloadError(f"{url}: expected {announced} bytes (Content-Length), received {size}")


def _edition_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.edition.json")
