"""Structs with the content of other structs, such as what a client sees of a stored document."""

from typing import Any, TypeVar

from msgspec import Struct

S = TypeVar("S", bound=Struct)


def copy_fields(source: Struct, kind: type[S], /, **others: Any) -> S:
    """Return a struct with the fields of `source` that `kind` has, too, except those in `others`."""
    shared = set(kind.__struct_fields__) & set(source.__struct_fields__) - others.keys()
    return kind(**{name: getattr(source, name) for name in shared}, **others)
