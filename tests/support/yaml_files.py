"""Reading and writing of YAML files with libyaml, which is ten times as fast as PyYAML's Python code."""

from pathlib import Path
from typing import Any

import yaml


def read(path: Path) -> Any:
    return yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)


def write(path: Path, content: Any) -> None:
    path.write_bytes(yaml.dump(content, Dumper=yaml.CSafeDumper, encoding="utf-8", allow_unicode=True))
