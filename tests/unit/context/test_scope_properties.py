"""The same program gives the same keys in every attempt, however its threads interleave; different inputs give different keys."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskpilot.context import scope
from taskpilot.context.scope import Scope, digest_of, quoted
from taskpilot.context.serialization import digestible, from_json, to_json
from taskpilot.domain.steps import StepKind
from taskpilot.domain.text import storable
from taskpilot.store.records import dumps, loads

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
UNICODE = st.text(st.characters(exclude_categories=["Cs"]))
STORABLE = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False) | UNICODE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(UNICODE, inner, max_size=4),
    max_leaves=12,
)
LEAVES = st.tuples(st.sampled_from(["ask", "call", "now"]), st.sampled_from(["a", "b", "a/b", "map"]), st.integers(0, 1))
PROGRAMS = st.recursive(
    st.lists(LEAVES, max_size=3),
    lambda inner: st.lists(
        LEAVES
        | st.tuples(st.just("step"), st.sampled_from(["s", "s.0/s", "map", "map.0[0]"]), inner)
        | st.tuples(st.just("map"), st.just(""), st.lists(inner, max_size=3)),
        max_size=4,
    ),
    max_leaves=10,
)


class Recorder:
    """Runs a program of questions, steps and maps, and keeps every place that was asked for."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._lock = threading.Lock()
        self.places: list[tuple[str, str]] = []

    def run(self, program: list[Any]) -> list[tuple[str, str]]:
        with scope.entered(""):
            self._block(program)
        return sorted(self.places)

    def _block(self, program: list[Any]) -> None:
        for kind, name, value in program:
            if kind == "step":
                self._note(StepKind.STEP, name, "")
                with scope.inside(name):
                    self._block(value)
            elif kind == "map":
                self._map(value)
            else:
                self._note(StepKind(kind), name, value)

    def _map(self, items: list[Any]) -> None:
        path = scope.current().child_path("map")

        def one(index: int) -> None:
            with scope.entered(f"{path}[{index}]"):
                self._block(items[index])

        order = list(range(len(items)))
        self._random.shuffle(order)
        if len(items) > 1:
            with ThreadPoolExecutor(len(items)) as pool:
                for future in [pool.submit(copy_context().run, one, index) for index in order]:
                    future.result()
        else:
            for index in order:
                one(index)

    def _note(self, kind: StepKind, name: str, value: Any) -> None:
        place = scope.current().place(kind, name, value)
        with self._lock:
            self.places.append((place.key, f"{place.scope}|{place.kind}|{place.ordinal}"))


@given(PROGRAMS, st.integers(), st.integers())
def test_the_same_program_has_the_same_places_in_any_interleaving(program: list[Any], one: int, two: int) -> None:
    assert Recorder(one).run(program) == Recorder(two).run(program)


@given(PROGRAMS)
def test_no_two_places_of_a_program_share_a_key_or_an_ordinal(program: list[Any]) -> None:
    places = Recorder(0).run(program)
    assert len({key for key, _ in places}) == len(places)
    assert len({where for _, where in places}) == len(places)


@given(JSON, JSON)
def test_two_inputs_share_a_key_only_where_they_are_one(first: Any, second: Any) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    keys = [Scope("/x").place(StepKind.ASK, "a", value).key for value in (first, second)]
    assert (keys[0] == keys[1]) is same


@given(st.text(), st.text(), st.integers(0, 3), st.integers(0, 3))
def test_no_name_reads_like_another_names_children(first: str, second: str, one: int, two: int) -> None:
    paths = []
    for noun, number in ((first, one), (second, two)):
        around = Scope("/x")
        for _ in range(number + 1):
            path = around.child_path(noun)
        paths.append(path)
    assert (paths[0] == paths[1]) is ((first, one) == (second, two))
    assert all(path.count("/") == 2 for path in paths)
    assert "[" not in quoted(first)


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 2)), max_size=8), st.randoms())
def test_what_is_asked_in_another_order_keeps_its_keys(asked: list[tuple[str, int]], random: Random) -> None:
    shuffled = asked.copy()
    random.shuffle(shuffled)

    def keys(order: list[tuple[str, int]]) -> list[str]:
        around = Scope()
        return sorted(around.place(StepKind.ASK, name, value).key for name, value in order)

    assert keys(asked) == keys(shuffled)


@given(JSON)
def test_the_digest_of_plain_json_is_that_of_the_json_itself(value: Any) -> None:
    assert json.loads(json.dumps(digestible(value))) == value


@given(st.sets(st.text() | st.integers() | st.tuples(st.text(), st.integers())), st.randoms())
def test_a_set_has_one_digest_in_every_order(value: set[Any], random: Random) -> None:
    items = list(value)
    random.shuffle(items)
    assert digest_of(digestible(set(items))) == digest_of(digestible(frozenset(value)))


@given(st.dictionaries(st.integers() | st.text(), st.binary(), max_size=4))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[Any, bytes]) -> None:
    assert digest_of(digestible(value)) == digest_of(digestible(dict(reversed(list(value.items())))))


def _iterators() -> Iterator[Callable[[], Iterator[int]]]:
    yield lambda: iter([1, 2, 3])
    yield lambda: (number for number in (1, 2, 3))
    yield lambda: map(int, "123")
    yield lambda: reversed([3, 2, 1])


def test_no_iterator_is_consumed() -> None:
    for make in _iterators():
        iterator = make()
        digestible([{"deep": iterator}])
        assert list(iterator) == [1, 2, 3]


@given(STORABLE)
def test_json_comes_back_from_the_record_as_it_went_in(value: Any) -> None:
    def anything() -> Any:
        raise AssertionError

    recorded = loads(dumps(to_json(value)))
    assert recorded == value
    assert from_json(anything, recorded, name="x") == value


@given(st.text(st.characters()))
def test_any_text_can_be_stored_and_only_half_characters_change(text: str) -> None:
    stored = storable(text)
    stored.encode("utf-8")
    assert storable(stored) == stored
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert stored == text
