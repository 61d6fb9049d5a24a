"""Mutants of Python source: each contains one small mistake."""

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from tests.mutants.survivors import Mutant

_LONGEST = 100  # characters of the text in the name of a mutant

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_CALCULATED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_EXCHANGED = {"min": "max", "max": "min", "any": "all", "all": "any"}

# A mutant of a node: a copy with one thing changed, or several statements in place of one.
Node: TypeAlias = ast.AST
Place: TypeAlias = tuple[tuple[str, int | None], ...]


class Change(NamedTuple):
    """A mutant with its source.

    - `lines` are the lines of the changed node.
    - `in_body` is true for a change in a function body. Only a test that executes one of the `lines` can detect it.
    - `needs_import` is true for a change in a class body or a type alias. The module must then be imported again.
    - `source` is the whole changed file.
    """

    mutant: Mutant
    function: str
    lines: range
    in_body: bool
    needs_import: bool
    source: str


class _Site(NamedTuple):
    node: Node
    place: Place
    where: str
    in_body: bool
    shown: tuple[Node, Place]  # the part of a statement that names the change
    first: int  # line of the statement


def changes(path: Path, root: Path) -> Iterator[Change]:
    """Yield all mutants of the file `path`. The file names in the mutants are relative to `root`."""
    tree = ast.parse(path.read_text("utf-8"))
    types = {node.lineno for node in tree.body if isinstance(node, ast.AnnAssign) and _is_type(node)}
    times = Counter[Mutant]()
    for site in _sites(tree, (), "", in_body=False, shown=None, first=1):
        for made in _mutated(site.node):
            text = _described(site, made)
            mutant = Mutant(str(path.relative_to(root)), site.where or "(module)", text)
            times[mutant] += 1
            if times[mutant] > 1:
                mutant = mutant._replace(change=f"{text} ({times[mutant]})")
            lines = range(site.first, (getattr(site.node, "end_lineno", None) or site.first) + 1)
            changed = ast.fix_missing_locations(_replaced(tree, site.place, made))
            needs_import = not site.in_body and (bool(site.where) or site.first in types)
            yield Change(mutant, site.where, lines, site.in_body, needs_import, ast.unparse(changed))


def _is_type(node: ast.AnnAssign) -> bool:
    return ast.unparse(node.annotation) == "TypeAlias"


# ---- places ----------------------------------------------------------------------------------------------------------


def _sites(
    node: Node, place: Place, where: str, *, in_body: bool, shown: tuple[Node, Place] | None, first: int
) -> Iterator[_Site]:
    """Yield the nodes that can be changed, except annotations, docstrings and messages."""
    if isinstance(node, ast.JoinedStr) or _is_text(node):
        return
    if isinstance(node, ast.stmt):
        first = node.lineno
    if isinstance(node, (ast.stmt, ast.expr, ast.match_case)):
        if (
            shown is None
            or isinstance(node, (ast.stmt, ast.match_case))
            or len(_unparse(shown[0])) > _LONGEST
        ):
            shown = node, place
        if not isinstance(node, ast.match_case):
            yield _Site(node, place, where, in_body, shown, first)
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params") or _is_alias(node, field):
            continue
        inner, inside = _inside(node, field, where, in_body=in_body)
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if isinstance(child, ast.AST):
                step = (field, index if isinstance(value, list) else None)
                yield from _sites(child, (*place, step), inner, in_body=inside, shown=shown, first=first)


def _inside(node: Node, field: str, where: str, *, in_body: bool) -> tuple[str, bool]:
    """Return the scope of the nodes in `field`, and whether these nodes are in a function body.

    The scope is a qualified name, as in `where`.
    """
    if field != "body" or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return where, in_body
    is_class = isinstance(node, ast.ClassDef)
    is_nested = in_body and not is_class
    return where if is_nested else f"{where}.{node.name}".lstrip("."), in_body or not is_class


