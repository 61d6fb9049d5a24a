"""The error messages of the HTTP API, collected from the source for the page of error codes.

A message is the text of a `Fault`, a `Refused` or a `Misstated`. `…` is a placeholder for a value. Other messages, such as those about the
type of a field, are not collected; the page lists their forms.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent / "dialgate"
# The console shows its own pages, FastAGI sends only the code, and commands have codes of their own.
_OTHER = ("interfaces/console", "interfaces/fastagi", "interfaces/cli", "tools")
_CLASSES = {
    "Fault": "dialgate.interfaces.http.errors",
    "Refused": "dialgate.core.refusal",
    "Misstated": "dialgate.ledger.event_drafts",
}
_BAD_REQUEST = 400


class ErrorMessage(NamedTuple):
    """A message, with its code and status.

    `field` is the name of the faulty field. It is `…` if the field varies, and empty if no field is named.
    """

    code: str
    status: int
    text: str
    field: str


def collect() -> list[ErrorMessage]:
    """Return all messages, sorted by code and text."""
    found: set[ErrorMessage] = set()
    for path in sorted(ROOT.rglob("*.py")):
        if not str(path.relative_to(ROOT)).startswith(_OTHER):
            text = path.read_text("utf-8")
            if any(name in text for name in _CLASSES):  # most modules have none, and parsing is slow
                found.update(_messages(ast.parse(text)))
    return sorted(message for message in found if not message.code.startswith("console."))


def _messages(module: ast.Module) -> Iterator[ErrorMessage]:
    known = _known_classes(module)
    if not known:
        return
    for scope in ast.walk(module):
        if isinstance(scope, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for call in _calls(scope):
                if isinstance(call.func, ast.Name) and call.func.id in known:
                    yield from _of_call(call.func.id, call, scope)
        if isinstance(scope, ast.ClassDef) and "Refused" in known & {
            ast.unparse(base) for base in scope.bases
        }:
            for node in ast.walk(scope):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__":
                    yield from _of_call("Refused", node, scope)


def _known_classes(module: ast.Module) -> set[str]:
    imported = {
        (name.name, statement.module)
        for statement in ast.walk(module)
        if isinstance(statement, ast.ImportFrom)
        for name in statement.names
    }
    defined = {node.name for node in module.body if isinstance(node, ast.ClassDef)}
    return {name for name, origin in _CLASSES.items() if (name, origin) in imported or name in defined}


def _calls(scope: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls in a scope, except those in nested functions and classes."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.Call):
            yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _calls(child)


def _of_call(name: str, call: ast.Call, scope: ast.AST) -> Iterator[ErrorMessage]:
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    parameters = {
        "Fault": ("status", "code", "text"),
        "Refused": ("code", "text", "at", "status"),
        "Misstated": ("text", "at"),
    }[name]
    values = dict(zip(parameters, call.args, strict=False)) | named
    status = values.get("status", ast.Constant(_BAD_REQUEST))
    code = values.get("code", ast.Constant("request.invalid"))
    if not isinstance(status, ast.Constant) or not isinstance(code, ast.Constant) or "text" not in values:
        return
    field = values.get("field", values.get("at", ast.Constant("")))
    shown = field.value if isinstance(field, ast.Constant) else "…"
    for text in _texts(values["text"], scope):
        if re.search(r"[a-z]", text):  # otherwise all of it is inserted
            yield ErrorMessage(str(code.value), int(str(status.value)), text, str(shown))


def _texts(node: ast.expr, scope: ast.AST) -> list[str]:
    """Return the texts that an expression can have, or an empty list if they are not in the source."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)]
        case ast.Call(func=ast.Name(id="choose"), args=[first, *_]):
            return [f"{text}: …." for text in _texts(first, scope)]
        case ast.IfExp(body=first, orelse=second):
            return [*_texts(first, scope), *_texts(second, scope)]
        case ast.Name(id=name):
            earlier = [
                statement
                for statement in ast.walk(scope)
                if isinstance(statement, ast.Assign)
                and statement.lineno <= node.lineno
                and any(isinstance(target, ast.Name) and target.id == name for target in statement.targets)
            ]
            return _texts(max(earlier, key=lambda found: found.lineno).value, scope) if earlier else []
    return []
