"""The errors that this package raises deliberately; each message says what was found and what to do.

Each class says whether a retry can help. `permanent=True` means that the same task, run again a minute later with the
same files, settings and request, would fail in the same way, so the task should fail without retries.
"""

from typing import ClassVar


class NycTaxiError(Exception):
    """Base class of all errors that this package raises deliberately. Each subclass must set `permanent`.

    Attributes:
        permanent: True if no retry can help.
    """

    permanent: ClassVar[bool]

    def __init_subclass__(cls, *, permanent: bool, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.permanent = permanent


class MonthError(NycTaxiError, ValueError, permanent=True):
    """A month does not have the form YYYY-MM, or no data can exist for it."""


class WeekError(NycTaxiError, ValueError, permanent=True):
    """A week is not given as a date."""


class FleetError(NycTaxiError, ValueError, permanent=True):
    """A fleet is not in the catalogue."""


class SettingError(NycTaxiError, ValueError, permanent=True):
    """An environment variable or a connection has an invalid value."""


class LayoutError(NycTaxiError, permanent=True):
    """A file's columns or row groups do not match any layout that the TLC has published."""


class NotPublishedError(NycTaxiError, permanent=True):
    """The TLC's site answers 403 or 404: the file has not been published, or has been withdrawn.

    This is permanent because a sensor waits for months, for far longer than retries would.
    """


class DownloadError(NycTaxiError, permanent=False):
    """A transfer failed, the response was not the requested file (an error page, for example), or the disk is full."""


class RefusedError(DownloadError, permanent=True):
    """The site refused the request (because of a wrong login, for example) and would refuse it again."""


class LoadError(NycTaxiError, permanent=False):
    """A month cannot be loaded now: a disk is full, or the file is missing (in a shared folder, perhaps only for now).

    This error and its subclasses leave the warehouse unchanged.
    """


class UnloadableFileError(LoadError, permanent=True):
    """A file can be read but not loaded: it has no rows, or the table cannot hold its values."""


class MissingDataError(LoadError, permanent=True):
    """The warehouse lacks the data that a task reads; another task has to load it first."""


class DamagedFileError(LoadError, permanent=True):
    """A file in raw/ cannot be read and must be downloaded again."""


class ZonesError(NycTaxiError, permanent=True):
    """The zone lookup or the zone shapes are missing or invalid."""


class RequestError(NycTaxiError, ValueError, permanent=True):
    """A request for a report is invalid; the message lists everything that is wrong with it."""
