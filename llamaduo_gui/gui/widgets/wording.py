"""Numbers as the window writes them: units, intervals, money, time and sizes."""

from __future__ import annotations

from dataclasses import dataclass

NO_BREAK = "\u00a0"
EN_DASH = "\u2013"
NO_VALUE = "\u2014"
_SIZE_UNITS = ("B", "KB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval, in the unit of its column; `n` counts its items."""

    estimate: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


def format_count(number: int) -> str:
    """1742 as `1,742`."""
    return f"{number:,}"


def format_of(done: int, total: int, units: str = "") -> str:
    """`412 of 690 steps`; without a known total, `412 steps`."""
    words = f"{done:,} of {total:,}" if total > 0 else f"{done:,}"
    return f"{words} {units}".strip()


def format_money(usd: float) -> str:
    """US dollars: two decimals, four below ten cents, so that small costs do not read zero."""
    decimals = 4 if 0 < abs(usd) < 0.1 else 2
    return f"${usd:,.{decimals}f}"


def format_spend(spent_usd: float, budget_usd: float | None) -> str:
    """`$3.42 of $25.00`, or only what was spent where no budget is set."""
    if budget_usd is None:
        return f"{format_money(spent_usd)} spent"
    return f"${spent_usd:,.2f} of ${budget_usd:,.2f}"


def format_duration(seconds: float) -> str:
    """Seconds as `8 s`, `9 min` or `1 h 12 min`."""
    if seconds < 59.5:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def format_eta(seconds: float) -> str:
    """`about 9 min left`; the last minute is told in steps of ten seconds."""
    if seconds < 59.5:
        tens = max(10, 10 * round(seconds / 10))
        return f"about {tens} s left"
    return f"about {format_duration(seconds)} left"


def format_number(value: float | None, decimals: int = 1) -> str:
    """A number with thousands separated; a dash where there is none."""
    return NO_VALUE if value is None else f"{value:,.{decimals}f}"


def format_percent(value: float, decimals: int = 1) -> str:
    """93.7 as `93.7 %` with a no-break space; `value` is in per cent."""
    return f"{value:.{decimals}f}{NO_BREAK}%"


def format_range(interval: Interval, decimals: int = 1) -> str:
    """The interval alone, `(84.1–88.0)`; empty where it is not known."""
    if interval.low is None or interval.high is None:
        return ""
    return f"({interval.low:.{decimals}f}{EN_DASH}{interval.high:.{decimals}f})"


def format_interval(interval: Interval, decimals: int = 1) -> str:
    """`86.2 (84.1–88.0)`, or the estimate alone where no interval is known."""
    estimate = f"{interval.estimate:.{decimals}f}"
    return f"{estimate} {format_range(interval, decimals)}".strip()


def format_size(size_bytes: float) -> str:
    """Bytes as `512 B`, `24 KB`, `1.9 GB` (powers of 1000, as disks and hubs count)."""
    size, power = float(size_bytes), 0
    while size >= 999.5 and power < len(_SIZE_UNITS) - 1:
        size, power = size / 1000, power + 1
    decimals = 1 if power and size < 9.95 else 0
    return f"{size:.{decimals}f}{NO_BREAK}{_SIZE_UNITS[power]}"
