"""The errors that this package raises on purpose; each message says what was found and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.nyc_taxi.quality import Check


class NycTaxiError(Exception):
    """Base of all errors that this package raises on purpose."""


class MonthError(NycTaxiError, ValueError):
    """A month is not written YYYY-MM, or lies where no data can be."""


class WeekError(NycTaxiError, ValueError):
    """A week is not given as the date of one of its days."""


class FleetError(NycTaxiError, ValueError):
    """A fleet is not in the catalogue."""


class SettingError(NycTaxiError, ValueError):
    """An environment variable has a value that it cannot have."""


class LayoutError(NycTaxiError):
    """A file's columns, or its row groups, are not as in any layout that the TLC has published."""


class NotPublishedError(NycTaxiError):
    """The TLC answers 403 or 404: it has not published the file, or has withdrawn it."""


class DownloadError(NycTaxiError):
    """A transfer failed for good, or what came is not the file that was asked for."""


class LoadError(NycTaxiError):
    """A month cannot be loaded, or failed a check; the warehouse is as it was before."""


class DamagedFileError(LoadError):
    """A file in raw/ cannot be read: it must be fetched again, and no retry of the load will help."""


class QualityError(LoadError):
    """A month breaks rules that no published month may break; `checks` are all that was found, by rule."""

    def __init__(self, message: str, checks: Sequence[Check] = ()) -> None:
        super().__init__(message)
        self.checks = checks


class ZonesError(NycTaxiError):
    """The zone lookup or the zone geometry is not what it should be."""


class RequestError(NycTaxiError, ValueError):
    """A request for a report cannot be run as it is; the message lists all that is wrong with it."""
