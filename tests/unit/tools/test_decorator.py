"""`@tool`: the function stays a function, and its schema is made from what is written anyway."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.specs import ToolSpec
from taskpilot.tools import create_task_tool, is_tool, tool, tool_spec
from tests.errors import saying


class Place(BaseModel):
    street: str
    number: int = 1


class Untellable:
    pass


@tool(idempotent=True)
def open_ticket(title: str, priority: Literal["high", "low"], tags: list[str] | None = None) -> str:
    """Open a ticket in the tracker."""
    return f"{title}/{priority}/{tags}"


@tool
def plain(schema: str, _hidden: Annotated[int, Field(description="how deep", ge=0)] = 3) -> str:
    """Use names
    that pydantic would not take for fields.
    """
    return f"{schema}{_hidden}"


@tool
def visit(place: Place) -> Place:
    """Visit a place."""
    return place


def test_a_decorated_function_is_called_as_before() -> None:
    assert open_ticket("t", "high") == "t/high/None"
    assert plain("x") == "x3"
    assert open_ticket.__name__ == "open_ticket"


def test_docstring_and_types_become_the_schema() -> None:
    spec = tool_spec(open_ticket)
    assert (spec.name, spec.description, spec.idempotent) == ("open_ticket", "Open a ticket in the tracker.", True)
    assert spec.function is open_ticket
    assert spec.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["title", "priority"],
        "properties": {
            "title": {"type": "string"},
            "priority": {"type": "string", "enum": ["high", "low"]},
            "tags": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}], "default": None},
        },
    }


def test_any_parameter_name_will_do_and_descriptions_are_kept() -> None:
    spec = tool_spec(plain)
    assert spec.description == "Use names\nthat pydantic would not take for fields."
    assert spec.idempotent is False
    assert spec.parameters["properties"]["_hidden"] == {"type": "integer", "minimum": 0, "default": 3, "description": "how deep"}
    assert spec.parameters["required"] == ["schema"]


def test_a_tool_without_parameters_takes_an_empty_object() -> None:
    @tool
    def ping() -> str:
        """Ping."""
        return "pong"

    assert tool_spec(ping).parameters == {"type": "object", "properties": {}, "additionalProperties": False}


def test_models_as_parameters_are_described_whole() -> None:
    parameters = tool_spec(visit).parameters
    assert parameters["properties"]["place"] == {"$ref": "#/$defs/Place"}
    assert set(parameters["$defs"]["Place"]["properties"]) == {"street", "number"}


def test_a_tool_may_have_another_name_than_its_function() -> None:
    @tool(name="ticket", idempotent=False)
    def function(title: str) -> str:
        """Open."""
        return title

    assert tool_spec(function).name == "ticket"


def test_the_spec_of_a_spec_is_itself() -> None:
    spec = create_task_tool(lambda *_: "")
    assert isinstance(spec, ToolSpec)
    assert tool_spec(spec) is spec
    assert is_tool(spec)
    assert is_tool(open_ticket)
    assert not is_tool(len)


def undecorated(title: str) -> str:
    """Has a docstring."""
    return title


def starred(*titles: str) -> str:
    """Has a docstring."""
    return str(titles)


def double_starred(**titles: str) -> str:
    """Has a docstring."""
    return str(titles)


def positional(title: str, /) -> str:
    """Has a docstring."""
    return title


def unannotated(title) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Has a docstring."""
    return str(title)


def undocumented(title: str) -> str:
    return title


def blank(title: str) -> str:
    """ """
    return title


async def asynchronous(title: str) -> str:
    """Has a docstring."""
    return title


def generating(title: str) -> Iterator[str]:
    """Has a docstring."""
    yield title


async def streaming(title: str) -> AsyncIterator[str]:
    """Has a docstring."""
    yield title


def untellable(thing: Untellable) -> str:
    """Has a docstring."""
    return str(thing)


def called_back(thing: Callable[[], str]) -> str:
    """Has a docstring."""
    return thing()


def unresolved(thing: "Nowhere") -> str:  # type: ignore[name-defined]  # noqa: F821
    """Has a docstring."""
    return str(thing)


def ill_defaulted(count: int = "many") -> str:  # type: ignore[assignment]
    """Has a docstring."""
    return str(count)


def unreturnable(title: str) -> Untellable:
    """Has a docstring."""
    return Untellable()


def create_task(title: str) -> str:
    """Has a docstring."""
    return title


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (starred, r"tool 'starred' takes \*titles; name each parameter"),
        (double_starred, r"tool 'double_starred' takes \*\*titles"),
        (positional, "tool 'positional': the parameter 'title' is positional-only"),
        (unannotated, "tool 'unannotated': the parameter 'title' has no type; write it like title: str"),
        (undocumented, "undocumented has no docstring"),
        (blank, "blank has no docstring"),
        (asynchronous, "tool 'asynchronous' is asynchronous"),
        (streaming, "tool 'streaming' is asynchronous"),
        (generating, "tool 'generating' is a generator"),
        (untellable, "tool 'untellable': the type Untellable of the parameter 'thing' cannot be read from text or JSON"),
        (called_back, "tool 'called_back': the type .* of the parameter 'thing' cannot be read"),
        (unresolved, "tool 'unresolved': an annotation cannot be read: .*Nowhere"),
        (ill_defaulted, "tool 'ill_defaulted': the default of 'count' does not fit its type int"),
        (unreturnable, "tool 'unreturnable' returns Untellable, which cannot be written"),
        (create_task, "create_task is built in"),
    ],
)
def test_what_a_tool_lacks_is_said_by_name(function: Callable[..., Any], words: str) -> None:
    tool(function)
    with pytest.raises(ConfigurationError, check=saying(words)) as caught:
        tool_spec(function)
    assert caught.value.exit_code == 78


def test_a_function_without_the_decorator_is_no_tool() -> None:
    with pytest.raises(ConfigurationError, check=saying("undecorated is not a tool; put @tool above")):
        tool_spec(undecorated)


@pytest.mark.parametrize("name", ["", "a b", "a-b", "1a", "x" * 65, "a\n", "naïve"])
def test_a_name_that_servers_would_refuse_is_refused_here(name: str) -> None:
    def function() -> str:
        """Has a docstring."""
        return ""

    with pytest.raises(ConfigurationError, match="is not a tool name"):
        tool_spec(tool(name=name)(function))


@dataclass
class Callableish:
    def __call__(self) -> str:
        """Has a docstring."""
        return ""


@pytest.mark.parametrize("thing", [len, Callableish(), Callableish, "text"], ids=["builtin", "instance", "class", "text"])
def test_only_plain_functions_may_be_decorated(thing: Any) -> None:
    with pytest.raises(TypeError, match="@tool decorates plain functions"):
        tool(thing)


def test_an_option_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="@tool has no option 'retries'"):
        tool(retries=3)  # type: ignore[call-overload]


def test_decorating_wakes_nothing_heavy() -> None:
    code = (
        "import sys\nfrom taskpilot.tools import tool\n@tool\ndef f(x: str) -> str:\n  'Doc.'\n  return x\n"
        "print([name for name in ('pydantic', 'http.client', 'ssl', 'regorus', 'openai') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
