"""`ctx.map`: one function over many items, some at a time; each item has its own scope."""

import contextvars
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final, Literal

from taskpilot.context import scope
from taskpilot.context.given import item_places
from taskpilot.context.session import Session
from taskpilot.domain.errors import BudgetExceeded, DeadlineExceeded, EveryItemFailed, ItemError, LeaseLost, Stop, Terminated, Waiting

_PRECEDENCE: Final = (Terminated, LeaseLost, DeadlineExceeded, BudgetExceeded, Waiting)
"""Of several stops, the first of these is raised."""


def map_items(
    session: Session, function: Callable[[Any], Any], items: Iterable[Any], *, concurrency: int, on_error: Literal["raise", "collect"]
) -> list[Any]:
    """Results in the order of the items.

    "raise": after a failure no further item is started; the first failed item's error is raised when the active ones have ended.
    "collect": an ItemError takes the place of a failed item's result. If an item raises Waiting, the others finish first; after any other
    stop, only the active ones do.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency={concurrency} is not at least 1")
    if on_error not in ("raise", "collect"):
        raise ValueError(f"on_error={on_error!r} is neither 'raise' nor 'collect'")
    work = list(items)
    around = scope.current()
    path = around.child_path("map")
    halt = threading.Event()
    stops: list[Stop] = []

    places = item_places(session, path, work)

    def one(index: int, item: Any) -> Any:
        if halt.is_set():
            return None
        place = places[index]
        with scope.entered(place if isinstance(place, str) else path):
            try:
                if not isinstance(place, str):
                    raise place
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

    results = _in_threads(one, work, concurrency)
    errors = [result for result in results if isinstance(result, ItemError)]
    for kind in _PRECEDENCE:
        for stop in stops:
            if isinstance(stop, kind):
                raise stop
    if stops:
        raise stops[0]
    if errors and on_error == "raise":
        raise errors[0].cause
    if errors and len(errors) == len(work) and not around.in_map:
        # Only for the outermost map: the function of an outer one decides what a failed inner map means.
        session.every_item_failed = _common_cause(errors)
    return results


def _in_threads(one: Callable[[int, Any], Any], work: list[Any], concurrency: int) -> list[Any]:
    if concurrency == 1 or len(work) < 2:
        return [one(index, item) for index, item in enumerate(work)]
    executor = ThreadPoolExecutor(min(concurrency, len(work)), thread_name_prefix="taskpilot-map")
    try:
        futures: list[Future[Any]] = [executor.submit(contextvars.copy_context().run, one, index, item) for index, item in enumerate(work)]
        wait(futures)
    except BaseException:
        # The process is asked to stop: it must not wait for threads that wait for a server.
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()
    return [future.result() for future in futures]


def _common_cause(errors: list[ItemError]) -> Exception:
    """The first error if all have the same type, so that the run's reason can be found from it; else a summary."""
    kinds = {type(error.cause) for error in errors}
    return errors[0].cause if len(kinds) == 1 else EveryItemFailed([error.cause for error in errors])
