"""The Grafana dashboards as code: `python deploy/grafana/boards.py` writes each as a JSON file for import.

There are four, by audience: the supervisor (all day), operations (after a fault), the operator of the nightly job (each
morning), the data protection officer (once a week). The description of each panel says which values are good.
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
# The legend of each line, and its query.
Queries: TypeAlias = dict[str, str]
Limits: TypeAlias = Sequence[tuple[float | None, str]]

ON_OFF: Final[Limits] = ((None, "red"), (1, "green"))
DAYS_LEFT: Final[Limits] = ((None, "red"), (1, "orange"), (3, "yellow"), (7, "green"))
NONE_IS_GOOD: Final[Limits] = ((None, "green"), (1, "red"))
SECONDS: Final[Limits] = ((None, "green"), (0.1, "yellow"), (0.25, "red"))
PLAIN: Final[Limits] = ((None, "blue"),)


def _targets(queries: Queries, *, now: bool = False) -> list[Builder[Dataquery]]:
    targets: list[Builder[Dataquery]] = []
    for place, (name, expression) in enumerate(queries.items()):
        query = prometheus.Dataquery().expr(expression).legend_format(name).ref_id(chr(ord("A") + place))
        targets.append(query.instant() if now else query.range().exemplar("_bucket" in expression))
    return targets


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
    return panel.targets(_targets(queries))


def figure(
    title: str, about: str, unit: str, query: str, limits: Limits = PLAIN, *, width: int = 4
) -> stat.Panel:
    panel = stat.Panel().title(title).description(about).unit(unit).span(width).height(4).datasource(SOURCE)
    return panel.thresholds(_limits(limits)).targets(_targets({"": query}, now=True))


def bars(
    title: str, about: str, unit: str, queries: Queries, limits: Limits = PLAIN, *, width: int = 12
) -> bargauge.Panel:
    panel = (
        bargauge.Panel().title(title).description(about).unit(unit).span(width).height(8).datasource(SOURCE)
    )
    panel = panel.orientation(VizOrientation.HORIZONTAL).thresholds(_limits(limits))
    return panel.targets(_targets(queries, now=True))


def rows(title: str, about: str, query: str, *, width: int = 12) -> table.Panel:
    target = prometheus.Dataquery().expr(query).instant().format(PromQueryFormat.TABLE).ref_id("A")
    panel = table.Panel().title(title).description(about).span(width).height(8).datasource(SOURCE)
    return panel.targets([target])


def board(name: str, title: str, about: str, *panels: PANEL, hours: int = 6) -> Dashboard:
    dashboard = (
        boards.Dashboard(f"dialgate: {title}").uid(f"dialgate-{name}").description(about).tags(["dialgate"])
    )
    dashboard = (
        dashboard.readonly()
        .refresh("15s")
        .time(f"now-{hours}h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
    )
    dashboard = dashboard.with_variable(
        boards.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    )
    for panel in panels:
        dashboard = dashboard.with_panel(panel)
    return dashboard.build()


_SHARE: Final = 'sum by (campaign) (rate(dialgate_decisions_total{decision="allow"}[$__rate_interval])) / sum by (campaign) (rate(dialgate_decisions_total[$__rate_interval]))'
_P: Final = "histogram_quantile({}, sum by ({}le) (rate({}_bucket[$__rate_interval])))"


def _quantiles(metric: str, by: str = "") -> Queries:
    label, name = (f"{by}, ", f" {{{{{by}}}}}") if by else ("", "")
    return {
        f"{share}{name}": _P.format(part, label, metric) for share, part in (("median", 0.5), ("99 %", 0.99))
    }


def supervisor() -> Dashboard:
    return board(
        "supervisor", "supervisor", "Which calls are placed, which are denied, and why.",
        figure("Gates ready", "1: all components on all gates work.", "short", "min(dialgate_ready)", ON_OFF),
        figure("Decisions per second", "All campaigns.", "ops", "sum(rate(dialgate_decisions_total[$__rate_interval]))"),
        figure("Allowed", "Share of all checks.", "percentunit",
               'sum(rate(dialgate_decisions_total{decision="allow"}[$__rate_interval])) / sum(rate(dialgate_decisions_total[$__rate_interval]))'),
        figure("Response time, 99 %", "Dialers wait about 0.25 s.", "s",
               _P.format(0.99, "", "dialgate_latency_seconds"), SECONDS),
        figure("Revocations, last day", "People who asked for no more calls.", "short",
               'sum(increase(dialgate_ledger_entries_total{kind="revoked"}[1d]))'),
        figure("Registry answers valid", "Days until the first controller's answers expire.", "d",
               "min(dialgate_snapshot_expiry_seconds) / 86400", DAYS_LEFT),
        graph("Decisions", "By decision.", "ops",
              {"{{decision}}": "sum by (decision) (rate(dialgate_decisions_total[$__rate_interval]))"}, stacked=True),
        graph("Denied, by reason", "The first reason of each call.", "ops",
              {"{{code}}": 'sum by (code) (rate(dialgate_decisions_total{decision="deny"}[$__rate_interval]))'}, stacked=True),
        graph("Allowed, by campaign", "For the cause of a sudden drop, see the reasons.", "percentunit", {"{{campaign}}": _SHARE}),
        graph("Checks, by campaign", "A campaign that drops to zero while others call may bypass the gate.", "ops",
              {"{{campaign}}": "sum by (campaign) (rate(dialgate_decisions_total[$__rate_interval]))"}),
        graph("Call outcomes", "As reported by the dialers.", "ops",
              {"{{result}}": "sum by (result) (rate(dialgate_outcomes_total[$__rate_interval]))"}, stacked=True),
        bars("Abandoned per 100 answered, last day", "At most 3 for each campaign (Garante, provv. 83 of 2014-02-20).", "percentunit",
             {"{{campaign}}": 'sum by (campaign) (increase(dialgate_outcomes_total{result="abandoned"}[1d])) / sum by (campaign) (increase(dialgate_outcomes_total{result=~"answered|refused"}[1d]))'},
             ((None, "green"), (0.025, "orange"), (0.03, "red"))),
        bars("Used share of the limit on abandoned calls", "In the days that the law counts. Above 100 % the campaign is paused.", "percentunit",
             {"{{campaign}}": "max by (campaign) (dialgate_campaign_abandoned_limit_used)"}, ((None, "green"), (0.67, "orange"), (1, "red"))),
        bars("Caller IDs: proof valid (days)", "Caller IDs that must be called back. Below 0 their calls are denied.", "d",
             {"{{caller_id}} {{controller}}": "(min by (controller, caller_id) (dialgate_caller_id_proof_end_timestamp_seconds) - time()) / 86400"}, DAYS_LEFT),
        graph("Let through in shadow mode, by reason", "Calls that the gate would refuse if shadow mode were off.", "ops",
              {"{{campaign}} {{code}}": "sum by (campaign, code) (rate(dialgate_shadow_denials_total[$__rate_interval]))"}, stacked=True),
        bars("Days until shadow mode ends", "From then on, these calls are refused.", "d",
             {"{{scope}} {{name}}": "(max by (scope, name) (dialgate_shadow_end_timestamp_seconds) - time()) / 86400"}, DAYS_LEFT),
        graph("Response time", "By interface.", "s", _quantiles("dialgate_latency_seconds", "interface")),
    )  # fmt: skip


def operations() -> Dashboard:
    return board(
        "operations", "operations", "The health of the gates, now and in the coming days.",
        bars("Ready", "1: the component works. /readyz explains a 0.", "short",
             {"{{instance}} {{component}}": "min by (instance, component) (dialgate_ready)"}, ON_OFF),
        graph("Checks denied because of a fault", "Should be 0.", "ops",
              {"{{instance}} {{component}}": "sum by (instance, component) (rate(dialgate_faults_total[$__rate_interval]))"}),
        graph("Response time", "From the arrival of a check to its response. Dots link to decisions.", "s", _quantiles("dialgate_latency_seconds", "instance")),
        graph("Log sync", "Every response waits for it. Below 10 ms is good.", "s", _quantiles("dialgate_log_sync_seconds", "instance")),
        graph("Calls per batch", "Higher under load: one sync covers more calls.", "short", _quantiles("dialgate_batch_calls", "instance")),
        graph("Batches decided again, decisions repeated", "Low is good.", "ops", {
            "again {{instance}}": "sum by (instance) (rate(dialgate_stale_batches_total[$__rate_interval]))",
            "repeated {{instance}}": "sum by (instance) (rate(dialgate_repeats_total[$__rate_interval]))"}),
        graph("Records not yet covered by a checkpoint", "Drops to 0 about once a minute.", "short",
              {"{{instance}}": "dialgate_log_records - dialgate_log_covered_records"}),
        graph("Free space on the data disk", "On a full disk every call is denied.", "percentunit",
              {"{{instance}}": "dialgate_data_free_bytes / dialgate_data_size_bytes"}),
        graph("Processor", "1 is one core, the most that one process can use.", "short",
              {"{{instance}}": 'rate(process_cpu_seconds_total{job="dialgate"}[$__rate_interval])'}),
        graph("Memory", "", "bytes", {"{{instance}}": 'process_resident_memory_bytes{job="dialgate"}'}),
        graph("Webhooks behind", "Revocations not yet delivered to a receiver.", "short", {"{{webhook}}": "max by (webhook) (dialgate_webhook_behind)"}),
        figure("Configurations rejected", "In the last day.", "short", "sum(increase(dialgate_config_rejected_total[1d]))", NONE_IS_GOOD, width=6),
        figure("Snapshots rejected", "In the last day.", "short", "sum(increase(dialgate_snapshot_rejected_total[1d]))", NONE_IS_GOOD, width=6),
        rows("Law in force", "All nodes should show the same hash for a country.", "dialgate_law_info"),
        rows("Version and configuration", "", "dialgate_info"),
    )  # fmt: skip


def registry() -> Dashboard:
    label = "{{registry}} {{controller}}"
    return board(
        "registry", "registry", "Opposition registries: their answers, and how long these are valid.",
        bars("Days until answers expire", "After that every call is denied.", "d",
             {label: "min by (registry, controller) (dialgate_snapshot_expiry_seconds) / 86400"}, DAYS_LEFT),
        bars("Days since the last consultation", "The law requires one a month.", "d",
             {label: "max by (registry, controller) (time() - registry_sync_consulted_timestamp_seconds) / 86400"},
             ((None, "green"), (15, "yellow"), (27, "red"))),
        figure("Hours since the nightly job", "More than 26: it missed a night.", "h", "(time() - max(registry_sync_run_timestamp_seconds)) / 3600",
               ((None, "green"), (26, "red")), width=6),
        figure("Active alarms", "`registry-sync status` shows the details.", "short", "sum(registry_sync_alarm)", NONE_IS_GOOD, width=6),
        bars("Alarms by kind", "docs/how-to/ask-the-registry.md says what to do for each.", "short",
             {"{{registry}} {{controller}} {{alarm}}": "max by (registry, controller, alarm) (registry_sync_alarm) == 1 or max by (registry, controller, alarm) (registry_sync_alarm) * 0"}, NONE_IS_GOOD),
        graph("Published numbers", "A drop means that numbers were removed, or that a file was wrong.", "short",
              {label: "max by (registry, controller) (dialgate_snapshot_numbers)"}),
        graph("Numbers due for a query", "Drops to 0 after each night.", "short", {label: "max by (registry, controller) (registry_sync_due_numbers)"}),
        graph("Packages without an answer", "The registry answers within a day.", "short", {label: "max by (registry, controller) (registry_sync_waiting_packages)"}),
        graph("Denied because of the registry", "listed: the person opposed. unknown, expired: the answers are missing or too old.", "ops",
              {"{{code}}": 'sum by (code) (rate(dialgate_decisions_total{code=~"registry[.].*"}[$__rate_interval]))'}, stacked=True),
        hours=24 * 7,
    )  # fmt: skip


def officer() -> Dashboard:
    return board(
        "officer", "data protection", "Requests by data subjects, and their completion. No telephone numbers are shown.",
        figure("Time left for the most urgent request", "The deadline is a month (GDPR art. 12(3)). Shows a month if no request is open.", "d",
               "min(dialgate_subject_request_left_seconds) / 86400", DAYS_LEFT, width=6),
        figure("Open requests", "", "short", "sum(max by (kind) (dialgate_subject_requests_open))", width=6),
        figure("Revocations in the last week", "People who asked for no more calls.", "short", 'sum(increase(dialgate_ledger_entries_total{kind="revoked"}[7d]))', width=6),
        figure("Deliveries given up", "Revocations that a receiver did not accept.", "short", "sum(max by (webhook) (dialgate_webhook_dead_letters)) or vector(0)", NONE_IS_GOOD, width=6),
        bars("Open requests, by kind", "", "short", {"{{kind}}": "max by (kind) (dialgate_subject_requests_open)"}),
        graph("From a revocation to its effect", "Below 1 s is good. From then on every decision applies it.", "s", _quantiles("dialgate_revocation_effect_seconds")),
        graph("Ledger entries, by kind", "Per hour.", "short", {"{{kind}}": "sum by (kind) (increase(dialgate_ledger_entries_total[1h]))"}, stacked=True),
        graph("Look-ups", "Per hour, by the data shown. Each look-up is logged with its purpose.", "short",
              {"{{what}}": "sum by (what) (increase(dialgate_lookups_total[1h]))"}, stacked=True),
        graph("Look-ups refused", "Clients that exceeded their limit.", "short", {"{{client}}": "sum by (client) (increase(dialgate_lookups_throttled_total[1h]))"}),
        graph("Consecutive numbers on no list", "Their calls are denied. Ask where the list came from.", "short",
              {"{{client}}": "sum by (client) (increase(dialgate_unlisted_neighbours_total[1h]))"}),
        graph("Denied, by reason", "Per hour.", "short", {"{{code}}": 'sum by (code) (increase(dialgate_decisions_total{decision="deny"}[1h]))'}, stacked=True),
        graph("Deleted by retention", "Per day, by kind.", "short", {"{{kind}}": "sum by (kind) (increase(dialgate_retention_removed_total[1d]))"}, stacked=True),
        hours=24 * 7,
    )  # fmt: skip


BOARDS: Final = {"supervisor": supervisor, "operations": operations, "registry": registry, "officer": officer}


def render(name: str) -> str:
    return JSONEncoder(sort_keys=True, indent=2).encode(BOARDS[name]()) + "\n"


if __name__ == "__main__":
    for board_name in BOARDS:
        (FOLDER / f"{board_name}.json").write_text(render(board_name), "utf-8")
