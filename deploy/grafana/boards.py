"""The Grafana dashboards, as code: `python deploy/grafana/boards.py` writes each as JSON beside this file, to be imported.

Four, by who looks: the supervisor all day, operations when something is wrong, whoever runs the nightly job in the
morning, the data-protection officer once a week. Each panel says in its description what is good.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER: Final = Path(__file__).parent
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
PANEL: TypeAlias = timeseries.Panel | stat.Panel | table.Panel | bargauge.Panel
# Of each line: what it is called, and what is asked.
Queries: TypeAlias = dict[str, str]
Limits: TypeAlias = Sequence[tuple[float | None, str]]

ON_OFF: Final[Limits] = ((None, "red"), (1, "green"))
DAYS_LEFT: Final[Limits] = ((None, "red"), (1, "orange"), (3, "yellow"), (7, "green"))
NONE_IS_GOOD: Final[Limits] = ((None, "green"), (1, "red"))
SECONDS: Final[Limits] = ((None, "green"), (0.1, "yellow"), (0.25, "red"))
PLAIN: Final[Limits] = ((None, "blue"),)


def _asked(queries: Queries, *, now: bool = False) -> list[Builder[Dataquery]]:
    asked: list[Builder[Dataquery]] = []
    for place, (name, expression) in enumerate(queries.items()):
        query = prometheus.Dataquery().expr(expression).legend_format(name).ref_id(chr(ord("A") + place))
        asked.append(query.instant() if now else query.range().exemplar("_bucket" in expression))
    return asked


def _limits(limits: Limits) -> boards.ThresholdsConfig:
    steps = [Threshold(value=value, color=color) for value, color in limits]
    return boards.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def graph(
    title: str, about: str, unit: str, queries: Queries, *, stacked: bool = False, width: int = 12
) -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .show_legend(show_legend=True)
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.RIGHT)
        .calcs(["lastNotNull", "max"])
    )
    panel = timeseries.Panel().title(title).description(about).unit(unit).min(0).span(width).height(8)
    panel = panel.datasource(SOURCE).legend(legend).line_width(1).fill_opacity(30 if stacked else 8)
    panel = panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    return panel.targets(_asked(queries))


def figure(
    title: str, about: str, unit: str, query: str, limits: Limits = PLAIN, *, width: int = 4
) -> stat.Panel:
    panel = stat.Panel().title(title).description(about).unit(unit).span(width).height(4).datasource(SOURCE)
    return panel.thresholds(_limits(limits)).targets(_asked({"": query}, now=True))


def bars(
    title: str, about: str, unit: str, queries: Queries, limits: Limits = PLAIN, *, width: int = 12
) -> bargauge.Panel:
    panel = (
        bargauge.Panel().title(title).description(about).unit(unit).span(width).height(8).datasource(SOURCE)
    )
    panel = panel.orientation(VizOrientation.HORIZONTAL).thresholds(_limits(limits))
    return panel.targets(_asked(queries, now=True))


def rows(title: str, about: str, query: str, *, width: int = 12) -> table.Panel:
    asked = prometheus.Dataquery().expr(query).instant().format(PromQueryFormat.TABLE).ref_id("A")
    panel = table.Panel().title(title).description(about).span(width).height(8).datasource(SOURCE)
    return panel.targets([asked])


def board(name: str, title: str, about: str, *panels: PANEL, hours: int = 6) -> Dashboard:
    made = (
        boards.Dashboard(f"dialgate: {title}").uid(f"dialgate-{name}").description(about).tags(["dialgate"])
    )
    made = made.readonly().refresh("15s").time(f"now-{hours}h", "now").tooltip(DashboardCursorSync.CROSSHAIR)
    made = made.with_variable(boards.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    for panel in panels:
        made = made.with_panel(panel)
    return made.build()


_SHARE: Final = 'sum by (campaign) (rate(dialgate_decisions_total{decision="allow"}[$__rate_interval])) / sum by (campaign) (rate(dialgate_decisions_total[$__rate_interval]))'
_P: Final = "histogram_quantile({}, sum by ({}le) (rate({}_bucket[$__rate_interval])))"


def _quantiles(metric: str, by: str = "") -> Queries:
    label, name = (f"{by}, ", f" {{{{{by}}}}}") if by else ("", "")
    return {
        f"{share}{name}": _P.format(part, label, metric) for share, part in (("half", 0.5), ("99 %", 0.99))
    }


def supervisor() -> Dashboard:
    return board(
        "supervisor", "supervisor", "What is being called, what is refused and why.",
        figure("Gates ready", "1: every component of every gate works.", "short", "min(dialgate_ready)", ON_OFF),
        figure("Decisions a second", "All campaigns.", "ops", "sum(rate(dialgate_decisions_total[$__rate_interval]))"),
        figure("Allowed", "Share of what was asked.", "percentunit",
               'sum(rate(dialgate_decisions_total{decision="allow"}[$__rate_interval])) / sum(rate(dialgate_decisions_total[$__rate_interval]))'),
        figure("Slowest of 100", "Dialers wait about a quarter of a second.", "s",
               _P.format(0.99, "", "dialgate_latency_seconds"), SECONDS),
        figure("Stops today", "People who told the caller to stop.", "short",
               'sum(increase(dialgate_ledger_entries_total{kind="revoked"}[1d]))'),
        figure("Registry", "Days for which every controller's answers hold.", "d",
               "min(dialgate_snapshot_expiry_seconds) / 86400", DAYS_LEFT),
        graph("Decisions", "By answer.", "ops",
              {"{{decision}}": "sum by (decision) (rate(dialgate_decisions_total[$__rate_interval]))"}, stacked=True),
        graph("Refused, by reason", "The first reason of each call.", "ops",
              {"{{code}}": 'sum by (code) (rate(dialgate_decisions_total{decision="deny"}[$__rate_interval]))'}, stacked=True),
        graph("Allowed, by campaign", "A sudden fall has a cause: see the reasons.", "percentunit", {"{{campaign}}": _SHARE}),
        graph("Asked, by campaign", "One that falls to nothing while others call may pass the gate by.", "ops",
              {"{{campaign}}": "sum by (campaign) (rate(dialgate_decisions_total[$__rate_interval]))"}),
        graph("What became of calls", "As the dialers report.", "ops",
              {"{{result}}": "sum by (result) (rate(dialgate_outcomes_total[$__rate_interval]))"}, stacked=True),
        bars("Abandoned to 100 answered, last day", "At most 3, for each campaign (Garante, provv. 83 of 2014-02-20).", "percentunit",
             {"{{campaign}}": 'sum by (campaign) (increase(dialgate_outcomes_total{result="abandoned"}[1d])) / sum by (campaign) (increase(dialgate_outcomes_total{result="answered"}[1d]))'},
             ((None, "green"), (0.025, "orange"), (0.03, "red"))),
        bars("Caller IDs: days of proof left", "Those that must be called back; below 0 their calls are refused.", "d",
             {"{{caller_id}} {{controller}}": "(min by (controller, caller_id) (dialgate_caller_id_proof_end_timestamp_seconds) - time()) / 86400"}, DAYS_LEFT),
        graph("Answer time", "By door.", "s", _quantiles("dialgate_latency_seconds", "interface")),
    )  # fmt: skip


def operations() -> Dashboard:
    return board(
        "operations", "operations", "Is the gate well, and will it be tomorrow.",
        bars("Ready", "1: it works. What does not is named by /readyz.", "short",
             {"{{instance}} {{component}}": "min by (instance, component) (dialgate_ready)"}, ON_OFF),
        graph("Checks refused for a fault of ours", "Nothing is good.", "ops",
              {"{{instance}} {{component}}": "sum by (instance, component) (rate(dialgate_faults_total[$__rate_interval]))"}),
        graph("Answer time", "From a check's arrival to its answer; the dots lead to decisions.", "s", _quantiles("dialgate_latency_seconds", "instance")),
        graph("Sync of the log", "Every answer waits for it. Under 10 ms is good.", "s", _quantiles("dialgate_log_sync_seconds", "instance")),
        graph("Calls in a batch", "Larger under load: one sync serves more calls.", "short", _quantiles("dialgate_batch_calls", "instance")),
        graph("Batches decided again, answers repeated", "Few are good.", "ops", {
            "again {{instance}}": "sum by (instance) (rate(dialgate_stale_batches_total[$__rate_interval]))",
            "repeated {{instance}}": "sum by (instance) (rate(dialgate_repeats_total[$__rate_interval]))"}),
        graph("Records that no checkpoint covers yet", "Falls to nothing every minute or so.", "short",
              {"{{instance}}": "dialgate_log_records - dialgate_log_covered_records"}),
        graph("Free on the data disk", "Full: every call is refused.", "percentunit",
              {"{{instance}}": "dialgate_data_free_bytes / dialgate_data_size_bytes"}),
        graph("Processor", "1 is one core, which is what one process can use.", "short",
              {"{{instance}}": 'rate(process_cpu_seconds_total{job="dialgate"}[$__rate_interval])'}),
        graph("Memory", "", "bytes", {"{{instance}}": 'process_resident_memory_bytes{job="dialgate"}'}),
        graph("Webhooks behind", "Entries that a receiver has not been told of.", "short", {"{{webhook}}": "max by (webhook) (dialgate_webhook_behind)"}),
        figure("Configurations refused", "In the last day.", "short", "sum(increase(dialgate_config_rejected_total[1d]))", NONE_IS_GOOD, width=6),
        figure("Snapshots refused", "In the last day.", "short", "sum(increase(dialgate_snapshot_rejected_total[1d]))", NONE_IS_GOOD, width=6),
        rows("Law in force", "One hash for each country, on all nodes.", "dialgate_law_info"),
        rows("Version and configuration", "", "dialgate_info"),
    )  # fmt: skip


def registry() -> Dashboard:
    each = "{{registry}} {{controller}}"
    return board(
        "registry", "registry", "Opposition registries: what they answered, and how long it holds.",
        bars("Days left", "Until the newest answers no longer hold; then no call goes out.", "d",
             {each: "min by (registry, controller) (dialgate_snapshot_expiry_seconds) / 86400"}, DAYS_LEFT),
        bars("Days since the last consultation", "The law asks for one a month.", "d",
             {each: "max by (registry, controller) (time() - registry_sync_consulted_timestamp_seconds) / 86400"},
             ((None, "green"), (15, "yellow"), (27, "red"))),
        figure("Hours since the nightly job", "Over 26 it has missed a night.", "h", "(time() - max(registry_sync_run_timestamp_seconds)) / 3600",
               ((None, "green"), (26, "red")), width=6),
        figure("Alarms", "A person must look: `registry-sync status`.", "short", "sum(registry_sync_alarm)", NONE_IS_GOOD, width=6),
        bars("Alarms by kind", "docs/how-to/ask-the-registry.md says for each what to do.", "short",
             {"{{registry}} {{controller}} {{alarm}}": "max by (registry, controller, alarm) (registry_sync_alarm) == 1 or max by (registry, controller, alarm) (registry_sync_alarm) * 0"}, NONE_IS_GOOD),
        graph("Numbers answered about", "A fall means that numbers were given up, or a wrong file.", "short",
              {each: "max by (registry, controller) (dialgate_snapshot_numbers)"}),
        graph("Numbers to be asked about", "Falls to nothing after each night.", "short", {each: "max by (registry, controller) (registry_sync_due_numbers)"}),
        graph("Packages without an answer", "The registry answers within a day.", "short", {each: "max by (registry, controller) (registry_sync_waiting_packages)"}),
        graph("Refused for the registry", "listed is the registry's work; unknown and expired are ours.", "ops",
              {"{{code}}": 'sum by (code) (rate(dialgate_decisions_total{code=~"registry[.].*"}[$__rate_interval]))'}, stacked=True),
        hours=24 * 7,
    )  # fmt: skip


def officer() -> Dashboard:
    return board(
        "officer", "data protection", "What people asked, and whether it was done. No number is shown here.",
        figure("Time left for the most urgent request", "A month is given (GDPR 12(3)); with none open it shows a month.", "d",
               "min(dialgate_subject_request_left_seconds) / 86400", DAYS_LEFT, width=6),
        figure("Open requests", "", "short", "sum(max by (kind) (dialgate_subject_requests_open))", width=6),
        figure("Stops in the last week", "People who told the caller to stop.", "short", 'sum(increase(dialgate_ledger_entries_total{kind="revoked"}[7d]))', width=6),
        figure("Messages given up", "A receiver was never told of a stop.", "short", "sum(max by (webhook) (dialgate_webhook_dead_letters)) or vector(0)", NONE_IS_GOOD, width=6),
        bars("Open requests, by kind", "", "short", {"{{kind}}": "max by (kind) (dialgate_subject_requests_open)"}),
        graph("From a stop to its effect", "Under a second is good: it binds every decision after.", "s", _quantiles("dialgate_revocation_effect_seconds")),
        graph("Ledger entries, by kind", "In an hour.", "short", {"{{kind}}": "sum by (kind) (increase(dialgate_ledger_entries_total[1h]))"}, stacked=True),
        graph("Numbers looked up", "In an hour, by what was shown. Each stands on record with its purpose.", "short",
              {"{{what}}": "sum by (what) (increase(dialgate_lookups_total[1h]))"}, stacked=True),
        graph("Look-ups refused", "A client that reads too much.", "short", {"{{client}}": "sum by (client) (increase(dialgate_lookups_throttled_total[1h]))"}),
        graph("Numbers made up in a row", "They are refused; ask for the list's origin.", "short",
              {"{{client}}": "sum by (client) (increase(dialgate_unlisted_neighbours_total[1h]))"}),
        graph("Refused, by reason", "In an hour.", "short", {"{{code}}": 'sum by (code) (increase(dialgate_decisions_total{decision="deny"}[1h]))'}, stacked=True),
        graph("Removed at the end of its time", "In a day, by kind.", "short", {"{{kind}}": "sum by (kind) (increase(dialgate_retention_removed_total[1d]))"}, stacked=True),
        hours=24 * 7,
    )  # fmt: skip


BOARDS: Final = {"supervisor": supervisor, "operations": operations, "registry": registry, "officer": officer}


def rendered(name: str) -> str:
    return JSONEncoder(sort_keys=True, indent=2).encode(BOARDS[name]()) + "\n"


if __name__ == "__main__":
    for each in BOARDS:
        (FOLDER / f"{each}.json").write_text(rendered(each), "utf-8")
