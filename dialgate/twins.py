"""What YAML lets pass and a configuration must not: a key that stands twice."""

from collections.abc import Iterator
from typing import Any

import yaml


def twins(raw: bytes) -> Iterator[str]:
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
