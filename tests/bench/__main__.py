"""`python -m tests.bench NAME [--json]` runs `tests.bench.NAME` and prints its figures, one JSON object a line."""

import argparse
import importlib

from dialgate.terminal import show_json


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("name", help="a module of tests.bench")
    parser.add_argument("--json", action="store_true", help="accepted for likeness with `dialgate bench`")
    for figure in importlib.import_module(f"tests.bench.{parser.parse_args().name}").run():
        show_json(figure)


if __name__ == "__main__":
    main()
