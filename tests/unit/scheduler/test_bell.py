"""A bell that is rung by signals while it is being used."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from taskpilot.scheduler.bell import Bell


@contextmanager
def signals_that(do: Callable[[], None]) -> Iterator[None]:
    """Thousands of signals a second, whose handler does something in this thread."""
    main, over = threading.main_thread().ident, threading.Event()
    assert main is not None

    def send() -> None:
        while not over.is_set():
            signal.pthread_kill(main, signal.SIGUSR1)
            time.sleep(0.0001)

    before = signal.signal(signal.SIGUSR1, lambda _number, _frame: do())
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_handler_may_ring_whatever_it_interrupts() -> None:
    """With a threading.Event this ends within a second in a handler that waits for the thread that it interrupted."""
    bell = Bell()
    until = time.monotonic() + 1.5
    with signals_that(bell.ring):
        while time.monotonic() < until:
            bell.wait(0.001)
            bell.ring()


def test_many_rings_are_one_and_none_is_lost() -> None:
    bell = Bell()
    for _ in range(3):
        bell.ring()
    began = time.monotonic()
    bell.wait(30)
    assert time.monotonic() - began < 5
    began = time.monotonic()
    bell.wait(0.05)
    assert time.monotonic() - began >= 0.05


def test_a_ring_of_another_thread_ends_the_sleep() -> None:
    bell = Bell()
    other = threading.Timer(0.05, bell.ring)
    other.start()
    began = time.monotonic()
    bell.wait(30)
    assert time.monotonic() - began < 5
    other.join()
