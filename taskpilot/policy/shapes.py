"""Refuses policy files that hold more than what is evaluated: a rule that the engine ignores is a denial that never happens."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

ENTRY_POINTS: Final = ("allow", "deny", "require_approval")
INPUT_FIELDS: Final = ("tool", "arguments", "folded", "agent", "job", "run_id", "job_tools")
MAX_NESTING: Final = 64
MAX_OPERATORS: Final = 500
_OPERATORS: Final = "+-*/%|&=!<>."
_PACKAGE: Final = ("taskpilot", "tools")
_OURS: Final = ("data", *_PACKAGE)
_STRING_OR_COMMENT: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|#[^\n]*')
_NOT_EVALUATED: Final = {
    name: f"{name} is not available to policies, which judge the call's arguments" for name in ("http.send", "opa.runtime")
}

_NO_BOOLEANS: Final = frozenset(
    ("String", "RawString", "Number", "Null", "Array", "Object", "Set", "ArrayCompr", "SetCompr", "ObjectCompr", "ArithExpr", "BinExpr")
)

Node = Mapping[str, Any]


class ShapeRefused(Exception):
    """The message is like `policy/ours.rego:3: ...`."""


@dataclass(slots=True)
class _Rule:
    """One rule of a file, or a further definition of one."""

    name: str
    place: str
    entry: bool = False
    uses: set[str] = field(default_factory=set)


def check_nesting(name: str, text: str) -> None:
    """Raises ShapeRefused for what could use up the engine's stack: brackets that nest deep, endless chains of operators."""
    depth, line, operators, last = 0, 1, 0, ""
    for character in _STRING_OR_COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text):
        line += character == "\n"
        depth += (character in "([{") - (character in ")]}")
        operators += character in _OPERATORS
        if character in "{};,:" or (character == "\n" and last not in _OPERATORS):
            operators = 0
        last = last if character.isspace() else character
        if depth > MAX_NESTING:
            raise ShapeRefused(f"{name}:{line}: brackets nest deeper than {MAX_NESTING} levels")
        if operators > MAX_OPERATORS:
            raise ShapeRefused(f"{name}:{line}: an expression has more than {MAX_OPERATORS} operators")


def check_shapes(modules: Sequence[Node], is_function: Callable[[str], bool]) -> dict[str, str]:
    """The place of each entry point, like `policy/ours.rego:3`. Raises ShapeRefused.

    `modules` are the syntax trees that regorus gives; `is_function` tells whether the engine has a function of that name.
    """
    try:
        return _Shapes(modules, is_function).check()
    except RecursionError:
        raise ShapeRefused(f"{modules[0]['source']['file']}:1: its expressions nest too deep") from None


