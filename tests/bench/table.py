"""The table that `make bench` ends with."""

from dataclasses import dataclass

UNITS = {"s": "{:,.3f} s", "ms": "{:,.1f} ms", "MiB": "{:,.0f} MiB", "times": "{:,.1f} times"}
RATIOS = ("s", "times")
"""The units whose limit is one for the ratio of the two figures."""
HEADING = ("ours, month 60", "bare, month 1")


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        what: what was measured.
        unit: of `ours` and `other`. "s" and "times" have a limit for the ratio of the two, "ms" and "MiB" for `ours`.
        ours: the figure of our code, or of month 60.
        other: the figure of the bare thing, or of month 1; None where there is nothing to compare with.
        limit: None where the figure is there for information only.
        target: of the ratio; missing it fails nothing. None where there is none.
    """

    what: str
    unit: str
    ours: float
    other: float | None = None
    limit: float | None = None
    target: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times `other` it is."""
        return self.ours / self.other if self.other else None

    @property
    def exceeded(self) -> bool:
        """Whether there is a limit, and it is exceeded."""
        judged = self.ratio if self.unit in RATIOS else self.ours
        return None not in (self.limit, judged) and judged > self.limit

    def cells(self) -> tuple[str, ...]:
        """What the table shows of it, but for its target."""
        figure = UNITS[self.unit].format
        verdict = "TOO MUCH" if self.unit == "MiB" else "TOO SLOW"
        return (
            self.what,
            figure(self.ours),
            "-" if self.other is None else figure(self.other),
            "-" if self.ratio is None else f"{self.ratio:.3f}",
            "-" if self.limit is None else f"{self.limit:.2f}" if self.unit in RATIOS else figure(self.limit),
            "-" if self.limit is None else verdict if self.exceeded else "ok",
        )

    def target_cells(self) -> tuple[str, str]:
        """What the table shows of its target."""
        if self.target is None or self.ratio is None:
            return "-", "-"
        return f"{self.target:.2f}", "missed" if self.ratio > self.target else "ok"


def table(rows: list[Row], heading: tuple[str, str] = HEADING) -> str:
    """All rows, columns separated by two or more spaces; `heading` is over the figures of `ours` and `other`.

    Where a row has a target, there are columns for it.
    """
    lines = [("what", *heading, "ratio", "limit", ""), *(row.cells() for row in rows)]
    if any(row.target for row in rows):
        targets = [("target", ""), *(row.target_cells() for row in rows)]
        lines = [line[:4] + target + line[4:] for line, target in zip(lines, targets, strict=True)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number in (0, 5, 7) else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
