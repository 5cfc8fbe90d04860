"""Conditions on rows, as one writes them in Python, such as `task == "depth" and noise in ("t100", "t502")`.

What is written is parsed and never run: there are names of columns, literals, comparisons, `in`, `and`, `or`, `not` and
parentheses, and nothing else. There are no calls, attributes or subscripts.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from evaluate.errors import QueryError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 1000
"""Characters of a condition; it keeps the parser's depth in bounds."""
QUOTED = 40
"""Characters of a condition's part that a message repeats."""
ALLOWED = "There are columns, literals, ==, !=, <, <=, >, >=, in, not in, and, or, not, and parentheses"
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
}
_KINDS = {"string": "text", "int64": "numbers", "float64": "numbers", "bool": "true or false"}


class Condition:
    """A condition on the rows of a table.

    A missing value (no noise level, no value) equals nothing but `None`, differs from everything else, and is neither
    less nor greater than anything.

    Args:
        text: the condition.
        types: name of every column that may be named -> `string`, `int64`, `float64` or `bool`.

    Raises:
        QueryError: it is not one, names an unknown column, or compares what cannot be compared; with the place.
    """

    def __init__(self, text: str, types: Mapping[str, str]) -> None:
        self.text, self._types = text.strip(), dict(types)
        if len(text) > LONGEST:
            raise QueryError(f"a condition may have {LONGEST} characters; got {len(text)}")
        try:
            self._tree = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            where = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
            raise QueryError(f"{text!r} is no condition{where}: {_reason(error)}. {ALLOWED}.") from error
        self._check(self._tree)

    def rows(self, table: pd.DataFrame) -> pd.Series[bool]:
        """Return whether each row meets the condition."""
        return self._mask(self._tree, table).fillna(False).astype(bool)

    def possible(self, table: pd.DataFrame) -> pd.Series[bool]:
        """Return whether each row can meet the condition, whatever is in the columns that the table lacks."""
        return self._mask(self._tree, table).fillna(True).astype(bool)

    def _mask(self, node: ast.expr, table: pd.DataFrame) -> pd.Series[Any]:
        """Return true, false, or NA where a column is not there: `and`, `or` and `not` go by Kleene's logic."""
        import pandas as pd

        if isinstance(node, ast.BoolOp):
            masks = [self._mask(value, table) for value in node.values]
            joined = masks[0]
            for mask in masks[1:]:
                joined = joined & mask if isinstance(node.op, ast.And) else joined | mask
            return joined
        if isinstance(node, ast.UnaryOp):
            return ~self._mask(node.operand, table)
        if isinstance(node, ast.Name):
            if node.id in table:
                return table[node.id].astype("boolean")
            return pd.Series(pd.NA, table.index, dtype="boolean")
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            parts = [
                self._compared(left, comparison, right, table)
                for left, comparison, right in zip(sides[:-1], node.ops, sides[1:], strict=True)
            ]
            joined = parts[0]
            for part in parts[1:]:
                joined = joined & part
            return joined
        assert isinstance(node, ast.Constant)
        return pd.Series(bool(node.value), table.index, dtype="boolean")

    def _compared(self, left: ast.expr, how: ast.cmpop, right: ast.expr, table: pd.DataFrame) -> pd.Series[Any]:
        import pandas as pd

        named = [side.id for side in (left, right) if isinstance(side, ast.Name)]
        if any(name not in table for name in named):
            return pd.Series(pd.NA, table.index, dtype="boolean")
        if isinstance(how, ast.In | ast.NotIn):
            column = table[named[0]]
            if isinstance(right, ast.Name):
                found = column.str.contains(_literal(left), regex=False)
            else:
                values = _literal(right)
                found = column.isin([value for value in values if value is not None])
                found = found | column.isna() if None in values else found
            found = found.astype("boolean").fillna(False)
            return ~found if isinstance(how, ast.NotIn) else found
        if len(named) == 2:
            one, other = table[named[0]], table[named[1]]
            known = one.notna() & other.notna()
            return _known(_COMPARE[type(how)](one, other), known, isinstance(how, ast.NotEq))
        # A column on the right: 3 < depth is depth > 3.
        sign = type(how) if isinstance(left, ast.Name) else _MIRRORED[type(how)]
        column, value = table[named[0]], _literal(right if isinstance(left, ast.Name) else left)
        if value is None:
            return (column.isna() if sign is ast.Eq else column.notna()).astype("boolean")
        return _known(_COMPARE[sign](column, value), column.notna(), sign is ast.NotEq)

    def _check(self, node: ast.expr) -> None:
        """Raise `QueryError` unless the node is something that is true or false."""
        if isinstance(node, ast.BoolOp):
            for value in node.values:
                self._check(value)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self._check(node.operand)
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, how, right in zip(sides[:-1], node.ops, sides[1:], strict=True):
                self._check_pair(left, how, right)
        elif isinstance(node, ast.Name):
            if self._type(node) != "bool":
                raise self._error(node, f"{node.id} holds {_KINDS[self._type(node)]}; compare it with something")
        elif not (isinstance(node, ast.Constant) and isinstance(node.value, bool)):
            raise self._error(node, f"{self._said(node)} is neither true nor false. {ALLOWED}")

    def _check_pair(self, left: ast.expr, how: ast.cmpop, right: ast.expr) -> None:
        kinds = [self._kinds(side) for side in (left, right)]
        named = [isinstance(side, ast.Name) for side in (left, right)]
        if not any(named):
            raise self._error(left, "a comparison needs a column on one side")
        if isinstance(how, ast.Is | ast.IsNot):
            raise self._error(left, "write == and != instead of is and is not")
        listed = [isinstance(side, ast.Tuple | ast.List | ast.Set) for side in (left, right)]
        if isinstance(how, ast.In | ast.NotIn):
            within = named[0] and listed[1]
            inside = isinstance(left, ast.Constant) and kinds == [{"text"}, {"text"}] and named[1]
            if not within and not inside:
                raise self._error(right, 'write COLUMN in ("a", "b"), or "part" in COLUMN of a column that holds text')
        elif any(listed):
            raise self._error(left, "a list can only stand after in and not in")
        ordered = isinstance(how, ast.Lt | ast.LtE | ast.Gt | ast.GtE)
        if ordered and "nothing" in kinds[0] | kinds[1]:
            raise self._error(left, "None can be compared with ==, != and in only")
        whole, other = kinds if named[0] else kinds[::-1]
        if not other - {"nothing"} <= whole:
            wrong = " and ".join(sorted(other - whole - {"nothing"}))
            name = next(side.id for side in (left, right) if isinstance(side, ast.Name))
            raise self._error(left, f"{name} holds {' or '.join(whole)}, which cannot be compared with {wrong}")

    def _kinds(self, node: ast.expr) -> set[str]:
        """Return what a side of a comparison holds: text, numbers, true or false, nothing."""
        if isinstance(node, ast.Name):
            return {_KINDS[self._type(node)]}
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            return set().union(*(self._kinds_of_literal(item) for item in node.elts))
        return self._kinds_of_literal(node)

    def _kinds_of_literal(self, node: ast.expr) -> set[str]:
        negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd)
        inner = node.operand if negative and isinstance(node, ast.UnaryOp) else node
        value = inner.value if isinstance(inner, ast.Constant) else ...
        if isinstance(value, bool) and not negative:
            return {"true or false"}
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"numbers"}
        if isinstance(value, str) and not negative:
            return {"text"}
        if value is None and not negative:
            return {"nothing"}
        raise self._error(node, f"{self._said(node)} is neither a column nor a literal. {ALLOWED}")

    def _type(self, node: ast.Name) -> str:
        if node.id not in self._types:
            raise self._error(node, f"unknown column {node.id!r}. {did_you_mean(node.id, self._types)}", end="")
        return self._types[node.id]

    def _said(self, node: ast.expr) -> str:
        # As it was written: to unparse what is nested deeply would run out of stack.
        said = ast.get_source_segment(self.text, node) or ""
        return repr(said if len(said) <= QUOTED else f"{said[:QUOTED]}…")

    def _error(self, node: ast.expr, what: str, end: str = ".") -> QueryError:
        return QueryError(f"{self.text!r}, character {node.col_offset + 1}: {what}{end}")


def _literal(node: ast.expr) -> Any:
    return ast.literal_eval(node)


def _known(result: pd.Series[Any], known: pd.Series[bool], differs: bool) -> pd.Series[Any]:
    """Say of a comparison with a missing value that it holds only if it asks whether both differ."""
    return result.astype("boolean").fillna(differs).where(known, differs)


def _reason(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error) or "too deep"