class _Shapes:
    def __init__(self, modules: Sequence[Node], is_function: Callable[[str], bool]) -> None:
        self._modules = modules
        self._is_function = is_function
        self._names = {_path(_head(rule))[0] for module in modules for rule in module["ast"]["rules"]}
        self._file = ""
        self._text = b""

    def check(self) -> dict[str, str]:
        rules: list[_Rule] = []
        for module in self._modules:
            self._file, self._text = module["source"]["file"], module["source"]["contents"].encode()
            self._check_package(module["ast"])
            rules += [self._rule(node) for node in module["ast"]["rules"]]
        self._check_uses(rules)
        return {rule.name: rule.place for rule in reversed(rules) if rule.entry}

    def _check_package(self, module: Node) -> None:
        package = module["package"]
        if _path(package["refr"]) != list(_PACKAGE):
            shown = ".".join(str(part) for part in _path(package["refr"]))
            self._refuse(package, f"its package is {shown}, and only `package taskpilot.tools` is evaluated")
        for one in module["imports"]:
            path = _path(one["refr"])
            if path != ["rego", "v1"] and path[:2] != ["future", "keywords"]:
                self._refuse(one, "only `import rego.v1` and `import future.keywords` are evaluated")
        if not module["rules"]:
            self._refuse(package, "it defines no rule")

    def _rule(self, node: Node) -> _Rule:
        kind, body = next(iter(node.items()))
        head = _head(node)
        path = _path(head)
        name = str(path[0])
        if any("RefDot" in part for part in _chain(head)):
            self._refuse(body, f"a rule with a dot in its name ({'.'.join(map(str, path))}) is not evaluated")
        rule = _Rule(name, self._place(body))
        if name in ENTRY_POINTS:
            rule.entry = True
            self._check_entry(name, kind, body, head)
        elif len(path) > 1 and "Set" in body.get("head", {}):
            self._refuse(body, "a set of sets is not evaluated")
        local = set(self._declared(body))
        for part in _chain(head):
            if "RefBrack" in part:
                self._look(part["RefBrack"]["index"], rule, local)
        rest = {**body, **next(iter(body.get("head", {"": {}}).values()))}
        self._look([value for key, value in rest.items() if key not in ("refr", "head")], rule, local)
        return rule

    def _check_entry(self, name: str, kind: str, body: Node, head: Node) -> None:
        """Only the shapes that the evaluation reads: a boolean, and for deny and require_approval a set of reasons."""
        form = (
            "write `allow if { ... }`, its value is true or false"
            if name == "allow"
            else f'write `{name} contains "the reason" if {{ ... }}`, or `{name} if {{ ... }}`'
        )
        plain = "Var" in head
        if kind == "Default":
            if not plain or body["args"] or "Bool" not in body["value"]:
                self._refuse(body, f"this default of {name} is not evaluated: {form}")
            return
        shape, of = next(iter(body["head"].items()))
        elses = [one for one in body["bodies"] if one["is_else"]]
        assigned = [one["value"] for one in (of.get("assign"), *(one["assign"] for one in body["bodies"])) if one]
        kinds = {next(iter(value)) for value in assigned}
        if name == "allow":
            good = shape == "Compr" and plain and not kinds & _NO_BOOLEANS
        elif shape == "Set":
            good = plain
        else:
            good = shape == "Compr" and plain and not elses and kinds <= {"Bool", "Set", "SetCompr"}
        if not good:
            self._refuse(body, f"this shape of {name} is not evaluated: {form}")

    def _look(self, node: Any, rule: _Rule, local: set[str]) -> None:
        """Notes the rules that an expression uses, and refuses what would be undefined without an error."""
        if isinstance(node, list):
            for item in node:
                self._look(item, rule, local)
            return
        if not isinstance(node, dict):
            return
        if node.get("with_mods"):
            self._refuse(node, "`with` is for tests of policies, and not evaluated here")
        if "Call" in node:
            self._check_call(node["Call"], rule, local)
            self._look(node["Call"]["params"], rule, local)
            return
        if node.keys() & {"Var", "RefDot", "RefBrack"}:
            self._check_reference(node, rule, local)
            for part in _chain(node):
                if "RefBrack" in part:
                    self._look(part["RefBrack"]["index"], rule, local)
                elif not part.keys() & {"Var", "RefDot"}:
                    self._look(part, rule, local)
            return
        for value in node.values():
            self._look(value, rule, local)

    def _check_call(self, call: Node, rule: _Rule, local: set[str]) -> None:
        path = _path(call["fcn"])
        if path[0] in self._names or path[0] == "data":
            self._check_reference(call["fcn"], rule, local)
            return
        name = ".".join(str(part) for part in path)
        if name in _NOT_EVALUATED:
            self._refuse(call, _NOT_EVALUATED[name])
        if not self._is_function(name):
            self._refuse(call, f"there is no function {name}")

    def _check_reference(self, node: Node, rule: _Rule, local: set[str]) -> None:
        path = _path(node)
        span = next(iter(node.values()))
        if path[0] == "input":
            # By another name or a computed key, a misspelled field would be undefined without an error.
            name = path[1] if len(path) > 1 else None
            if name is None:
                self._refuse(span, f"name the field: input.tool, input.arguments; the input has {', '.join(INPUT_FIELDS)}")
            if name not in INPUT_FIELDS:
                self._refuse(span, f"input.{name} is never there; the input has {', '.join(INPUT_FIELDS)}")
        if path[0] == "data":
            if tuple(path[:3]) != _OURS or len(path) < 4 or path[3] not in self._names:
                self._refuse(span, f"{'.'.join('[...]' if part is None else part for part in path)} is never there: policies have no data")
            rule.uses.add(str(path[3]))
        elif path[0] in self._names and path[0] not in local:
            rule.uses.add(str(path[0]))

    def _check_uses(self, rules: Sequence[_Rule]) -> None:
        """Every rule is used by an entry point, and none by itself."""
        uses: dict[str, set[str]] = {}
        for rule in rules:
            uses.setdefault(rule.name, set()).update(rule.uses)
        for rule in rules:
            if rule.name in _reached(uses, rule.uses):
                raise ShapeRefused(f"{rule.place}: {rule.name} uses itself, and recursion is not evaluated")
        used = _reached(uses, [name for name in ENTRY_POINTS if name in uses]) | set(ENTRY_POINTS)
        for rule in rules:
            if rule.name not in used:
                entry = "allow, deny and require_approval"
                raise ShapeRefused(f"{rule.place}: the rule {rule.name} is never evaluated: none of {entry} uses it")

    def _declared(self, node: Any) -> Iterator[str]:
        """The variables that a rule declares: arguments, `some`, `every`, and what stands before `:=`."""
        if isinstance(node, list):
            for item in node:
                yield from self._declared(item)
        elif isinstance(node, dict):
            for kind, body in node.items():
                if kind == "Func":
                    yield from self._variables(body["args"])
                elif kind == "AssignExpr" and body["op"] == "ColEq":
                    yield from self._variables(body["lhs"])
                elif kind == "SomeVars":
                    yield from self._variables(body["vars"])
                elif kind in ("SomeIn", "Every"):
                    yield from self._variables([body["key"], body["value"]])
                yield from self._declared(body)

    def _variables(self, node: Any) -> Iterator[str]:
        if isinstance(node, list):
            for item in node:
                yield from self._variables(item)
        elif isinstance(node, dict) and "Var" in node:
            yield node["Var"]["value"]
        elif isinstance(node, dict) and "start" in node and "end" in node:
            # The name of a variable as a place in the text.
            yield self._text[node["start"] : node["end"]].decode()
        elif isinstance(node, dict):
            for name, value in node.items():
                if name != "span":
                    yield from self._variables(value)

    def _place(self, node: Node) -> str:
        return f"{self._file}:{node['span']['line']}"

    def _refuse(self, node: Node, why: str) -> NoReturn:
        raise ShapeRefused(f"{self._place(node)}: {why}")


def _reached(uses: Mapping[str, set[str]], start: Any) -> set[str]:
    reached: set[str] = set()
    left = list(start)
    while left:
        name = left.pop()
        if name not in reached:
            reached.add(name)
            left.extend(uses.get(name, ()))
    return reached


def _head(rule: Node) -> Node:
    """The reference that a rule defines."""
    kind, body = next(iter(rule.items()))
    head: Node = body["refr"] if kind == "Default" else next(iter(body["head"].values()))["refr"]
    return head


def _chain(node: Node) -> Iterator[Node]:
    """A reference and those that it is made from, the last part first."""
    while True:
        yield node
        kind, body = next(iter(node.items()))
        if kind not in ("RefDot", "RefBrack"):
            return
        node = body["refr"]


def _path(node: Node) -> list[str | None]:
    """`a.b["c"][x]` as a, b, c, None."""
    path: list[str | None] = []
    for part in _chain(node):
        kind, body = next(iter(part.items()))
        if kind == "RefDot":
            path.append(body["field"][1])
        elif kind == "RefBrack":
            path.append(body["index"]["String"]["value"] if "String" in body["index"] else None)
        else:
            path.append(body["value"] if kind == "Var" else None)
    return path[::-1]
