"""Key retirement, which destroys a month's keys after the retention term and so makes the month's decisions anonymous.

The log and its hash chain stay unchanged. GDPR art. 5(1)(e), 17(3)(e) and 18: decisions may be kept for legal claims,
but linked to a person only as long as a claim is possible.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import product

from msgspec import Struct
from msgspec.structs import replace

from dialgate.audit.legal_holds import Holds
from dialgate.config import decision_retention
from dialgate.config.configuration import Config
from dialgate.core.model import Instant
from dialgate.crypto.keys import Keys
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


def months(config: Config, keys: Keys, now: Instant) -> list[Month]:
    """Return the months that have keys, oldest first.

    Raises `LogDamaged`, `KeysUnusable`, `OSError`, `HoldRefused`.
    """
    chains = Chains(config.data)
    counts = sum(
        (reader.decision_counts() for reader in chains.readers.values()), Counter[tuple[str, str, bool]]()
    )
    holds = Holds(config.data, keys)
    hashes = [hashed for number in holds.under().numbers for hashed in keys.hashes(number).values()]
    held = Counter(month_of(record.at) for _, record in chains.about(hashes))
    terms = decision_retention.terms(config.settings.retention, config.laws, now)
    begun = [reader.begun_before(0) for reader in chains.readers.values()]
    partial = max((month_of(at) for first, at, _ in begun if first > 1), default="")
    result = [
        _month(terms, name, counts, held[name], now, whole=name > partial) for name in sorted(keys.hashes(""))
    ]
    if result:  # the newest month's keys are in use, whatever its age
        result[-1] = replace(result[-1], over=False)
    return result


def retire(config: Config, keys: Keys, month: str) -> int:
    """Destroy the keys for `month`. Return how many decision ids were saved for legal holds.

    These ids are saved first, so that decisions under a legal hold stay linked to their numbers. Raises the same errors
    as `months`.
    """
    chains = Chains(config.data)

    def records_of(number: str) -> list[str]:
        hashed = keys.hashes(number).get(month)
        return [record.id for _, record in chains.about([hashed] if hashed else [])]

    return Holds(config.data, keys).keep(records_of, lambda: keys.retire(month))


def _month(
    retention: Sequence[decision_retention.Retention],
    name: str,
    counts: Counter[tuple[str, str, bool]],
    held: int,
    now: Instant,
    *,
    whole: bool,
) -> Month:
    """Return a month with its retention term. `whole`: all of its segments are in the data folder."""
    own = {(country, allow): count for (month, country, allow), count in counts.items() if month == name}
    # Segments that are stored elsewhere can hold decisions of any country. Then the longest of all terms applies.
    countries = ["", *(term.country for term in retention)]
    groups = own if own and whole else product(countries, (True, False))
    longest = max(decision_retention.months(retention, country, allowed=allow) for country, allow in groups)
    over_from = decision_retention.over_from(name, longest)
    return Month(
        month=name,
        allowed=sum(count for (_, allow), count in own.items() if allow),
        refused=sum(count for (_, allow), count in own.items() if not allow),
        over_from=over_from,
        over=over_from <= month_of(now),
        held=held,
    )
