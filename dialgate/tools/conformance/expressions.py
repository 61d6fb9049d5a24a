"""An emulator for Asterisk's `$[…]` expressions, as observed on Asterisk 22.10.1 and 18.26.4.

A syntax error does not make an expression false. The result is the value that the parser had computed before
the error: `$["a" = "a" & "x" "y" = "z"]` is 1. If the parser had computed no value, the result is 0. A character that
begins no token, such as an unclosed quote, is skipped.
"""

import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

_TOKEN: Final = re.compile(
    r"""\s+|(?P<text>"[^"]*"|[A-Za-z0-9.';\\_^\#@$\x80-\U0010ffff]+)|(?P<operator>\|\|?|&&?|==?|!=|>=?|<=?)|(?P<other>[^"])|."""
)
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
_Token: TypeAlias = tuple[str, str]


class Unknown(Exception):
    """Raised for a part of a script that the emulator does not support. The message names the part."""


class SyntaxFault(Exception):
    pass


def evaluate(expression: str) -> str:
    """Return the value: `1`, `0`, or an operand's text. Raises `Unknown` for unsupported operators."""
    try:
        return _Parser(list(_tokens(expression))).value()
    except SyntaxFault:
        return "0"


def _tokens(expression: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(expression):
        if match.lastgroup == "other":
            raise Unknown(f"the operator {match[0]} in $[{expression}]")
        if match.lastgroup is not None:
            yield match.lastgroup, match[0]


class _Parser:
    """A parser for expressions.

    Precedence from lowest to highest: `|`, `&`, comparisons. All operators are left-associative.
    """

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens

    def value(self) -> str:
        """Return the value of the expression, or of the part before the first unexpected token."""
        return self._reduce(0) if self._tokens and self._tokens[0][0] == "text" else ""

    def _reduce(self, rank: int) -> str:
        if rank == len(_RANKS):
            return self._operand()
        left = self._reduce(rank + 1)
        while self._tokens and (join := _RANKS[rank].get(self._tokens[0][1])) is not None:
            self._tokens.pop(0)
            left = join(left, self._reduce(rank + 1))
        return left

    def _operand(self) -> str:
        if not self._tokens or self._tokens[0][0] != "text":
            raise SyntaxFault
        return self._tokens.pop(0)[1]


_Join: TypeAlias = Callable[[str, str], str]


def _is_true(value: str) -> bool:
    """Return whether Asterisk treats the value as true.

    Quotes are part of the text, so `""` is not empty.
    """
    return value not in {"", "0"}


def _compare(test: Callable[[Any, Any], bool]) -> _Join:
    def join(left: str, right: str) -> str:
        numeric = _NUMBER.fullmatch(left) and _NUMBER.fullmatch(right)
        return str(int(test(float(left), float(right)) if numeric else test(left, right)))

    return join


_AND: Final[_Join] = lambda left, right: left if _is_true(left) and _is_true(right) else "0"  # noqa: E731 - a table's cell
_OR: Final[_Join] = lambda left, right: left if _is_true(left) else right  # noqa: E731 - as above
_EQUAL, _UNEQUAL = _compare(operator.eq), _compare(operator.ne)
_RANKS: Final[tuple[dict[str, _Join], ...]] = (
    {"|": _OR, "||": _OR},
    {"&": _AND, "&&": _AND},
    {
        "=": _EQUAL, "==": _EQUAL, "!=": _UNEQUAL, ">": _compare(operator.gt), "<": _compare(operator.lt),
        ">=": _compare(operator.ge), "<=": _compare(operator.le),
    },
)  # fmt: skip
