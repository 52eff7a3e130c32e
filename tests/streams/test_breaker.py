from dataclasses import dataclass, field

from streams.breaker import Breaker, State


@dataclass
class Watch:
    """Seconds that a test sets."""

    s: float = 0.0
    states: list[State] = field(default_factory=list)

    def breaker(self) -> Breaker:
        return Breaker(
            failures_min=3, window_s=30, pause_s=5, pause_max_s=15, now=lambda: self.s, on_state=self.states.append
        )


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        assert breaker.admit()
        breaker.settle(well=False)


def test_it_opens_after_three_failures_and_lets_one_question_try_after_a_pause() -> None:
    watch = Watch()
    breaker = watch.breaker()

    fail(breaker, 2)
    assert breaker.state == "closed"
    fail(breaker, 1)

    watch.s = 4.9
    assert not breaker.admit()
    watch.s = 5.0
    assert [breaker.admit(), breaker.admit()] == [True, False]
    breaker.settle(well=True)
    assert [breaker.admit(), breaker.admit()] == [True, True]
    assert watch.states == ["closed", "open", "half_open", "closed"]


def test_each_try_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    watch = Watch()
    breaker = watch.breaker()
    fail(breaker, 3)

    for wait_s in (5, 10, 15, 15):
        watch.s += wait_s - 0.1
        assert not breaker.admit()
        watch.s += 0.1
        assert breaker.admit()
        breaker.settle(well=False)


def test_after_a_try_that_went_well_the_pause_is_short_again() -> None:
    watch = Watch()
    breaker = watch.breaker()
    fail(breaker, 3)
    watch.s = 5
    fail(breaker, 1)
    watch.s = 15
    assert breaker.admit()
    breaker.settle(well=True)

    fail(breaker, 3)

    watch.s = 20
    assert breaker.admit()


def test_old_failures_do_not_count() -> None:
    watch = Watch()
    breaker = watch.breaker()
    fail(breaker, 2)
    watch.s = 31

    fail(breaker, 2)

    assert breaker.state == "closed"


def test_half_of_the_last_ten_must_fail_to_open_it() -> None:
    watch = Watch()
    breaker = watch.breaker()
    for _ in range(20):
        assert breaker.admit()
        breaker.settle(well=True)

    fail(breaker, 4)
    assert watch.states == ["closed"]
    fail(breaker, 1)
    assert watch.states == ["closed", "open"]


def test_a_try_that_nobody_waited_for_leaves_the_place_to_the_next_question() -> None:
    watch = Watch()
    breaker = watch.breaker()
    fail(breaker, 3)
    watch.s = 5
    assert breaker.admit()

    breaker.abandon()

    assert breaker.admit()


def test_what_was_asked_before_it_opened_does_not_lengthen_the_pause() -> None:
    watch = Watch()
    breaker = watch.breaker()
    assert breaker.admit()
    fail(breaker, 3)
    watch.s = 4

    breaker.settle(well=False)

    watch.s = 5
    assert breaker.admit()
