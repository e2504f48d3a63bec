"""When a lease is renewed, tried again and given up; with a clock in the hand."""

from taskpilot.process.lease import Lease


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Store:
    """Answers a renewal after some seconds of the clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.takes = 0.0
        self.answer: bool | None = True
        self.asked: list[float] = []

    def renew(self, active_seconds: float) -> bool:
        self.asked.append(active_seconds)
        self.clock.now += self.takes
        if self.answer is None:
            raise OSError("locked")
        return self.answer


def lease(seconds: float = 30.0) -> tuple[Lease, Clock, Store]:
    clock = Clock()
    return Lease(seconds, clock), clock, Store(clock)


def test_it_is_renewed_at_each_third_and_not_before() -> None:
    held, clock, store = lease()
    for second in range(61):
        clock.now = 1000.0 + second
        held.renew_if_due(store.renew, float(second))
    assert store.asked == [10, 20, 30, 40, 50, 60]


def test_it_is_over_a_sixth_before_its_end() -> None:
    held, clock, _ = lease()
    clock.now += 24.9
    assert not held.over
    clock.now += 0.1
    assert held.over


def test_a_short_lease_leaves_a_second_to_kill_and_a_tiny_one_a_third() -> None:
    for seconds, usable in ((3.0, 2.0), (1.5, 1.0)):
        held, clock, _ = lease(seconds)
        clock.now += usable - 0.01
        assert not held.over
        clock.now += 0.02
        assert held.over


def test_a_failure_is_tried_again_after_a_second() -> None:
    held, clock, store = lease()
    store.answer = None
    clock.now += 10
    held.renew_if_due(store.renew, 10.0)
    assert held.wait_seconds == 1.0
    clock.now += 1
    store.answer = True
    held.renew_if_due(store.renew, 11.0)
    assert store.asked == [10, 11]
    clock.now += 24
    assert not held.over


def test_a_refusal_is_final() -> None:
    held, clock, store = lease()
    store.answer = False
    clock.now += 10
    held.renew_if_due(store.renew, 10.0)
    assert held.over
    store.answer = True
    clock.now += 5
    held.renew_if_due(store.renew, 15.0)
    assert held.over
    assert store.asked == [10]


def test_a_renewal_counts_from_before_it_was_asked_for() -> None:
    held, clock, store = lease()
    store.takes = 9.0
    clock.now += 10
    held.renew_if_due(store.renew, 10.0)
    clock.now = 1000.0 + 10 + 24.9
    assert not held.over
    clock.now += 0.1
    assert held.over


def test_a_slow_store_is_not_asked_where_its_answer_would_come_too_late() -> None:
    held, clock, store = lease()
    store.takes, store.answer = 9.0, None
    clock.now += 10
    held.renew_if_due(store.renew, 10.0)
    clock.now += 1
    held.renew_if_due(store.renew, 20.0)
    assert store.asked == [10]
    assert held.wait_seconds == 5.0


def test_a_suspended_machine_finds_its_lease_over_and_does_not_ask() -> None:
    held, clock, store = lease()
    clock.now += 3600
    held.renew_if_due(store.renew, 1.0)
    assert held.over
    assert store.asked == []
    assert held.wait_seconds <= 0
