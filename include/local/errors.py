"""How a command ends when it cannot do what it was asked for: with one sentence and an exit status."""

from __future__ import annotations

from include.nyc_taxi.errors import FleetError, MonthError, NycTaxiError, SettingError

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130


class CommandError(Exception):
    """The command cannot go on; the message says why, and what to do. Every command may raise it: `main` prints it.

    Args:
        status: the exit status of the command.
    """

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def explained(error: Exception) -> CommandError | None:
    """The error as a user should read it; None for an error that is a fault of this program."""
    if isinstance(error, CommandError):
        return error
    if isinstance(error, FleetError | MonthError | SettingError):
        return CommandError(str(error), WRONG_USE)
    if isinstance(error, NycTaxiError):
        return CommandError(str(error))
    from sqlalchemy.exc import OperationalError  # these two imports take seconds

    from warehouse_hook import WarehouseLockedError

    if isinstance(error, WarehouseLockedError):
        return CommandError(str(error))
    if isinstance(error, OperationalError):
        return CommandError(f"Airflow's metadata database does not answer: {error.orig}. Run the same command again.")
    return None
