"""Scrapes of real gates at instants that a test chooses, evaluated by `promtool` with the shipped alert rules.

The test sets the clock, so a simulated day takes no time. `promtool` evaluates the unchanged rules over all scrapes, once
for each simulated minute. A test that spans days may set a longer interval (`Scrapes.minutes`).
"""

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import ClientError, ClientSession, ClientTimeout

from dialgate.core.model import MINUTE, SECOND, Instant
from tests.support.fired_alerts import PENDING_CHECKS, REPORTED
from tests.support.prometheus_server import RULES
from tests.support.world import KEY

_GROUPS = re.findall(r"^  - name: (\S+)$", RULES.read_text("utf-8"), re.MULTILINE)
_GONE = "stale"  # marks a series that the previous scrape contained and this one does not


class Scrapes:
    """A series of scrapes. promtool always begins at 1970-01-01T00:00, so times are counted from `begun`."""

    def __init__(self, begun: Instant) -> None:
        self.minutes = 1  # between two evaluations of all rules, which take 3 ms of processor time
        self._begun = begun
        self._minute = 0
        self._values: defaultdict[str, dict[int, str]] = defaultdict(dict)
        self._there: defaultdict[str, set[str]] = defaultdict(set)
        self._expected: dict[int, list[str]] = {}
        PENDING_CHECKS.append(self.judge)

    async def gate(self, at: Instant, port: int, name: str = "gate-1") -> None:
        """Scrape a gate as the job `dialgate`. A gate that does not respond counts as down."""
        headers = {"Authorization": f"Bearer {KEY}"}
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=5)) as session,
                session.get(f"http://127.0.0.1:{port}/metrics", headers=headers) as answer,
            ):
                text, up = await answer.text(), "1"
        except ClientError:
            text, up = "", "0"
        self._take(at, text, f'job="dialgate",instance="{name}"', up)

    def textfile(self, at: Instant, path: Path) -> None:
        """Add a text file as the node exporter would export it."""
        self._take(at, path.read_text("utf-8"), 'job="node",instance="node-1"', "1")

    def _take(self, at: Instant, text: str, target: str, up: str) -> None:
        minute = (at - self._begun) // MINUTE
        seen = dict(self._samples(text, target))
        for name in self._there[target] - seen.keys():
            self._values[name][minute] = _GONE
        self._there[target] = set(seen)
        for name, value in {**seen, f"up{{{target}}}": up}.items():
            self._values[name][minute] = value
        self._minute = max(self._minute, minute)

    def _samples(self, text: str, target: str) -> Iterator[tuple[str, str]]:
        for line in text.splitlines():
            if line.startswith("#"):
                continue
            series, value = line.rsplit(" ", 1)
            name, _, labels = series.removesuffix("}").partition("{")
            if name.endswith("_timestamp_seconds") and float(value):
                value = repr(float(value) - self._begun / SECOND)
            yield f"{name}{{{','.join(filter(None, (labels, target)))}}}", value

    def expect(self, *wanted: str, minute: int | None = None) -> None:
        """Expect exactly the alerts in `wanted` to fire at the last scrape, or at an earlier `minute`.

        `judge` checks the expectation.
        """
        at = self._minute if minute is None else minute
        names = sorted(set(wanted))
        assert self._expected.setdefault(at, names) == names, f"minute {at} has two expectations"

    async def judge(self) -> None:
        """Check all expectations in one run of promtool, since each run starts at the first minute."""
        with TemporaryDirectory() as folder:
            promtool = await asyncio.create_subprocess_exec(
                *("promtool", "test", "rules", self._write(Path(folder, "scraped.test.yml"))),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await promtool.communicate()
        assert promtool.returncode == 0, output.decode()
        REPORTED.update(*self._expected.values())

    def _write(self, path: Path) -> Path:
        """Write scrapes and expectations as a promtool test file, in JSON, which is valid YAML."""
        firing = 'max by (alertname) (ALERTS{alertstate="firing"})'
        case = {
            "interval": "1m",
            "input_series": [
                {"series": name, "values": _render_values(values)} for name, values in self._values.items()
            ],
            "promql_expr_test": [
                {
                    "expr": firing,
                    "eval_time": f"{at}m",
                    "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in wanted],
                }
                for at, wanted in self._expected.items()
            ],
        }
        rules = {
            "rule_files": [str(RULES)],
            "evaluation_interval": f"{self.minutes}m",
            "group_eval_order": _GROUPS,
        }
        path.write_text(json.dumps({**rules, "tests": [case]}), "utf-8")
        return path


def _render_values(values: dict[int, str]) -> str:
    """Format a series for promtool: one value a minute, `_` for a missing one."""
    words, following = [], 0
    for minute, value in sorted(values.items()):
        words += [f"_x{minute - following}"] if minute > following else []
        words.append(value)
        following = minute + 1
    return " ".join(words)
