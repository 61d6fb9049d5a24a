"""A file of YAML, read with suspicion."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


def read(path: Path) -> tuple[Any, bytes | None, list[str]]:
    """What it says, its bytes, and what is wrong with it; no bytes where it cannot be read at all."""
    try:
        raw = path.read_bytes()
        data = yaml.load(raw, Loader=yaml.CSafeLoader)
    except OSError as error:
        return None, None, [f"cannot be read: {error.strerror}"]
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a day that does not exist
        return None, None, [f"not YAML: {' '.join(str(error).split())}"]
    return data, raw, list(_twins(raw))


def _twins(raw: bytes) -> Iterator[str]:
    """Of two keys of one name YAML keeps the later: a law's second `hours` would undo its first."""
    waiting, seen = [yaml.compose(raw, Loader=yaml.CSafeLoader)], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.CollectionNode) and node not in seen:
            seen.add(node)
            names: list[Any] = []
            for part in node.value:
                key, value = part if isinstance(node, yaml.MappingNode) else (None, part)
                waiting.append(value)
                if isinstance(key, yaml.ScalarNode) and key.value in names:
                    yield f"line {key.start_mark.line + 1}: {key.value} stands twice; only one would count"
                names.append(key and key.value)
