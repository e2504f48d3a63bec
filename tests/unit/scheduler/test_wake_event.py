"""A wake_event that is rung by signals while it is being used."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from taskpilot.scheduler.clock import WakeEvent


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
    wake_event = WakeEvent()
    until = time.monotonic() + 1.5
    with signals_that(wake_event.set):
        while time.monotonic() < until:
            wake_event.wait(0.001)
            wake_event.set()


def test_many_rings_are_one_and_none_is_lost() -> None:
    wake_event = WakeEvent()
    for _ in range(3):
        wake_event.set()
    began = time.monotonic()
    wake_event.wait(30)
    assert time.monotonic() - began < 20
    began = time.monotonic()
    wake_event.wait(0.05)
    assert time.monotonic() - began >= 0.05


def test_a_ring_of_another_thread_ends_the_sleep() -> None:
    wake_event = WakeEvent()
    other = threading.Timer(0.05, wake_event.set)
    other.start()
    began = time.monotonic()
    wake_event.wait(30)
    assert time.monotonic() - began < 20
    other.join()
