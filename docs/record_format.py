"""The reference page of the record format, generated from the structs that the decision log stores."""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import msgspec
from msgspec import Struct

from dialgate.core import model
from dialgate.decision_log.archive.columns import SCHEMA
from dialgate.decision_log.checkpoints import Checkpoint
from dialgate.decision_log.entry_columns import SEALED
from dialgate.decision_log.segment import Header

# Each section: its heading and the struct.
ENTRIES: tuple[tuple[str, type[Struct]], ...] = (
    ("Segment header", Header),
    ("Grounds record", model.Grounds),
    ("Decision record", model.Decided),
    ("Outcome record", model.OutcomeRecord),
)
PARTS: tuple[type[Struct], ...] = (
    model.Facts, model.Number, model.Controller, model.Campaign, model.DayCount, model.CallerId, model.Place, model.Listing, model.Origin,
    model.Transfer, model.RegistryAnswer, model.Block, model.Known, model.Revocation, model.Consent, model.Contract, model.CallRequest,
    model.WrongNumber, model.Objection, model.Attempt, model.OwnGrounds, model.Decision, model.Pass, model.Skip, model.Deny,
)  # fmt: skip
ALIASES: dict[str, Any] = {
    name: getattr(model, name)
    for name in (
        "BarredDay",
        "Basis",
        "CallType",
        "Callee",
        "ConsentForm",
        "OtherProof",
        "DialMode",
        "Kind",
        "OriginKind",
        "Stated",
        "Purpose",
        "Result",
        "Severity",
        "StopScope",
    )
}
_WORDS = {
    "AttemptValues": "array `[decision, at, result]`, followed by `basis, campaign, goods` unless these are those of the attempt before "
    "(for the first: the shared decision's basis, the call's campaign and goods)",
    "Band": "time window, as in `18:00-21:00`",
    "Instant": "instant",
    "Outcome": "[Pass](#pass), [Skip](#skip) or [Deny](#deny)",
    "Phrase": "text",
    "Transfers": "list of [Transfer](#transfer)",
    "_Hash": "SHA-256 in hex",
    "bool": "true or false",
    "bytes": "bytes",
    "date": "date",
    "int": "whole number",
    "str": "text",
}
_EXAMPLE = model.Decided(
    seq=18,
    id="9f2c01ab-18",
    at=1_795_510_800_000,
    number=bytes(range(16)),
    sealed=bytes(range(41)),
    grounds=17,
    allow=True,
    client="dialer",
    interface="http",
    call_id="c-1",
)


def _fields(kind: type[Struct]) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, values, default and comment of each field, in the order of the record."""
    source = textwrap.dedent(inspect.getsource(kind))
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    declarations = {
        line.target.id: line
        for line in tree.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }
    for field in msgspec.structs.fields(kind):
        declaration = declarations[field.name]
        comment = _comment(source.splitlines(), declaration.lineno)
        yield f"`{field.encode_name}`", _values(declaration.annotation), _default(field), comment


def _comment(lines: list[str], number: int) -> str:
    """Return the comment at the end of a line or on the line above."""
    above, line = lines[number - 2].strip(), lines[number - 1]
    return above.removeprefix("# ") if above.startswith("#") else line.partition("  # ")[2]


def _default(field: Any) -> str:
    if field.required:
        return "required"
    if (
        field.default is msgspec.NODEFAULT
        or field.default in ("", (), None, b"")
        or isinstance(field.default, Struct)
    ):
        return "empty"
    return f"`{json.dumps(field.default)}`"


def _values(annotation: ast.expr) -> str:
    """Return a description of the values that an annotation allows.

    Raises `KeyError` for an annotation that the page does not describe.
    """
    match annotation:
        case ast.Name(id=name):
            sections = {kind.__name__ for kind in PARTS} | ALIASES.keys()
            return f"[{name}](#{name.lower()})" if name in sections else _WORDS[name]
        case ast.BinOp(left=left):  # `… | None`
            return _values(left)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=choices)):
            return ", ".join(value for choice in choices if (value := _values(choice)))
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Constant() as only):
            return _values(only)
        case ast.Constant(value=value):
            return f"`{value!s}`" if value else ""
        case ast.Subscript(
            value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[_, ast.Call(keywords=[limit])])
        ):
            return "SHA-256 in hex" if limit.arg == "pattern" else "whole number, from 1"
        case ast.Subscript(
            value=ast.Name(id="tuple" | "list"), slice=ast.Tuple(elts=[item, _]) | (ast.Name() as item)
        ):
            return f"list of {_values(item)}"
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[key, item])):
            return f"map from {_values(key)} to {_values(item)}"
    raise KeyError(ast.unparse(annotation))


def _about(kind: type[Struct]) -> str:
    return " ".join((kind.__doc__ or "").split())


def _tagged(kind: type[Struct]) -> str:
    """Return a description of a struct's encoding, or "" if it is a plain object."""
    config = kind.__struct_config__
    if config.array_like:
        items = ", ".join([*([f'"{config.tag}"'] if config.tag else []), *kind.__struct_fields__])
        return f"Encoded as an array: `[{items}]`. Trailing defaults may be absent in older records."
    return f'`"type": "{config.tag}"`.' if config.tag else ""


