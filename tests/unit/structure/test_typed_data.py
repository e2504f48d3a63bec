"""No module parses the text of an error or a reason: errors and reasons have typed fields, and only `messages` makes sentences.

A text belongs to an error or a reason if it is `str()` of a caught exception, if its name or attribute is one of `TEXTS`, or if it was made
from such a text in the same function. Cutting it, replacing in it and searching it is parsing.
"""

import ast
from typing import Final

import pytest

TEXTS: Final = frozenset({"because", "cause", "complaint", "detail", "explanation", "hint", "reason", "sentence", "why"})
CUTS: Final = frozenset(
    {"partition", "rpartition", "split", "rsplit", "splitlines", "replace", "removeprefix", "removesuffix"}
) | frozenset({"startswith", "endswith", "find", "rfind", "index", "rindex"})
SEARCHES: Final = frozenset({"search", "match", "fullmatch", "findall", "finditer", "sub", "subn", "split"})
KEEPERS: Final = frozenset({"as_text", "one_line", "printable", "repr", "said", "storable", "str"})
"""Functions whose result is the same text, or the text of the same error."""
EXCEPTIONS: Final = {
    # The Rego engine and pydantic have no field to ask instead.
    "policy/engines.py": {"explain", "_has_function"},
    "tools/signature.py": {"describe_error"},
    # Schema 0002 stored sentences; this migration finds their codes.
    "store/migrations/versions/r0003_reasons.py": {"_code_of_run", "_code_of_fire"},
}


class _Function:
    """The names in one function that hold such a text."""

    def __init__(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.caught = {one.name for one in ast.walk(node) if isinstance(one, ast.ExceptHandler) and one.name}
        every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        self.caught |= {one.arg for one in every if one.annotation and ast.unparse(one.annotation).endswith(("Error", "Exception"))}
        self.named: set[str] = set()
        assigned = [one for one in ast.walk(node) if isinstance(one, (ast.Assign, ast.AnnAssign, ast.NamedExpr))]
        for _pass in range(3):
            for one in assigned:
                targets = one.targets if isinstance(one, ast.Assign) else [one.target]
                if one.value is not None and self.is_text(one.value):
                    self.named |= {target.id for target in targets if isinstance(target, ast.Name)}

    def is_text(self, node: ast.expr) -> bool:
        match node:
            case ast.Name(id=name):
                return name in TEXTS or name in self.named
            case ast.Attribute(attr=name):
                return name in TEXTS or name == "message"
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in KEEPERS:
                return self.is_text(first) or (isinstance(first, ast.Name) and first.id in self.caught)
            case ast.Call(func=ast.Attribute(value=value)):
                return self.is_text(value)
            case ast.JoinedStr(values=values):
                return any(isinstance(one, ast.FormattedValue) and self._holds(one.value) for one in values)
            case ast.BinOp(left=left, op=ast.Add(), right=right) | ast.IfExp(body=left, orelse=right):
                return self.is_text(left) or self.is_text(right)
            case ast.BoolOp(values=values):
                return any(map(self.is_text, values))
            case ast.Subscript(value=value):
                return self.is_text(value)
        return False

    def _holds(self, node: ast.expr) -> bool:
        return self.is_text(node) or (isinstance(node, ast.Name) and node.id in self.caught)

    def parses(self, node: ast.AST) -> bool:
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr=attr), args=args):
                return (attr in CUTS and self.is_text(value)) or (attr in SEARCHES and any(map(self.is_text, args)))
            case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[right]):
                return self.is_text(right)
        return False


def _parsing(tree: ast.Module) -> list[tuple[str, int, str]]:
    """Function, line and text of each place that parses; a nested function counts for itself."""
    found: dict[tuple[int, int], tuple[str, int, str]] = {}
    for node in (one for one in ast.walk(tree) if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))):
        function = _Function(node)
        for one in ast.walk(node):
            if isinstance(one, (ast.Call, ast.Compare)) and function.parses(one):
                found[one.lineno, one.col_offset] = (node.name, one.lineno, ast.unparse(one))
    return sorted(found.values(), key=lambda one: one[1])


def test_no_module_parses_text_of_another_module(modules: dict[str, ast.Module]) -> None:
    wrong = []
    for path, tree in modules.items():
        if not path.startswith("messages/"):
            allowed = EXCEPTIONS.get(path, set())
            wrong += [f"{path}:{line}: {text}" for name, line, text in _parsing(tree) if name not in allowed]
    assert wrong == []


def test_every_exception_is_still_needed(modules: dict[str, ast.Module]) -> None:
    assert {path: names & {name for name, _line, _text in _parsing(modules[path])} for path, names in EXCEPTIONS.items()} == EXCEPTIONS


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n try: pass\n except ValueError as error:\n  a, _, b = str(error).partition('; ')",
        "def f():\n try: pass\n except ValueError as error:\n  return str(error).startswith(('it', 'no'))",
        "def f(fire): return fire.reason.removeprefix('it waits: ')",
        "def f(failure): return 'max_completion_tokens' not in failure.explanation",
        "def f(fire): return RUN.search(fire.reason)",
        "import re\ndef f(reason): return re.sub('a', 'b', reason)",
        "def f(error: OSError):\n text = one_line(str(error))\n cut = text.strip()\n return cut.split(': ')",
        "def f(error: OSError):\n said = f'{error}: no'\n return 'locked' in said",
    ],
)
def test_parsing_is_found(source: str) -> None:
    assert _parsing(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "def f(path): return path.name.partition('.')[0]",
        "def f(error: OSError): return error.status in (401, 403)",
        "def f(fire): return f'{fire.reason}; {fire.hint}'",
        "def f(names, name): return name in names",
    ],
)
def test_other_code_is_not_reported(source: str) -> None:
    assert not _parsing(ast.parse(source))
