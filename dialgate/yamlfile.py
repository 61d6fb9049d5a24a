"""A file of YAML, read with suspicion."""

from collections.abc import Iterator, Mapping
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
import yaml
from msgspec import Struct
from msgspec.structs import fields

_T = TypeVar("_T")
_LOST: Any = object()
_LIKE_A_NUMBER = 100_000  # YAML reads +390612345678 without quotes as a number, and drops the +


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
    """Return the data as `kind`, or every fault in it: msgspec ends at the first. Each says what to write instead."""
    try:
        return msgspec.convert(data, kind), []
    except msgspec.ValidationError as error:
        return None, list(_faults(data, kind, "$")) or [str(error)]


def salvage(data: Any, kind: type[_T]) -> _T | None:
    """Return what remains of data with faults when those are left out, to look for others in it; None where too little does.
    Never for use."""
    rest = _salvaged(data, kind)
    return None if rest is _LOST else msgspec.convert(rest, kind)


def _salvaged(data: Any, kind: Any) -> Any:
    plain = _plain(data, kind)
    if isinstance(data, dict) and isinstance(plain, type) and issubclass(plain, Struct):
        return _salvaged_struct(data, plain)
    if isinstance(data, list) and get_origin(plain) is tuple and get_args(plain)[-1] is Ellipsis:
        parts = (_salvaged(each, get_args(plain)[0]) for each in data)
        return _or_lost([part for part in parts if part is not _LOST], kind)
    if plain is str and isinstance(data, int) and not isinstance(data, bool):
        return _or_lost(f"+{data}", kind)
    return _or_lost(data, kind)


def _salvaged_struct(data: dict[Any, Any], kind: type[Struct]) -> Any:
    known = {field.encode_name: field for field in fields(kind)}
    parts = {name: _salvaged(value, known[name].type) for name, value in data.items() if name in known}
    tag_field = kind.__struct_config__.tag_field
    if tag_field in data:
        parts[tag_field] = data[tag_field]
    return _or_lost({name: part for name, part in parts.items() if part is not _LOST}, kind)


def _or_lost(data: Any, kind: Any) -> Any:
    try:
        msgspec.convert(data, kind)
    except msgspec.ValidationError:
        return _LOST
    return data


def _faults(data: Any, kind: Any, at: str) -> Iterator[str]:
    plain = _plain(data, kind)
    if isinstance(data, dict) and isinstance(plain, type) and issubclass(plain, Struct):
        yield from _faults_of_keys(data, plain, at)
    elif isinstance(data, dict) and get_origin(plain) is Mapping:
        for name, value in data.items():
            yield from _faults(value, get_args(plain)[1], f"{at}.{name}")
    elif isinstance(data, list) and get_origin(plain) is tuple and get_args(plain)[-1] is Ellipsis:
        for place, each in enumerate(data):
            yield from _faults(each, get_args(plain)[0], f"{at}[{place}]")
    else:
        try:
            msgspec.convert(data, kind)
        except msgspec.ValidationError as error:
            text, _, within = str(error).partition(" - at `$")
            advice = _advice(data, plain) if not within else ""
            yield f"{_placed(text, at + within.removesuffix('`'))}{advice and f'; {advice}'}"


def _plain(data: Any, kind: Any) -> Any:
    """Return the kind without its limits; of several, the one that the data is meant to be."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) not in {Union, UnionType}:
        return kind
    kinds = [_plain(data, each) for each in get_args(kind) if each is not type(None)]
    tagged = [each for each in kinds if isinstance(data, dict) and _tag(each) == data.get(_tag_field(each))]
    return kinds[0] if len(kinds) == 1 else tagged[0] if len(tagged) == 1 else kind


def _tag(kind: Any) -> Any:
    return kind.__struct_config__.tag if isinstance(kind, type) and issubclass(kind, Struct) else None


def _tag_field(kind: Any) -> Any:
    return kind.__struct_config__.tag_field if isinstance(kind, type) and issubclass(kind, Struct) else None


def _advice(data: Any, kind: Any) -> str:
    """Say what to write, where that is known."""
    if get_origin(kind) is Literal:
        return f"write one of {', '.join(map(str, get_args(kind)))}"
    if kind is date:
        return "write a day as 2026-11-24"
    if kind is bool:
        return "write true or false"
    if kind is not str or data is None or isinstance(data, str | dict | list):
        return ""
    if isinstance(data, int) and abs(data) >= _LIKE_A_NUMBER:
        return f'put telephone numbers in quotes, as in "+{data}"'
    return "put it in quotes"  # YAML reads NO as false, 12 as a number


def _faults_of_keys(data: dict[Any, Any], kind: type[Struct], at: str) -> Iterator[str]:
    known = {field.encode_name: field for field in fields(kind)}
    shape = kind.__struct_config__
    for name, value in data.items():
        if name in known:
            yield from _faults(value, known[name].type, f"{at}.{name}")
        elif shape.forbid_unknown_fields and name != shape.tag_field:
            near = get_close_matches(str(name), known, 1)
            advice = f"; did you mean `{near[0]}`?" if near else ""
            yield _placed(f"Object contains unknown field `{name}`", at) + advice
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
