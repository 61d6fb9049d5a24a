"""A file of YAML, read with suspicion."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import msgspec
import yaml
from msgspec import Struct
from msgspec.structs import fields

_T = TypeVar("_T")


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


def convert(data: Any, kind: type[_T]) -> tuple[_T | None, list[str]]:
    """What was read as `kind`, or everything that is wrong with it: msgspec ends at the first fault."""
    try:
        return msgspec.convert(data, kind), []
    except msgspec.ValidationError as error:
        return None, list(_faults(data, kind, "$")) or [str(error)]


def _faults(data: Any, kind: Any, at: str) -> Iterator[str]:
    if isinstance(data, dict) and isinstance(kind, type) and issubclass(kind, Struct):
        yield from _faults_of_keys(data, kind, at)
    elif isinstance(data, list) and get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis:
        for place, each in enumerate(data):
            yield from _faults(each, get_args(kind)[0], f"{at}[{place}]")
    else:
        try:
            msgspec.convert(data, kind)
        except msgspec.ValidationError as error:
            text, _, within = str(error).partition(" - at `$")
            yield _placed(text, at + within.removesuffix("`"))


def _faults_of_keys(data: dict[Any, Any], kind: type[Struct], at: str) -> Iterator[str]:
    known = {field.encode_name: field for field in fields(kind)}
    shape = kind.__struct_config__
    for name, value in data.items():
        if name in known:
            yield from _faults(value, known[name].type, f"{at}.{name}")
        elif shape.forbid_unknown_fields and name != shape.tag_field:
            yield _placed(f"Object contains unknown field `{name}`", at)
    for name, field in known.items():
        if name not in data and field.required:
            yield _placed(f"Object missing required field `{name}`", at)


def _placed(text: str, at: str) -> str:
    return text if at == "$" else f"{text} - at `{at}`"


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
