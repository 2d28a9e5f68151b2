"""The errors that this package raises on purpose; each message says what was found and what to do.

Each class says whether a retry can help: `permanent=True` where the same task, run again in a minute with the same
files, settings and request, can only fail in the same way. Whoever runs tasks then fails them at once.
"""

from typing import ClassVar


class NycTaxiError(Exception):
    """Base of all errors that this package raises on purpose. A class derived from it must decide on `permanent`.

    Attributes:
        permanent: whether no retry can help.
    """

    permanent: ClassVar[bool]

    def __init_subclass__(cls, *, permanent: bool, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.permanent = permanent


class MonthError(NycTaxiError, ValueError, permanent=True):
    """A month is not written YYYY-MM, or lies where no data can be."""


class WeekError(NycTaxiError, ValueError, permanent=True):
    """A week is not given as the date of one of its days."""


class FleetError(NycTaxiError, ValueError, permanent=True):
    """A fleet is not in the catalogue."""


class SettingError(NycTaxiError, ValueError, permanent=True):
    """An environment variable, or a connection, has a value that it cannot have."""


class LayoutError(NycTaxiError, permanent=True):
    """A file's columns, or its row groups, are not as in any layout that the TLC has published."""


class NotPublishedError(NycTaxiError, permanent=True):
    """The TLC answers 403 or 404: it has not published the file, or has withdrawn it.

    Permanent, for months are waited for by a sensor, which asks for far longer than retries would.
    """


class DownloadError(NycTaxiError, permanent=False):
    """A transfer failed, what came is not the file that was asked for (an error page, say), or the disk is full."""


class RefusedError(DownloadError, permanent=True):
    """The site refuses the request as it is (a wrong login, say): it would refuse the same request again."""


class LoadError(NycTaxiError, permanent=False):
    """A month cannot be loaded now: a disk is full, or the file is not there (yet, on a folder that machines share).

    The warehouse is as it was before; so it is after all kinds of this error.
    """


class UnloadableFileError(LoadError, permanent=True):
    """A file can be read, but can never be loaded as it is: it has no rows, or the table cannot hold its values."""


class MissingDataError(LoadError, permanent=True):
    """What a task reads is not in the warehouse; another task has to load it first."""


class DamagedFileError(LoadError, permanent=True):
    """A file in raw/ cannot be read: it must be fetched again."""


class ZonesError(NycTaxiError, permanent=True):
    """The zone lookup or the zone geometry is not what it should be."""


class RequestError(NycTaxiError, ValueError, permanent=True):
    """A request for a report cannot be run as it is; the message lists all that is wrong with it."""
