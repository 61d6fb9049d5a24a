"""Command line of the benchmarks: `python -m tests.bench NAME [OPTIONS]` prints one JSON object a line.

`python -m tests.bench NAME --help` lists the options of a benchmark.
"""

import argparse
import importlib
import inspect
from collections.abc import Sequence
from subprocess import CalledProcessError
from typing import Any, Final, get_args

from dialgate.observability import service_log
from dialgate.runtime.terminal import show_json
from tests.bench import BenchError

NAMES: Final = (
    "batch",
    "capacity",
    "configuration",
    "console",
    "decide",
    "http",
    "ledger",
    "log",
    "numberset",
    "registry",
    "soak",
)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__, add_help=False)
    parser.add_argument("name", choices=NAMES)
    named, rest = parser.parse_known_args(words)
    module: Any = importlib.import_module(f"tests.bench.{named.name}")
    options = vars(_options(named.name, module).parse_args(rest))
    del options["json"]
    service_log.configure()
    try:
        for figure in module.run(**options):
            show_json(figure)
    except (BenchError, CalledProcessError) as error:
        show_json({"error": {"code": "bench.invalid", "message": str(error), "field": ""}})
        raise SystemExit(1) from None


def _options(name: str, module: Any) -> argparse.ArgumentParser:
    """Derive the options from the parameters of `run`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.bench {name}",
        description=module.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON; this is the default and the only format"
    )
    for parameter in inspect.signature(module.run).parameters.values():
        parser.add_argument(
            f"--{parameter.name}",
            type=type(parameter.default),
            default=parameter.default,
            choices=get_args(parameter.annotation) or None,
            help=" ",  # without a help text, argparse does not print the default
        )
    return parser


if __name__ == "__main__":
    main()