def _is_text(node: Node) -> bool:
    """Return whether a node is a docstring or a message: an expression statement or a string of several words."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip()


def _is_alias(node: Node, field: str) -> bool:
    if isinstance(node, ast.ClassDef) and field == "keywords":
        return True  # `frozen`, `kw_only`: how values are made, not what is decided
    return isinstance(node, (ast.Import, ast.ImportFrom)) or (isinstance(node, ast.Call) and field == "func")


# ---- mistakes --------------------------------------------------------------------------------------------------------


def _mutated(node: Node) -> Iterator[Node]:
    for kinds, mistakes in _MISTAKES:
        if isinstance(node, kinds):
            yield from mistakes(node)


def _of_compare(node: Any) -> Iterator[Node]:
    for index, operator in enumerate(node.ops):
        for other in _COMPARED[type(operator)]:
            made = copy.deepcopy(node)
            made.ops[index] = other()
            yield made


def _of_bool(node: Any) -> Iterator[Node]:
    made = copy.deepcopy(node)
    made.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield made
    for index in range(len(node.values)):
        rest = [copy.deepcopy(value) for value in (*node.values[:index], *node.values[index + 1 :])]
        yield rest[0] if len(rest) == 1 else ast.BoolOp(copy.copy(node.op), rest)


def _of_not(node: Any) -> Iterator[Node]:
    if isinstance(node.op, (ast.Not, ast.USub)):
        yield copy.deepcopy(node.operand)


def _of_calculation(node: Any) -> Iterator[Node]:
    if type(node.op) in _CALCULATED:
        made = copy.deepcopy(node)
        made.op = _CALCULATED[type(node.op)]()
        yield made


def _of_constant(node: Any) -> Iterator[Node]:
    match node.value:
        case bool():
            yield ast.Constant(not node.value)
        case int():
            yield ast.Constant(node.value + 1)
        case str():
            yield ast.Constant(f"{node.value}x")


def _of_call(node: Any) -> Iterator[Node]:
    for index, keyword in enumerate(node.keywords):
        if keyword.arg:
            made = copy.deepcopy(node)
            del made.keywords[index]
            yield made
    if len(node.args) > 1 and not isinstance(node.args[-1], ast.Starred):
        made = copy.deepcopy(node)
        made.args.pop()
        yield made
    if isinstance(node.func, ast.Name) and node.func.id in _EXCHANGED:
        made = copy.deepcopy(node)
        made.func = ast.Name(_EXCHANGED[node.func.id], ast.Load())
        yield made


def _of_comprehension(node: Any) -> Iterator[Node]:
    for outer, generator in enumerate(node.generators):
        for index in range(len(generator.ifs)):
            made = copy.deepcopy(node)
            del made.generators[outer].ifs[index]
            yield made


def _of_condition(node: Any) -> Iterator[Node]:
    for value in (False, True):
        if isinstance(node, ast.While) and value:
            continue
        made = copy.copy(node)
        made.test = ast.Constant(value)
        yield made


def _of_return(node: Any) -> Iterator[Node]:
    if node.value is not None and not (isinstance(node.value, ast.Constant) and not node.value.value):
        yield ast.Return(ast.Constant(None))


def _of_statement(node: Any) -> Iterator[Node]:
    if not (isinstance(node, ast.AnnAssign) and node.value is None):
        yield ast.Pass()


_MISTAKES: tuple[tuple[Any, Callable[[Any], Iterator[Node]]], ...] = (
    (ast.Compare, _of_compare),
    (ast.BoolOp, _of_bool),
    (ast.UnaryOp, _of_not),
    ((ast.BinOp, ast.AugAssign), _of_calculation),
    (ast.Constant, _of_constant),
    (ast.Call, _of_call),
    ((ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp), _of_comprehension),
    ((ast.If, ast.IfExp, ast.While), _of_condition),
    (ast.Return, _of_return),
    ((ast.Expr, ast.AugAssign, ast.Raise, ast.Continue, ast.Break, ast.Delete), _of_statement),
)


# ---- words -----------------------------------------------------------------------------------------------------------


def _described(site: _Site, made: Node) -> str:
    shown, place = site.shown
    before = _unparse(shown)
    after = _unparse(_replaced(shown, site.place[len(place) :], made))
    return f"{before}  ->  {after}"


def _unparse(node: Node) -> str:
    """Return source text on one line. A statement with a body is reduced to its first line."""
    body = getattr(node, "body", None)
    if isinstance(body, list):
        node = copy.copy(node)
        node.body = []  # type: ignore[attr-defined]
        if hasattr(node, "orelse"):
            node.orelse = []
        if hasattr(node, "handlers"):
            node.handlers, node.finalbody = [], []  # type: ignore[attr-defined]
    if isinstance(node, ast.Match):
        return f"match {ast.unparse(node.subject)}:"
    return " ".join(ast.unparse(node).split())


def _replaced(root: Any, place: Place, made: Node) -> Any:
    """Return a copy of `root` with the node at `place` replaced. All other nodes are shared."""
    if not place:
        return made
    (field, index), *rest = place
    copied = copy.copy(root)
    value = getattr(root, field)
    if index is None:
        setattr(copied, field, _replaced(value, tuple(rest), made))
    else:
        several = list(value)
        several[index] = _replaced(value[index], tuple(rest), made)
        setattr(copied, field, several)
    return copied
