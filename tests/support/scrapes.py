"""What a Prometheus would have scraped of real gates at instants that a test chooses, judged by the rules as they are shipped.

A day passes in as long as it takes to turn a clock: each scrape is read from the real gate, and `promtool` evaluates the
rules once a minute over all of them, with every `for` and every range.
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
from tests.support.fired_alerts import REPORTED, UNJUDGED
from tests.support.prometheus_server import RULES
from tests.support.world import KEY

_GROUPS = re.findall(r"^  - name: (\S+)$", RULES.read_text("utf-8"), re.MULTILINE)
_GONE = "stale"  # what Prometheus writes for a series that was there at the last scrape


class Scrapes:
    """From `begun`, which the rules take for 0 o'clock on 1970-01-01: promtool knows no other beginning."""

    def __init__(self, begun: Instant) -> None:
        self._begun = begun
        self._minute = 0
        self._values: defaultdict[str, dict[int, str]] = defaultdict(dict)
        self._there: defaultdict[str, set[str]] = defaultdict(set)
        self._expected: dict[int, list[str]] = {}
        UNJUDGED.append(self.judge)

    async def gate(self, at: Instant, port: int, name: str = "gate-1") -> None:
        """As the job `dialgate` scrapes it, and finds it down where it does not answer."""
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
        """As the node exporter tells of it."""
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
        """Expect that these alerts fire, and no other, at the last scrape or at an earlier minute. `judge` finds out whether they do."""
        at = self._minute if minute is None else minute
        names = sorted(set(wanted))
        assert self._expected.setdefault(at, names) == names, f"minute {at} has two expectations"

    async def judge(self) -> None:
        """Assert what was expected, of all minutes in one run of promtool: each run begins with the first minute."""
        with TemporaryDirectory() as folder:
            promtool = await asyncio.create_subprocess_exec(
                *("promtool", "test", "rules", self._write(Path(folder, "scraped.test.yml"))),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said, _ = await promtool.communicate()
        assert promtool.returncode == 0, said.decode()
        REPORTED.update(*self._expected.values())

    def _write(self, path: Path) -> Path:
        """Write the scrapes and what is expected of them for promtool. JSON is YAML."""
        firing = 'max by (alertname) (ALERTS{alertstate="firing"})'
        case = {
            "interval": "1m",
            "input_series": [
                {"series": name, "values": _written(values)} for name, values in self._values.items()
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
        rules = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "group_eval_order": _GROUPS}
        path.write_text(json.dumps({**rules, "tests": [case]}), "utf-8")
        return path


def _written(values: dict[int, str]) -> str:
    """As promtool reads a series: a value a minute, `_` where there is none."""
    words, following = [], 0
    for minute, value in sorted(values.items()):
        words += [f"_x{minute - following}"] if minute > following else []
        words.append(value)
        following = minute + 1
    return " ".join(words)
