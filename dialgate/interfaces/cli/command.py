"""The shape of a command: options, one question, and the answer as text or JSON."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import typer

from dialgate.interfaces.cli.gate_client import Command, asks_gate, misuse_of
from dialgate.interfaces.cli.options import AsJson, reporting
from dialgate.runtime.terminal import NO, show_json, show_table

T = TypeVar("T")
Ask: TypeAlias = Callable[..., T]


def command(
    show: Callable[[T], object] = lambda _: None,
    *,
    ok: Callable[[T], object] = lambda _: True,
    data: Callable[[T], object] = lambda answer: answer,
    misuses: Sequence[str] = (),
) -> Callable[[Ask[T | None]], Command]:
    """Return a decorator that makes a command of a function that returns an answer, or raises what `reporting` reports.

    - `show`: shows the answer. With --json, `data` of the answer is printed instead
    - `ok`: whether the exit code is 0
    - `misuses`: error codes for which the exit code is 2

    The command has the option --json, which the function may have as its parameter `as_json`. For a parameter `gate`, it has the
    options of `asks_gate`. The function returns None if it has shown the answer itself.
    """

    def decorate(ask: Ask[T | None]) -> Command:
        parameters = dict(inspect.signature(ask).parameters)
        wants_json = "as_json" in parameters
        json_option = inspect.Parameter(
            "as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson
        )
        parameters.setdefault("as_json", json_option)

        def run(*, as_json: bool, **values: Any) -> None:
            with reporting(as_json=as_json), misuse_of(*misuses):
                answer = ask(**values, **({"as_json": as_json} if wants_json else {}))
            if answer is None:
                return
            show_json(data(answer)) if as_json else show(answer)
            if not ok(answer):
                raise typer.Exit(NO)

        run.__name__, run.__doc__ = ask.__name__, ask.__doc__
        run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
        return asks_gate(run) if "gate" in parameters else run

    return decorate


def show_rows(
    title: str, rows: Sequence[T], columns: Mapping[str, str | Callable[[T], object]], *, whole: int = 0
) -> None:
    """Show a table with a row for each item. A column is the name of an attribute, or a function of the item."""
    cells = [
        [getattr(row, column) if isinstance(column, str) else column(row) for column in columns.values()]
        for row in rows
    ]
    show_table(title, list(columns), cells, whole=whole)
