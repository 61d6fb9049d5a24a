"""A parser for the subset of the OpenSIPS script language that the shipped script uses.

It raises `Unknown` for anything else.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from dialgate.tools.conformance.expressions import Unknown

Tree: TypeAlias = tuple[Any, ...]
_TOKEN: Final = re.compile(
    r"""\s+|\#[^\n]*|(?P<text>"(?:\\.|[^"\\])*")|(?P<number>\d+)|(?P<name>[A-Za-z_]\w*)
    |(?P<variable>\$\((?:[^(){}]|\([^)]*\)|\{[^}]*\})*\)|\$\w+(?:\(\w+\))?)|(?P<sign>&&|\|\||==|!=|!~|=~|>=|<=|[-+=!<>(){}\[\],;])|.""",
    re.VERBOSE,
)


_GLOBAL: Final = re.compile(r"(?m)^[a-z_]+ *=.*$")


def read(script: str) -> tuple[Mapping[str, Tree], Mapping[str, str]]:
    """Return the routes by name, and the rest_client parameters. Raises `Unknown`.

    The name of a failure route is `failure:NAME`, that of the main route is empty. Global parameters are ignored.
    """
    reader = _Reader(list(_tokens(_GLOBAL.sub("", script))))
    routes: dict[str, Tree] = {}
    parameters: dict[str, str] = {}
    while reader.has_more:
        match reader.take():
            case "loadmodule":
                reader.take()
            case "modparam":
                module, name, value = reader.parameter()
                if module == "rest_client":
                    parameters[name] = value
            case ("route" | "failure_route") as kind:
                name = reader.route_name()
                routes[name if kind == "route" else f"failure:{name}"] = reader.block()
            case other:
                raise Unknown(f"the declaration {other}")
    return routes, parameters


def _tokens(script: str) -> Iterator[str]:
    for match in _TOKEN.finditer(script):
        if match.lastgroup is not None:
            yield match[0]
        elif not match[0].isspace() and not match[0].startswith("#"):
            raise Unknown(f"the character {match[0]}")


class _Reader:
    """A recursive-descent parser. Precedence from lowest to highest: `||`, `&&`, comparisons, `+`."""

    _RANKS: Final = (("||",), ("&&",), ("==", "!=", "=~", "!~", ">", "<"), ("+",))

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def has_more(self) -> bool:
        return self._at < len(self._tokens)

    @property
    def next(self) -> str:
        return self._tokens[self._at] if self.has_more else ""

    def take(self) -> str:
        if not self.has_more:
            raise Unknown("a script that ends in the middle of a statement")
        self._at += 1
        return self._tokens[self._at - 1]

    def expect(self, token: str) -> None:
        if (actual := self.take()) != token:
            raise Unknown(f"{actual} where {token} is expected")

    def parameter(self) -> tuple[str, str, str]:
        self.expect("(")
        module = self.take().strip('"')
        self.expect(",")
        name = self.take().strip('"')
        self.expect(",")
        value = self.take().strip('"')
        self.expect(")")
        return module, name, value

    def route_name(self) -> str:
        if self.next != "[":
            return ""
        self.take()
        name = self.take()
        self.expect("]")
        return name

    def block(self) -> Tree:
        self.expect("{")
        statements: list[Tree] = []
        while self.next != "}":
            statements.append(self._statement())
        self.expect("}")
        return tuple(statements)

    def _statement(self) -> Tree:
        if self.next == "if":
            self.take()
            self.expect("(")
            condition = self._expression()
            self.expect(")")
            then = self.block()
            if self.next == "else":
                self.take()
                return "if", condition, then, self.block()
            return "if", condition, then, ()
        statement = self._simple()
        self.expect(";")
        return statement

    def _simple(self) -> Tree:
        if self.next.startswith("$"):
            variable = self.take()
            self.expect("=")
            return "set", variable, self._expression()
        if self.next == "exit":
            self.take()
            return ("exit",)
        if self.next == "async":
            self.take()
            self.expect("(")
            request = self._expression()
            self.expect(",")
            resume = self.take()
            self.expect(")")
            return "async", request, resume
        return self._expression()

    def _expression(self, rank: int = 0) -> Tree:
        if rank == len(self._RANKS):
            return self._operand()
        tree = self._expression(rank + 1)
        while self.next in self._RANKS[rank]:
            sign = self.take()
            name = {"&&": "and", "||": "or"}.get(sign, sign)
            tree = name, tree, self._expression(rank + 1)
        return tree

    def _operand(self) -> Tree:
        word = self.take()
        if word == "!":
            return "not", self._operand()
        if word == "(":
            tree = self._expression()
            self.expect(")")
            return tree
        if word.startswith("$"):
            return "variable", word
        if word.startswith('"'):
            return "literal", re.sub(r"\\(.)", _unescape, word[1:-1])
        if word.isdigit():
            return "literal", int(word)
        return "call", word, self._arguments() if self.next == "(" else ()

    def _arguments(self) -> tuple[Tree, ...]:
        self.expect("(")
        arguments: list[Tree] = []
        while self.next != ")":
            arguments.append(("literal", "") if self.next == "," else self._expression())
            if self.next == ",":
                self.take()
        self.expect(")")
        return tuple(arguments)


def _unescape(match: re.Match[str]) -> str:
    return {"r": "\r", "n": "\n"}.get(match[1], match[1])
