"""The generated page on capacity: examples, constants with their sources, and what is assumed."""

from dialgate.tools import capacity
from dialgate.tools.capacity import AGENT_CALLS, BUSY, MEASURED, NUMBER_DAYS, PEAK, RPO, STOPPED, Capacity

_COUNTRY = 20_000_000
_DAYS = 90
_TEXT = """
`dialgate capacity` calculates what a number of calls a day needs:

```sh
dialgate capacity --agents 200
dialgate capacity --calls-per-day 20000000 --days 90 --json
```

It multiplies constants that the benchmarks measured. They are of one machine: measure yours before you buy.

{examples}

*Cores* are those in use in the busiest second. Two gates are the least with Redis, because one may fail. With `--store embedded`, one gate keeps its
state on its disk. *Mapped files* are call lists and registry answers: the memory that they fill is shared by all processes and is given back when
others need it. Give Redis twice its memory, because it copies pages while it rewrites its file.

## One Redis carries a country

{calls:,} calls a day are {mean:.0f} checks a second on average and {peak:,.0f} in the busiest second. For them Redis uses {redis_cores:.2g} of the
one processor that it can use, and {redis_memory:.0f} GB of memory with attempts of {days} days. So dialgate does not distribute its store over several
primaries. If one is ever too small, the key is the called number: all that a check reads and writes in one atomic step belongs to one number. It
would need

- the hash tag of a number's keys made from the number, in place of one tag for the whole store;
- a read and a commit for each shard of a batch, and one undo for all of them if a commit fails;
- an order of the ledger across shards, because a record names one ledger sequence that its decision saw, and a stop must bind on all shards before
  it is acknowledged;
- counts of campaigns, leases and generations in a shard of their own.

Until then, [groups of controllers with their own gates and store](../how-to/scale.md#in-which-order) divide the load without any of this.

## Where the memory of a gate goes

| what | memory | levels off |
| --- | --- | --- |
| the program | {process:g} MB | at the start |
| the configuration | {campaign:,.0f} B a campaign | twice that once a reload has changed every file |
| calls of a campaign: counters, what its calls share | 2 kB a campaign | when every campaign has called |
| reported outcomes | {counts:,.0f} B a campaign with calls in 500 hours | after 62 days |
| a copy of the metrics while Prometheus reads them | 40 MB with 50,000 campaigns | at the first scrape |
| the server that forks processes for reports, pages of the log and uploaded files | 85 MB, not in the gate | at the first report, page or file |
| call lists and registry answers | {number:g} B a number, mapped: shared by all processes, given back when others need it | with the files |
| numbers, their attempts and entries, the log | none: they are in the store and on the disk | |

`process_resident_memory_bytes` on [`/metrics`](metrics.md) is the sum, with the mapped files. A gate with 50,000 campaigns of 200 controllers has
219 MB after its start, 270 after the third reload of one changed file and 273 after the twentieth; without a reload, 325 when every campaign has called.

## Constants

`python -m tests.bench capacity` measures most of them; the others are figures of the benchmark named. A test compares each with a small measurement.

{constants}

## Assumptions

| what | assumed |
| --- | --- |
| calls of an agent | {agent_calls:,} a day |
| the busiest second | {peak_factor:g} times the mean of the day |
| processor of a gate in that second | at most {busy:.0%} |
| numbers in a year | {number_days:g} for each daily call: five calls to a number in 30 days, Italy's operator limit |
| stops | {stopped:.0%} of the numbers |
| queries to the registry | every number again after {valid_days} days |
| price of a query | €{price} ({tariff}). Since 2025-02-04 there are 65 annual bands by distinct numbers, whose prices are not confirmed here; use *distinct numbers* to find yours. A controller that was fined pays more |
"""
_ROWS = {
    "calls a day": "calls_per_day",
    "checks a second, mean": "mean_checks_per_second",
    "checks a second, busiest": "peak_checks_per_second",
    "gates": "gates",
    "cores of the gates": "gate_cores",
    "memory of the gates, GB": "gate_memory_gb",
    "mapped files, GB": "mapped_files_gb",
    "cores of Redis": "redis_cores",
    "memory of Redis, GB": "redis_memory_gb",
    "log a month as written, GB": "log_raw_gb_per_month",
    "log a month once packed, GB": "log_packed_gb_per_month",
    "network to clients, Mbit/s": "clients_mbit_per_second",
    "network to Redis, Mbit/s": "redis_mbit_per_second",
    "distinct numbers a year": "registry_numbers_per_year",
    "registry queries a year": "registry_queries_per_year",
    "registry, € a year": "registry_eur_per_year",
}


def capacity_page() -> str:
    country = capacity.capacity(_COUNTRY, _DAYS)
    return _TEXT.format(
        examples=_examples(country),
        constants=_constants(),
        **{name: MEASURED[name].value for name in ("process", "campaign", "counts", "number")},
        calls=_COUNTRY,
        days=_DAYS,
        mean=country.mean_checks_per_second,
        peak=country.peak_checks_per_second,
        redis_cores=country.redis_cores,
        redis_memory=country.redis_memory_gb,
        agent_calls=AGENT_CALLS,
        peak_factor=PEAK,
        busy=BUSY,
        number_days=NUMBER_DAYS,
        stopped=STOPPED,
        valid_days=RPO.valid_days,
        price=RPO.eur_per_query,
        tariff=RPO.source,
    )


def _examples(country: Capacity) -> str:
    columns = {
        f"{agents:,} agents": capacity.capacity(agents * AGENT_CALLS, _DAYS) for agents in (20, 200, 2000)
    }
    columns["a country"] = country
    head = ["| |" + "|".join(f" {name} " for name in columns) + "|", "| --- |" + " ---: |" * len(columns)]
    rows = [
        f"| {title} |" + "|".join(f" {_written(getattr(column, name))} " for column in columns.values()) + "|"
        for title, name in _ROWS.items()
    ]
    return "\n".join(head + rows)


def _constants() -> str:
    rows = [
        f"| {constant.meaning} | {constant.value:g} {constant.unit} | {constant.figure.replace('.', ': ')} |"
        for constant in MEASURED.values()
    ]
    return "\n".join(["| what | measured | benchmark: figure |", "| --- | ---: | --- |", *rows])


def _written(value: float) -> str:
    return f"{value:,.12g}"
