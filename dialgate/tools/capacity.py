"""The hardware and the registry queries that a number of calls a day needs, calculated from measured constants."""

from math import ceil
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

Engine: TypeAlias = Literal["redis", "embedded"]


class Measured(NamedTuple):
    """A constant, and the figure that measures it: `python -m tests.bench capacity` prints `capacity.…`."""

    value: float
    unit: str
    figure: str
    meaning: str


# One table, so that it is renewed in one place. A test measures each constant again.
MEASURED: Final = {
    "check": Measured(116, "µs", "capacity.gate_cpu", "processor time of a gate for a check, with Redis"),
    "check_embedded": Measured(132, "µs", "capacity.embedded_cpu", "the same with the embedded store"),
    "redis": Measured(27, "µs", "capacity.redis_cpu", "processor time of Redis for a check"),
    "subject": Measured(162, "B", "capacity.redis_number", "memory of Redis for a number that was called"),
    "attempt": Measured(47, "B", "capacity.redis_attempt", "memory of Redis for each call to it"),
    "answer": Measured(
        295, "B", "capacity.redis_answer", "memory of Redis for an answer, which it repeats for 24 h"
    ),
    "stop": Measured(300, "B", "ledger.memory", "memory of Redis for a stop"),
    "row": Measured(185, "B", "capacity.embedded_check", "disk of the embedded store for a check"),
    "raw": Measured(464, "B", "capacity.log", "the log for a decision"),
    "packed": Measured(110, "B", "log.archive_bytes", "the packed log for a decision and its outcome"),
    "request": Measured(607, "B", "capacity.http_traffic", "a check and its answer over HTTP"),
    "exchange": Measured(541, "B", "capacity.redis_traffic", "traffic between gate and Redis for a check"),
    "process": Measured(81, "MB", "capacity.gate_memory", "memory of a gate without its mapped files"),
    "campaign": Measured(
        2650, "B", "configuration.campaign", "memory of a gate for a campaign with four caller IDs"
    ),
    "counts": Measured(
        6800,
        "B",
        "configuration.counts",
        "the same for a campaign with outcomes in 500 of the last 1,488 hours",
    ),
    "number": Measured(2.0, "B", "numberset.size", "a number in a mapped call list or registry snapshot"),
}

AGENT_CALLS: Final = 5 * 60 * 8  # a day: five a minute for eight hours, as a predictive dialer places them
PEAK: Final = 24 / 10 * 2  # the busiest second beside the day's mean: calls are placed in ten hours, unevenly
BUSY: Final = 0.5  # share of a processor that a gate may use in the busiest second
NUMBER_DAYS: Final = 30 / 5  # days of calls to different numbers: at most five calls to one in 30 days
STOPPED: Final = 0.02  # share of the numbers with a stop
MONTH: Final = 30
_GATES: Final = 2  # with Redis: one may fail


class Tariff(NamedTuple):
    """A registry's price, from the first day of `since`. `valid_days`: days after which a number is queried again."""

    since: int
    eur_per_query: float
    valid_days: int
    source: str


# DM in force from 2025-02-04: 65 bands of a year's distinct numbers; their prices are not confirmed, so no entry here.
RPO: Final = Tariff(2022, 0.00087, 15, "RPO tariff of 2022, in lots of 50,000 queries")


class Capacity(Struct, frozen=True, kw_only=True):
    """What a number of calls a day needs. Cores are those in use in the busiest second, and `gates` the processes."""

    calls_per_day: int
    days: int
    store: Engine
    mean_checks_per_second: float
    peak_checks_per_second: float
    gates: int
    gate_cores: float
    gate_memory_gb: float
    mapped_files_gb: float
    redis_cores: float
    redis_memory_gb: float
    embedded_store_gb: float
    log_raw_gb_per_month: float
    log_packed_gb_per_month: float
    clients_mbit_per_second: float
    redis_mbit_per_second: float
    registry_numbers_per_year: int
    registry_queries_per_year: int
    registry_eur_per_year: int


def capacity(calls: int, days: int, store: Engine = "redis") -> Capacity:
    """Calculate what `calls` a day need, if attempts are kept for `days`."""
    is_shared = store == "redis"
    peak = calls / 86_400 * PEAK
    cores = peak * _value("check" if is_shared else "check_embedded") / 1e6
    gates = max(_GATES, ceil(cores / BUSY)) if is_shared else 1
    numbers = ceil(calls * NUMBER_DAYS)
    attempts = calls * days
    redis = numbers * _value("subject") + attempts * _value("attempt") + calls * _value("answer")
    stops = numbers * STOPPED * _value("stop")
    queries = ceil(numbers * 365 / RPO.valid_days)
    return Capacity(
        calls_per_day=calls,
        days=days,
        store=store,
        mean_checks_per_second=_digits(calls / 86_400),
        peak_checks_per_second=_digits(peak),
        gates=gates,
        gate_cores=_digits(cores),
        gate_memory_gb=_digits(gates * _value("process") / 1e3),
        mapped_files_gb=_digits(2 * numbers * _value("number") / 1e9),
        redis_cores=_digits(is_shared * peak * _value("redis") / 1e6),
        redis_memory_gb=_digits(is_shared * (redis + stops) / 1e9),
        embedded_store_gb=_digits((not is_shared) * attempts * _value("row") / 1e9),
        log_raw_gb_per_month=_digits(calls * MONTH * _value("raw") / 1e9),
        log_packed_gb_per_month=_digits(calls * MONTH * _value("packed") / 1e9),
        clients_mbit_per_second=_digits(peak * _value("request") * 8 / 1e6),
        redis_mbit_per_second=_digits(is_shared * peak * _value("exchange") * 8 / 1e6),
        registry_numbers_per_year=numbers,
        registry_queries_per_year=queries,
        registry_eur_per_year=ceil(queries * RPO.eur_per_query),
    )


def _value(name: str) -> float:
    return MEASURED[name].value


def _digits(value: float) -> float:
    """Round to three digits, because the constants are not known better."""
    return float(f"{value:.3g}")
