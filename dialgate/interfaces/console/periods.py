"""The periods that pages on past decisions offer."""

from datetime import timedelta
from typing import Final

from dialgate.core.local_time import day_in
from dialgate.core.model import Instant
from dialgate.interfaces.console.visit import Fields
from dialgate.interfaces.http.errors import Fault

# The first and the last day of each period, counted back from today. Another period is given by its days.
PERIODS: Final = {"today": (0, 0), "yesterday": (1, 1), "7d": (6, 0), "30d": (29, 0)}


def days_of(fields: Fields, zone: str, now: Instant) -> Fields:
    """Return the first and the last day of the period in a form. Raises `Fault`."""
    if fields["period"] == "range":
        return {name: fields.get(name, "") for name in ("first", "last")}
    if fields["period"] not in PERIODS:
        raise Fault(400, "request.invalid", "Choose one of the periods.", field="period")
    back = dict(zip(("first", "last"), PERIODS[fields["period"]], strict=True))
    return {name: (day_in(zone, now) - timedelta(days=days)).isoformat() for name, days in back.items()}
