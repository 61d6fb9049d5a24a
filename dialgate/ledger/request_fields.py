"""The fields of the structs for ledger requests.

Command options and the columns of import files are generated from these fields.
"""

from typing import Any, Literal, TypeAlias

from msgspec import Struct, inspect

from dialgate.config.validation_messages import choices

Shape: TypeAlias = Literal[
    "text", "telephone", "instant", "day", "flag", "choice", "choices", "texts", "structure"
]


class Field(Struct, frozen=True, kw_only=True):
    """A field in a request.

    A field with the shape `structure` can be sent only over HTTP. It has no command option and no column.
    """

    name: str
    shape: Shape
    required: bool
    default: Any
    description: str
    choices: tuple[str, ...] = ()
    pattern: str = ""


def fields_of(request: type[Struct]) -> tuple[Field, ...]:
    struct = inspect.type_info(request)
    assert isinstance(struct, inspect.StructType)
    return tuple(_read(request, field) for field in struct.fields)


def _read(request: type[Struct], field: inspect.Field) -> Field:
    kind, schema, extra = _unwrapped(field.type)
    shape: Shape = "structure"
    match kind:
        case inspect.StrType():
            shape = "telephone" if extra.get("telephone") else "text"
        case inspect.DateTimeType():
            shape = "instant"
        case inspect.DateType():
            shape = "day"
        case inspect.BoolType():
            shape = "flag"
        case inspect.LiteralType():
            shape = "choice"
        case inspect.VarTupleType():
            item, _, _ = _unwrapped(kind.item_type)
            if isinstance(item, inspect.LiteralType):
                shape = "choices"
            elif isinstance(item, inspect.StrType):
                shape = "texts"
    return Field(
        name=field.name,
        shape=shape,
        required=field.required,
        default=field.default,
        description=schema.get("description", ""),
        # msgspec sorts the choices; keep the order in the declaration.
        choices=choices(request, f".{field.name}" + "[0]" * (shape == "choices")),
        pattern=(isinstance(kind, inspect.StrType) and kind.pattern) or "",
    )


def _unwrapped(kind: inspect.Type) -> tuple[inspect.Type, dict[str, Any], dict[str, Any]]:
    """Strip metadata and `None` from a type. Return the type, and the JSON schema and extra data in the metadata."""
    schema: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    while isinstance(kind, inspect.Metadata | inspect.UnionType):
        if isinstance(kind, inspect.Metadata):
            schema, extra = (kind.extra_json_schema or {}) | schema, (kind.extra or {}) | extra
            kind = kind.type
        else:
            members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
            if len(members) != 1:
                break
            kind = members[0]
    return kind, schema, extra
