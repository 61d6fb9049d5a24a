"""Command options generated from a request struct."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal, TypeVar

import typer

from dialgate.interfaces.cli.command import Ask
from dialgate.interfaces.cli.ledger_access import ACTOR_VARIABLES, DAY_FORM, INSTANT_FORM, R, request
from dialgate.interfaces.cli.options import number_given
from dialgate.ledger.request_fields import Field, fields_of
from dialgate.ledger.schemas import Request

T = TypeVar("T")
# Names of options that may be repeated, in the singular.
_SINGULAR = {"purposes": "purpose", "call_types": "call-type", "campaigns": "campaign"}
_MORE = "May be repeated."
_literal: Any = Literal  # Any, because mypy rejects a Literal made from values


def options_of(
    kind: type[R],
    *,
    channel: str = "cli",
    required: Collection[str] = (),
    fixed: Mapping[str, Any] = {},
    **annotations: Any,
) -> Callable[[Ask[T]], Ask[T]]:
    """Return a decorator that adds an option for each field of a request, and passes the request to the function.

    - `channel`: the default for the option --channel
    - `required`: fields that are required even if they have a default
    - `fixed`: fields that have a fixed value and no option
    - `annotations`: hand-written annotations, by field name, that replace the generated ones

    If the function has a parameter with the same name as a field, it also receives the value of that field.
    """
    fields = [field for field in fields_of(kind) if field.name not in fixed]
    fields.sort(key=lambda field: field.name in Request.__struct_fields__)  # common fields last
    defaults = {"channel": channel}
    parameters = [
        _parameter(field, annotations.get(field.name), defaults, optional=field.name not in required)
        for field in fields
        if field.shape != "structure" or field.name in annotations
    ]
    names = {parameter.name for parameter in parameters}

    def decorate(ask: Ask[T]) -> Ask[T]:
        _, *own = inspect.signature(ask).parameters.values()

        def run(**options: Any) -> T:
            values = {**{name: options[name] for name in names}, **fixed}
            own_values = {parameter.name: options[parameter.name] for parameter in own}
            return ask(request(kind, values), **own_values)

        run.__name__, run.__doc__ = ask.__name__, ask.__doc__
        generated = [parameter for parameter in own if parameter.name not in names]
        run.__signature__ = inspect.Signature([*parameters, *generated])  # type: ignore[attr-defined]
        return run

    return decorate


def _parameter(
    field: Field, annotation: Any, defaults: Mapping[str, str], *, optional: bool
) -> inspect.Parameter:
    default = defaults.get(field.name, field.default)
    if field.required or not optional:
        default = inspect.Parameter.empty
    elif field.shape in {"instant", "day"}:
        default = ""
    elif isinstance(default, tuple):
        default = list(default)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=annotation or _annotation(field),
    )


def _annotation(field: Field) -> Any:
    name = f"--{_SINGULAR.get(field.name, field.name.replace('_', '-'))}"
    about = field.description
    match field.shape:
        case "telephone":
            metavar = "NUMBER" if field.name != "number" else None
            about = f"{about.removesuffix('.')}. Use - to read it from standard input."
            return Annotated[str, typer.Argument(metavar=metavar, help=about, callback=number_given)]
        case "instant":
            return Annotated[str, typer.Option(name, metavar="TIME", help=f"{about} {INSTANT_FORM}")]
        case "day":
            return Annotated[str, typer.Option(name, metavar="DATE", help=f"{about} {DAY_FORM}")]
        case "flag":
            names = (name, f"--no-{name.removeprefix('--')}") if field.default else (name,)
            return Annotated[bool, typer.Option("/".join(names), help=about)]
        case "choice":
            return Annotated[_literal[field.choices], typer.Option(name, help=about)]
        case "choices":  # Typer has no list of literals; the request refuses other values
            metavar = "|".join(field.choices)
            return Annotated[list[str], typer.Option(name, metavar=metavar, help=f"{about} {_MORE}")]
        case "texts":
            return Annotated[list[str], typer.Option(name, help=f"{about} {_MORE}")]
        case _:
            variables = ACTOR_VARIABLES if field.name == "actor" else None
            return Annotated[str, typer.Option(name, envvar=variables, help=about)]
