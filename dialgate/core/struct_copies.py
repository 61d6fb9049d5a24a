"""Structs with the content of other structs, such as what a client sees of a stored document."""

from functools import cache
from typing import Any, TypeVar

from msgspec import Struct

S = TypeVar("S", bound=Struct)


def copy_fields(source: Struct, kind: type[S], /, **others: Any) -> S:
    """Return a struct with the fields of `source` that `kind` has, too, except those in `others`."""
    shared = _shared_names(type(source), kind)
    return kind(**{name: getattr(source, name) for name in shared if name not in others}, **others)


@cache
def _shared_names(source: type[Struct], kind: type[Struct]) -> frozenset[str]:
    return frozenset(source.__struct_fields__).intersection(kind.__struct_fields__)
