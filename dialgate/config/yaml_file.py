"""A strict reader of YAML files, which reports all faults with advice on how to correct them."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec
import yaml
from msgspec import Struct
from msgspec.structs import fields

from dialgate.config.validation_messages import choices, plain
from dialgate.core.name_suggestions import did_you_mean

_T = TypeVar("_T")
_FIGURES = re.compile(r"-?\d+(\.\d+)?")
UNREADABLE: Final = (OSError, yaml.YAMLError, ValueError)  # ValueError: a value that its tag does not allow
_LIKE_A_NUMBER = 100_000  # YAML reads +390612345678 without quotes as a number, and drops the +


class _Loader(yaml.CSafeLoader):
    """A loader that leaves dates as text, so that the schema reports an invalid date with all other faults."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def read(path: Path) -> tuple[Any, bytes | None, list[str]]:
    """Read a YAML file. Return its data, its raw bytes and a list of problems.

    Data and bytes are None if the file is unreadable or not YAML.
    """
    try:
        raw = path.read_bytes()
        data, problems = parse(raw)
    except UNREADABLE as error:
        return None, None, [explain(error)]
    return data, raw, problems


def explain(error: Exception) -> str:
    """Return the problem of a file whose reading or parsing raised one of `UNREADABLE`."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return f"not YAML: {at}{error.problem or error.context}"
    text = " ".join(str(error).split()).replace(' in "<byte string>",', " at")
    return f"not YAML: {text}"


def parse(raw: bytes) -> tuple[Any, list[str]]:
    """Return the data and a message for each repeated key. Raises one of `UNREADABLE`."""
    with suppress(_NotPlain, yaml.YAMLError, ValueError, RecursionError):
        return _PlainReader(raw).read(), []
    loader = _Loader(raw)
    try:
        node = loader.get_single_node()
        # Before `construct_document`, which changes nodes that merge others.
        problems = list(_duplicate_keys(node))
        return loader.construct_document(node) if node else None, problems
    finally:
        loader.dispose()


class _NotPlain(Exception):
    """Raised for YAML that `_PlainReader` leaves to PyYAML: anchors, tags, keys that are not text, repeated keys."""


class _PlainReader:
    """A reader of plain YAML in a fifth of PyYAML's time, which makes an object for each node and each of its places.

    The parser and the meaning of scalars are PyYAML's. Any fault is left to PyYAML, whose messages name the place.
    """

    def __init__(self, raw: bytes) -> None:
        self._loader = _Loader(raw)
        self._next = self._loader.get_event
        self._scalars: dict[str, Any] = {}  # by their text: files repeat most of them

    def read(self) -> Any:
        try:
            data = None
            self._next()  # the start of the stream
            if not self._loader.check_event(yaml.StreamEndEvent):
                self._next()
                data = self._value(self._next())
                self._next()
            if not self._loader.check_event(yaml.StreamEndEvent):
                raise _NotPlain  # a second document
            return data
        finally:
            self._loader.dispose()

    def _value(self, event: Any) -> Any:
        if event.anchor is not None or event.tag is not None:
            raise _NotPlain
        kind = type(event)
        if kind is yaml.ScalarEvent:
            return self._scalar(event.value) if event.implicit[0] else event.value
        if kind is yaml.SequenceStartEvent:
            items = []
            while type(event := self._next()) is not yaml.SequenceEndEvent:
                items.append(self._value(event))
            return items
        if kind is yaml.MappingStartEvent:
            return self._mapping()
        raise _NotPlain

    def _mapping(self) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while type(event := self._next()) is not yaml.MappingEndEvent:
            key = self._value(event)
            if not isinstance(key, str) or key in members:
                raise _NotPlain
            members[key] = self._value(self._next())
        return members

    def _scalar(self, text: str) -> Any:
        if text not in self._scalars:
            tag = self._loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
            node = yaml.ScalarNode(tag, text)
            self._scalars[text] = self._loader.construct_object(node)
        return self._scalars[text]


def convert(data: Any, kind: type[_T]) -> tuple[_T | None, list[str]]:
    """Convert data to `kind`. Return the result, or None and all faults, with advice.

    Msgspec alone would report only the first fault.
    """
    try:
        return msgspec.convert(data, kind), []
    except msgspec.ValidationError as error:
        return None, list(_faults(data, kind, "$")) or [plain(str(error), "key")]


def _faults(data: Any, kind: Any, at: str) -> Iterator[str]:
    plain_kind = _plain(data, kind)
    if isinstance(data, dict) and _is_struct(plain_kind):
        yield from _faults_of_keys(data, plain_kind, at)
    elif isinstance(data, dict) and get_origin(plain_kind) is Mapping:
        of_names, of_values = get_args(plain_kind)
        for name, value in data.items():
            yield from _faults(name, of_names, f"{at}.{name}")
            yield from _faults(value, of_values, f"{at}.{name}")
    elif isinstance(data, list) and _is_array(plain_kind):
        for place, item in enumerate(data):
            yield from _faults(item, get_args(plain_kind)[0], f"{at}[{place}]")
    else:
        try:
            msgspec.convert(data, kind)
        except msgspec.ValidationError as error:
            text, _, within = str(error).partition(" - at `$")
            within = within.removesuffix("`")
            advice = _advice(data, plain_kind) if not within else _one_of(kind, within)
            if text.startswith("Invalid enum value") and not within:
                text = f"{data!r} is not allowed"
            yield f"{_prefix_path(plain(text, 'key'), at + within)}{advice and f'; {advice}'}"


def _plain(data: Any, kind: Any) -> Any:
    """Return a type without its limits. For a union, return the member that matches the data's tag."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) not in {Union, UnionType}:
        return kind
    kinds = [_plain(data, member) for member in get_args(kind) if member is not type(None)]
    tagged = [member for member in kinds if isinstance(data, dict) and _has_tag(member, data)]
    return kinds[0] if len(kinds) == 1 else tagged[0] if len(tagged) == 1 else kind


