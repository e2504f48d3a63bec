"""One function over many items, some at a time, with each item's scope of its own."""

import contextvars
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final, Literal

from taskpilot.context import scope
from taskpilot.context.session import Session
from taskpilot.domain.errors import BudgetExceeded, DeadlineExceeded, EveryItemFailed, ItemError, LeaseLost, Stop, Terminated, Waiting

_GRAVITY: Final = (Terminated, LeaseLost, DeadlineExceeded, BudgetExceeded, Waiting)


def map_items(
    session: Session, function: Callable[[Any], Any], items: Iterable[Any], *, concurrency: int, on_error: Literal["raise", "collect"]
) -> list[Any]:
    """Results in the order of the items.

    "raise": after the first failure no further item is started, and the first one's error is raised when those in flight are done.
    "collect": an ItemError stands where an item failed. A Waiting item lets the others finish first; any other stop lets those in
    flight finish.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency={concurrency} is not at least 1")
    if on_error not in ("raise", "collect"):
        raise ValueError(f"on_error={on_error!r} is neither 'raise' nor 'collect'")
    todo = list(items)
    around = scope.current()
    path = around.child_path("map")
    halt = threading.Event()
    stops: list[Stop] = []

    def one(index: int, item: Any) -> Any:
        if halt.is_set():
            return None
        with scope.entered(f"{path}[{index}]"):
            try:
                return function(item)
            except Waiting as waiting:
                stops.append(waiting)
            except Stop as stop:
                stops.append(stop)
                halt.set()
            except Exception as error:
                if on_error == "raise":
                    halt.set()
                return ItemError(index=index, item=item, cause=error)
        return None

    results = _in_threads(one, todo, concurrency)
    errors = [result for result in results if isinstance(result, ItemError)]
    for kind in _GRAVITY:
        for stop in stops:
            if isinstance(stop, kind):
                raise stop
    if stops:
        raise stops[0]
    if errors and on_error == "raise":
        raise errors[0].cause
    if errors and len(errors) == len(todo) and not around.in_map:
        # Of the outermost map: what becomes of an item whose own items all failed is for the function over it to say.
        session.every_item_failed = _common_cause(errors)
    return results


def _in_threads(one: Callable[[int, Any], Any], todo: list[Any], concurrency: int) -> list[Any]:
    if concurrency == 1 or len(todo) < 2:
        return [one(index, item) for index, item in enumerate(todo)]
    executor = ThreadPoolExecutor(min(concurrency, len(todo)), thread_name_prefix="taskpilot-map")
    try:
        futures: list[Future[Any]] = [executor.submit(contextvars.copy_context().run, one, index, item) for index, item in enumerate(todo)]
        wait(futures)
    except BaseException:
        # The process is asked to end: threads that wait for a server must not hold it.
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()
    return [future.result() for future in futures]


def _common_cause(errors: list[ItemError]) -> Exception:
    """The one error that all items share by type, so that the run's reason can be told from it; else a summary."""
    kinds = {type(error.cause) for error in errors}
    return errors[0].cause if len(kinds) == 1 else EveryItemFailed([error.cause for error in errors])
