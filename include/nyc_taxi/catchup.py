"""Where a fleet's catch-up begins. Read when DAG files are parsed."""

from datetime import date, timedelta

from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.months import monday_of


def start(fleet: str) -> date:
    """The first day of the first month: of `NYC_TAXI_FIRST_MONTH`, or of the fleet's first file if that is later."""
    return max(settings.first_month(), catalogue.fleet(fleet).first_month).first_day


def first_monday(fleet: str) -> date:
    """The Monday of the first week that lies entirely in months that the catch-up loads."""
    return monday_of(start(fleet) + timedelta(days=6))