def _has_tag(kind: Any, data: dict[Any, Any]) -> bool:
    shape = kind.__struct_config__ if _is_struct(kind) else None
    return shape is not None and shape.tag == data.get(shape.tag_field)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _is_array(kind: Any) -> bool:
    return get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis


def _advice(data: Any, kind: Any) -> str:
    """Return what to write instead of an invalid value, or ""."""
    if get_origin(kind) is Literal:
        return _one_of(kind, "")
    if kind in {int, float} and isinstance(data, str) and _FIGURES.fullmatch(data):
        return "write it without quotes"
    if kind is not str or data is None or isinstance(data, str | dict | list):
        return ""
    if isinstance(data, int) and abs(data) >= _LIKE_A_NUMBER:
        return 'put telephone numbers in quotes, for example "+390844123456"'
    return "put it in quotes"  # YAML reads NO as false and 12 as a number


def _one_of(kind: Any, place: str) -> str:
    names = choices(kind, place)
    return f"write one of {', '.join(names)}" if names else ""


def _faults_of_keys(data: dict[Any, Any], kind: type[Struct], at: str) -> Iterator[str]:
    known = {field.encode_name: field for field in fields(kind)}
    shape = kind.__struct_config__
    removed: Mapping[str, str] = getattr(kind, "removed", {})
    for name, value in data.items():
        if name in known:
            yield from _faults(value, known[name].type, f"{at}.{name}")
        elif name in removed:
            yield _prefix_path(f"`{name}` was removed; {removed[name]}", at)
        elif shape.forbid_unknown_fields and name != shape.tag_field:
            yield _prefix_path(f"unknown key `{name}`", at) + did_you_mean(str(name), known)
    for name, field in known.items():
        if name not in data and field.required:
            yield _prefix_path(f"missing key `{name}`", at)


def _prefix_path(text: str, at: str) -> str:
    return text if at == "$" else f"{at.removeprefix('$').removeprefix('.')}: {text}"


def _duplicate_keys(root: yaml.Node | None) -> Iterator[str]:
    """Yield a message for each repeated key. YAML uses the last one, so a second `hours` would replace the first."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.CollectionNode) and node not in seen:
            seen.add(node)
            names: list[Any] = []
            for part in node.value:
                key, value = part if isinstance(node, yaml.MappingNode) else (None, part)
                waiting.append(value)
                if isinstance(key, yaml.ScalarNode) and key.value in names:
                    yield f"line {key.start_mark.line + 1}: key `{key.value}` is repeated; only its last value would be used"
                names.append(key and key.value)