def _section(level: str, title: str, kind: type[Struct]) -> str:
    rows = "\n".join(f"| {' | '.join(row)} |" for row in _fields(kind))
    head = "| field | values | default | meaning |\n| --- | --- | --- | --- |"
    return "\n\n".join(filter(None, (f"{level} {title}", _about(kind), _tagged(kind), f"{head}\n{rows}")))


def _aliases(aliases: Iterable[str]) -> str:
    return "\n\n".join(
        f"### {name}\n\n{', '.join(f'`{value}`' for value in get_args(ALIASES[name]))}" for name in aliases
    )


def record_format() -> str:
    entries = "\n\n".join(_section("##", title, kind) for title, kind in ENTRIES)
    parts = "\n\n".join(_section("###", kind.__name__, kind) for kind in PARTS)
    return f"""
The contents of the decision log, field by field. [The log and its proofs](../explanation/log-and-proofs.md) explains their purpose.

A log is a folder of segments, files named by the sequence of their first entry, such as `0000000000000001.ndjson`. Each line is one JSON object, byte for byte:

```
{{"hash":"<64 hex digits>","entry":<body>}}
```

`hash` is the SHA-256 of the raw hash of the previous line followed by the body as stored. A decision's body:

```json
{msgspec.json.encode(_EXAMPLE).decode()}
```

An instant is a whole number: milliseconds since 1970-01-01T00:00:00Z. A date is `YYYY-MM-DD`. Bytes are Base64. A field with its default value is omitted. Fields are only
ever added, last and with a default, so a reader ignores names that it does not know. `dialgate log verify` proves the lines, and any
JSON reader can read them.

{entries}

## Checkpoint

A line of `checkpoints.ndjson` beside the segments: `{{"signature":"<128 hex digits>","checkpoint":<body>}}`. The Ed25519 signature is over `dialgate checkpoint`, a line
break, and the body as stored.

{_section("###", "Body of a checkpoint", Checkpoint)}

## Parts

{parts}

## Values

{_aliases(ALIASES)}

## Archive

A closed segment is packed into a Parquet file with the columns {", ".join(f"`{name}`" for name in SCHEMA.names)}. `body` holds the
stored entry if the other columns do not reproduce it. `sealed` is stored in two parts, the first 12 bytes in `nonce`; `rest` has the fields of a decision without a
column, as JSON. A decision's `controller`, `campaign`, `country`, `reason`, `reasons`, `basis`, `caller_id` and `law` are taken from its grounds: `reason` is the
first code of a denial, `reasons` all of them, separated by spaces, and a sealed `caller_id` ends with `{SEALED}`. `decision` is a decision's id, also in the row of
its outcome. [Query the log with SQL](../how-to/query-the-log.md) has examples.
"""
