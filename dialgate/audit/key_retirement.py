"""Key retirement, which destroys a month's keys after the retention term and so makes the month's decisions anonymous.

The log and its hash chain stay unchanged. GDPR art. 5(1)(e), 17(3)(e) and 18: decisions may be kept for legal claims,
but linked to a person only as long as a claim is possible.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product

from msgspec import Struct
from msgspec.structs import replace

from dialgate.audit.legal_holds import HoldRefused, Holds
from dialgate.config import decision_retention
from dialgate.config.configuration import Config
from dialgate.core.model import Instant
from dialgate.crypto.keys import Keys
from dialgate.decision_log import span
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import month_of


class Month(Struct, frozen=True, kw_only=True):
    """The log's decisions from one month."""

    month: str
    allowed: int
    refused: int
    over_from: str  # first month (UTC) after the retention term
    over: bool
    held: int = 0  # decisions about numbers under a legal hold, which stay linked to their numbers
    partial: bool = False  # segments of it can be missing, so it is not over while a hold is in force


def months(config: Config, now: Instant) -> list[Month]:
    """Return the months that have keys, also of other nodes, oldest first. The newest month is never over, because its keys are in use.

    Raises `LogDamaged`, `KeysUnusable`, `OSError`, `HoldRefused`.
    """
    chains, keys = Chains(config.data, config.shipped), Keys.open(config.data / "keys.json")
    counts = sum(
        (reader.decision_counts() for reader in chains.readers.values()), Counter[tuple[str, str, bool]]()
    )
    numbers = Holds(config.data, keys).under().numbers
    hashes = [hashed for number in numbers for hashed in chains.hashes(number)]
    held = Counter(month_of(record.at) for _, record in chains.find_decisions(hashes))
    terms = decision_retention.terms(config.settings.retention, config.laws, now)
    is_partial, names = _partial_months(chains), sorted(chains.months())
    result = [_month(terms, name, counts, now, partial=is_partial(name)) for name in names]
    return [
        replace(
            month,
            held=held[month.month],
            over=month.over and month.month != names[-1] and not (month.partial and numbers),
        )
        for month in result
    ]


def retire(config: Config, keys: Keys, month: str) -> int:
    """Destroy the keys for `month`. Return how many decision ids were saved for legal holds.

    These ids are saved first, so that decisions under a legal hold stay linked to their numbers. Raises the same errors
    as `months`, and `HoldRefused` if a hold is in force and segments of the month are missing.
    """
    chains = Chains(config.data, config.shipped)
    partial = _partial_months(chains)(month)

    def records_of(number: str) -> list[str]:
        if partial:
            raise HoldRefused(
                f"{month} is not retired: segments that can hold its decisions are missing from the log, and a legal hold"
                " is in force. Bring the segments back first."
            )
        return [record.id for _, record in chains.find_decisions(chains.hashes(number, month))]

    def destroy() -> None:
        if month in keys.live():
            keys.retire(month)

    return Holds(config.data, keys).keep(records_of, destroy)


def _partial_months(chains: Chains) -> Callable[[str], bool]:
    """Return a function that returns whether segments of a month (`YYYY-MM`, UTC) can be missing from the log."""
    readers = chains.readers.values()
    gaps = [gap for reader in readers for gap in reader.segments.gaps()]

    def is_partial(name: str) -> bool:
        month = span.month(name)
        return not readers or any(begin < month.until and end >= month.since for begin, end in gaps)

    return is_partial


def _month(
    retention: Sequence[decision_retention.Retention],
    name: str,
    counts: Counter[tuple[str, str, bool]],
    now: Instant,
    *,
    partial: bool,
) -> Month:
    """Return a month with its retention term."""
    own = {(country, allow): count for (month, country, allow), count in counts.items() if month == name}
    # Segments that are stored elsewhere can hold decisions of any country. Then the longest of all terms applies.
    countries = ["", *(term.country for term in retention)]
    groups = product(countries, (True, False)) if partial or not own else own
    longest = max(decision_retention.months(retention, country, allowed=allow) for country, allow in groups)
    over_from = decision_retention.over_from(name, longest)
    return Month(
        month=name,
        allowed=sum(count for (_, allow), count in own.items() if allow),
        refused=sum(count for (_, allow), count in own.items() if not allow),
        over_from=over_from,
        over=over_from <= month_of(now),
        partial=partial,
    )
