"""Values in the cells of a table: as JSON, or as Python, NumPy or pandas print them.

A data frame writes what is neither number nor text into CSV as it prints it: ``['Rome' 'Oslo']`` is
an array of two texts, which Python itself would read as one. Cost: one pass over the cell.
"""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Iterator
from contextlib import suppress

_LITERALS = (tokenize.STRING, tokenize.NUMBER)
_SPACE = (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT)


def parse_printed(cell: str) -> object:
    """Return the value that a cell holds; the cell where it holds none.

    >>> parse_printed("{'text': array(['Rome'], dtype=object), 'answer_start': array([15])}")
    {'text': ['Rome'], 'answer_start': [15]}
    >>> parse_printed("['Rome' 'Oslo']"), parse_printed("[see below]")
    (['Rome', 'Oslo'], '[see below]')
    """
    for parse in (json.loads, _parse_python):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
            return parse(cell.strip())
    return cell


def _parse_python(text: str) -> object:
    """Return a value that Python or NumPy prints.

    Raises:
        ValueError: It is none.
        SyntaxError: It is none.
        tokenize.TokenError: It is none.
    """
    tree = ast.parse(" ".join(_with_commas(text)), mode="eval")
    return ast.literal_eval(_ArraysAsLists().visit(tree))


def _with_commas(text: str) -> Iterator[str]:
    """Yield the parts of a value, with a comma between two texts or numbers of an array."""
    last = None
    for kind, part, *_ in tokenize.generate_tokens(io.StringIO(text).readline):
        if kind in _SPACE:
            continue
        if kind in _LITERALS and last in _LITERALS:
            yield ","
        yield part
        last = kind


class _ArraysAsLists(ast.NodeTransformer):
    """Takes ``array([...], dtype=object)`` for its list."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Return the list of an array; another call stays as it is."""
        is_array = isinstance(node.func, ast.Name) and node.func.id == "array" and node.args
        return self.visit(node.args[0]) if is_array else node


__all__ = ["parse_printed"]
