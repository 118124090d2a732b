"""The part of Lua 5.0 that a driver of a TSP instrument sends: assignments, calls, tables, arithmetic, if, for, while.

A chunk is compiled before anything of it is carried out, as the instrument does: a syntax error prevents all of it.
There are no function definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rramlab.sim.smus.luaexpressions import END, Expression, Expressions, Locals
from rramlab.sim.smus.luavalues import Indexable, one, truth

MOST_STEPS = 1_000_000  # a script with more is taken for an endless one

Statement = Callable[[Locals], None]


class _Break(Exception):
    """A loop is left."""


class Compiler(Expressions):
    """One chunk of text, read from left to right."""

    def __init__(self, text: str, environment: Indexable) -> None:
        super().__init__(text, environment)
        self._steps = 0

    # Statements --------------------------------------------------------------------------------------------------

    def chunk(self) -> Statement:
        """Return the whole text as one statement."""
        body = self._block()
        if self._word != END:
            self._fail("unexpected symbol")
        return body

    def _block(self) -> Statement:
        statements: list[Statement] = []
        while self._word not in ("end", "else", "elseif", "until", END):
            statements.append(self._statement())
            self._accept(";")

        def run(scope: Locals) -> None:
            for statement in statements:
                statement(scope)

        return run

    def _closed(self) -> Statement:
        body = self._block()
        self._expect("end")
        return body

    def _statement(self) -> Statement:
        compound = {
            "local": self._local, "if": self._if, "for": self._for, "while": self._while, "repeat": self._repeat,
            "do": self._closed, "break": self._break,
        }.get(self._word)  # fmt: skip
        if compound is not None:
            self._at += 1
            return compound()
        if self._tokens[self._at][0] != "name":
            self._fail("unexpected symbol")
        return self._assignment_or_call()

    @staticmethod
    def _break() -> Statement:
        def run(scope: Locals) -> None:
            raise _Break

        return run

    def _local(self) -> Statement:
        names = [self._name()]
        while self._accept(","):
            names.append(self._name())
        values = self._expressions() if self._accept("=") else lambda scope: []

        def run(scope: Locals) -> None:
            got = values(scope)
            scope.update(zip(names, [*got, *[None] * len(names)], strict=False))

        return run

    def _assignment_or_call(self) -> Statement:
        line = self._tokens[self._at][2]
        expression, target = self._suffixed()
        if target is None:
            return self._call(expression, line)
        targets = [target]
        while self._accept(","):
            _, target = self._suffixed()
            if target is None:
                self._fail("syntax error")
            targets.append(target)
        if self._word != "=":
            self._fail("`=' expected")
        self._at += 1
        values = self._expressions()

        def run(scope: Locals) -> None:
            self._step(line)
            got = values(scope)
            for put, value in zip(targets, [*got, *[None] * len(targets)], strict=False):
                put(scope, value)

        return run

    def _call(self, expression: Expression, line: int) -> Statement:
        def run(scope: Locals) -> None:
            self._step(line)
            expression(scope)

        return run

    def _step(self, line: int) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            self._stop(line, "script aborted")

    def _if(self) -> Statement:
        branches: list[tuple[Expression, Statement]] = []
        otherwise: Statement | None = None
        while True:
            condition = self._expression()
            self._expect("then")
            branches.append((condition, self._block()))
            if not self._accept("elseif"):
                break
        if self._accept("else"):
            otherwise = self._block()
        self._expect("end")

        def run(scope: Locals) -> None:
            for condition, body in branches:
                if truth(one(condition(scope))):
                    return body(scope)
            return otherwise(scope) if otherwise is not None else None

        return run

    def _for(self) -> Statement:
        line = self._tokens[self._at][2]
        name = self._name()
        self._expect("=")
        bounds = self._expressions()
        self._expect("do")
        body = self._closed()

        def values(scope: Locals) -> Iterator[float]:
            got = [*bounds(scope), 1.0][:3]
            if len(got) < 3 or not all(isinstance(each, float) for each in got) or not got[2]:
                self._stop(line, "`for' initial value must be a number")
            value, last, step = got
            while value <= last if step > 0 else value >= last:
                yield value
                value += step

        def loop(scope: Locals) -> None:
            for value in values(scope):
                self._step(line)
                scope[name] = value
                body(scope)

        return self._looping(loop)

    def _while(self) -> Statement:
        line = self._tokens[self._at][2]
        condition = self._expression()
        self._expect("do")
        body = self._closed()

        def loop(scope: Locals) -> None:
            while truth(one(condition(scope))):
                self._step(line)
                body(scope)

        return self._looping(loop)

    def _repeat(self) -> Statement:
        line = self._tokens[self._at][2]
        body = self._block()
        self._expect("until")
        condition = self._expression()

        def loop(scope: Locals) -> None:
            while True:
                self._step(line)
                body(scope)
                if truth(one(condition(scope))):
                    return

        return self._looping(loop)

    @staticmethod
    def _looping(loop: Statement) -> Statement:
        def run(scope: Locals) -> None:
            try:
                loop(scope)
            except _Break:
                return

        return run


def run(text: str, environment: Indexable) -> None:
    """Carry out a chunk; raises ``TspSyntaxError`` before, or ``TspRuntimeError`` half-way."""
    Compiler(text, environment).chunk()({})
