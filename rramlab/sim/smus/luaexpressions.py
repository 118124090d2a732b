"""Words and expressions of the instrument's Lua, compiled into functions of a chunk's local variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from rramlab.sim.smus.luavalues import (
    Indexable,
    Several,
    Table,
    TspRuntimeError,
    TspSyntaxError,
    kind,
    one,
    spell,
    truth,
)

Locals = dict[str, Any]
Expression = Callable[[Locals], Any]
Target = Callable[[Locals, Any], None]

_TOKEN = re.compile(
    r"""(?P<skip>\s+|--\[\[.*?\]\]|--[^\n]*)
      | (?P<number>0[xX][0-9a-fA-F]{1,13}|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\[\[.*?\]\])
      | (?P<symbol>\.\.\.|\.\.|==|~=|<=|>=|[-+*/^<>=(){}\[\];:,.\#])
      | (?P<wrong>.)""",
    re.VERBOSE | re.DOTALL,
)
_KEYWORDS = frozenset((
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in",
    "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
))  # fmt: skip
END = "<eof>"
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: float(np.divide(a, b)),
    "^": lambda a, b: float(np.float_power(a, b)),
}
# Binding strength, left and right; a stronger left side than right makes an operator group to the left.
_BINDS = {
    "or": (1, 1), "and": (2, 2), "<": (3, 3), ">": (3, 3), "<=": (3, 3), ">=": (3, 3), "~=": (3, 3), "==": (3, 3),
    "..": (5, 4), "+": (6, 6), "-": (6, 6), "*": (7, 7), "/": (7, 7), "^": (10, 9),
}  # fmt: skip
_UNARY = 8


class Expressions:
    """One chunk of text, read from left to right."""

    def __init__(self, text: str, environment: Indexable) -> None:
        self._tokens = list(self._scan(text))
        self._at = 0
        self._environment = environment

    @staticmethod
    def _scan(text: str) -> Iterator[tuple[str, str, int]]:
        line = 1
        for match in _TOKEN.finditer(text):
            kind, word = str(match.lastgroup), match[0]
            if kind == "wrong":
                what = "unfinished string" if word in "\"'" else "unexpected symbol"
                raise TspSyntaxError(f"TSP Syntax error at line {line}: {what} near `{word}'")
            if kind != "skip":
                yield ("symbol" if word in _KEYWORDS else kind, word, line)
            line += word.count("\n")
        yield ("symbol", END, line)

    # Tokens ------------------------------------------------------------------------------------------------------

    @property
    def _word(self) -> str:
        kind, word, _ = self._tokens[self._at]
        return word if kind == "symbol" else ""

    def _take(self) -> str:
        word = self._tokens[self._at][1]
        self._at += 1
        return word

    def _accept(self, word: str) -> bool:
        if self._word == word:
            self._at += 1
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            self._fail(f"`{word}' expected")

    def _name(self) -> str:
        if self._tokens[self._at][0] != "name":
            self._fail("<name> expected")
        return self._take()

    def _fail(self, what: str) -> NoReturn:
        _, word, line = self._tokens[self._at]
        raise TspSyntaxError(f"TSP Syntax error at line {line}: {what} near `{word}'")

    def _stop(self, line: int, what: str) -> NoReturn:
        raise TspRuntimeError(f"TSP Runtime error at line {line}: {what}")

    # Expressions -------------------------------------------------------------------------------------------------

    def _expressions(self) -> Callable[[Locals], list[Any]]:
        parts = [self._expression()]
        while self._accept(","):
            parts.append(self._expression())

        def values(scope: Locals) -> list[Any]:
            last = parts[-1]
            got = [one(part(scope)) for part in parts[:-1]]
            final = last(scope)
            return [*got, *final] if isinstance(final, Several) else [*got, final]

        return values

    def _expression(self, strength: int = 0) -> Expression:
        left = self._operand()
        while self._word in _BINDS and _BINDS[self._word][0] > strength:
            line = self._tokens[self._at][2]
            operator = self._take()
            left = self._binary(operator, left, self._expression(_BINDS[operator][1]), line)
        return left

    def _binary(self, operator: str, left: Expression, right: Expression, line: int) -> Expression:
        if operator == "and":
            return lambda scope: one(right(scope)) if truth(value := one(left(scope))) else value
        if operator == "or":
            return lambda scope: value if truth(value := one(left(scope))) else one(right(scope))
        if operator in ("==", "~="):
            return lambda scope: (one(left(scope)) == one(right(scope))) == (operator == "==")

        def run(scope: Locals) -> Any:
            a, b = one(left(scope)), one(right(scope))
            numbers = type(a) is float and type(b) is float
            if operator == "..":
                if not all(isinstance(each, (str, float)) for each in (a, b)):
                    self._stop(
                        line, f"attempt to concatenate a {kind(a if not isinstance(a, (str, float)) else b)} value"
                    )
                return spell(a) + spell(b)
            if operator in _COMPARE:
                if not numbers and not (isinstance(a, str) and isinstance(b, str)):
                    self._stop(line, f"attempt to compare {kind(a)} with {kind(b)}")
                return _COMPARE[operator](a, b)
            if not numbers:
                self._stop(line, f"attempt to perform arithmetic on a {kind(b if type(a) is float else a)} value")
            with np.errstate(all="ignore"):  # as in Lua, what has no value is nan or infinite
                return _ARITHMETIC[operator](a, b)

        return run

    def _operand(self) -> Expression:
        kind_, word, line = self._tokens[self._at]
        if kind_ == "number":
            value = float(int(word, 16)) if word[:2] in ("0x", "0X") else float(word)
            self._at += 1
            return constant(value)
        if kind_ == "string":
            self._at += 1
            text = word[2:-2] if word[0] == "[" else re.sub(r"\\(.)", _unescape, word[1:-1])
            return constant(text)
        constants = {"nil": None, "true": True, "false": False}
        if kind_ == "symbol" and word in constants:
            self._at += 1
            return constant(constants[word])
        if word in ("-", "not") and kind_ == "symbol":
            self._at += 1
            operand = self._expression(_UNARY)
            if word == "not":
                return lambda scope: not truth(one(operand(scope)))
            return self._binary("-", constant(0.0), operand, line)
        if self._accept("{"):
            return self._table()
        if kind_ != "name" and word != "(":
            self._fail("unexpected symbol")
        return self._suffixed()[0]

    def _table(self) -> Expression:
        keyed: list[tuple[Expression, Expression]] = []
        listed: list[Expression] = []
        while not self._accept("}"):
            if self._accept("["):
                key = self._expression()
                self._expect("]")
                self._expect("=")
                keyed.append((key, self._expression()))
            elif self._tokens[self._at][0] == "name" and self._tokens[self._at + 1][1] == "=":
                name = self._name()
                self._expect("=")
                keyed.append((constant(name), self._expression()))
            else:
                listed.append(self._expression())
            if not self._accept(",") and not self._accept(";") and self._word != "}":
                self._fail("`}' expected")

        def make(scope: Locals) -> Table:
            table = Table([one(each(scope)) for each in listed])
            for key, value in keyed:
                table.set(one(key(scope)), one(value(scope)))
            return table

        return make

    def _suffixed(self) -> tuple[Expression, Target | None]:
        """Return a name with what follows it, and how to assign to it; None if it is a call or in parentheses."""
        target: Target | None
        if self._accept("("):
            inside = self._expression()
            self._expect(")")
            expression, described, target = (lambda scope: one(inside(scope))), "expression", None
        else:
            name = self._name()
            expression, target = self._variable(name)
            described = f"global `{name}'"
        while True:
            line = self._tokens[self._at][2]
            if self._accept("."):
                field = self._name()
                expression, target = self._indexed(expression, constant(field), described, line)
                described = f"field `{field}'"
            elif self._accept("["):
                key = self._expression()
                self._expect("]")
                expression, target = self._indexed(expression, key, described, line)
                described = "field `?'"
            elif self._accept("("):
                arguments = (lambda scope: []) if self._word == ")" else self._expressions()
                self._expect(")")
                expression, target = self._called(expression, arguments, described, line), None
            else:
                return expression, target

    def _variable(self, name: str) -> tuple[Expression, Target]:
        def read(scope: Locals) -> Any:
            return scope[name] if name in scope else self._environment.get(name)

        def write(scope: Locals, value: Any) -> None:
            if name in scope:
                scope[name] = value
            else:
                self._environment.set(name, value)

        return read, write

    def _indexed(self, base: Expression, key: Expression, described: str, line: int) -> tuple[Expression, Target]:
        def holder(scope: Locals) -> Indexable:
            value = one(base(scope))
            if not hasattr(value, "get"):
                self._stop(line, f"attempt to index {described} (a {kind(value)} value)")
            found: Indexable = value
            return found

        return (
            lambda scope: holder(scope).get(one(key(scope))),
            lambda scope, value: holder(scope).set(one(key(scope)), value),
        )

    def _called(
        self, base: Expression, arguments: Callable[[Locals], list[Any]], described: str, line: int
    ) -> Expression:
        def run(scope: Locals) -> Any:
            function = one(base(scope))
            if not callable(function):
                self._stop(line, f"attempt to call {described} (a {kind(function)} value)")
            return function(*arguments(scope))

        return run


def constant(value: Any) -> Expression:
    return lambda scope: value


def _unescape(match: re.Match[str]) -> str:
    return {"n": "\n", "t": "\t", "r": "\r"}.get(match[1], match[1])
