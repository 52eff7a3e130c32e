"""The cap on open questions, from what was seen."""

from collections.abc import Sequence

from gateway.admission.capacity import SEEN, Capacity, Crowd, Ended, rate

FEW, CROWDED = Crowd(trough=0, peak=1), Crowd(trough=60, peak=64)


def ended(per_s: float, took_s: float, n: int = SEEN) -> list[Ended]:
    """The last n that ended, evenly."""
    return [Ended(tenant="acme", ago_s=(i + 1) / per_s, took_s=took_s) for i in range(n)]


def watch(
    capacity: Capacity,
    crowd: Crowd,
    seen: Sequence[Ended],
    *,
    from_s: float,
    for_s: float = 10,
    limited: bool = False,
    waiting: bool = False,
) -> None:
    """Look at the same for a while."""
    for look in range(int(5 * for_s)):
        capacity.observe(from_s + look / 5, crowd, seen, limited=limited, waiting=waiting)


def test_the_rate_is_that_of_the_last_that_ended() -> None:
    assert rate(ended(80, 0.1)) == 80
    assert rate(ended(80, 0.1, n=15)) == 0.5  # few are of the last 30 seconds
    assert rate([]) == 0


def test_before_anything_was_seen_a_rush_is_let_in() -> None:
    assert Capacity(most=256).cap == 32
    assert Capacity(most=10).cap == 10


def test_a_rush_that_lasts_lowers_the_cap_to_what_the_workers_can_do() -> None:
    capacity = Capacity(most=256)
    watch(capacity, FEW, ended(10, 0.05), from_s=0)
    assert capacity.alone_s == 0.05

    watch(capacity, CROWDED, ended(80, 0.8), from_s=10, limited=True, waiting=True)

    assert capacity.overloaded
    assert round(capacity.drain_per_s) == 80
    # 80 a second of 0.05 s each keep 4 workers busy: half as many more, and 8 for those who were promised a place.
    assert (capacity.cap, capacity.kept) == (14, 7)


def test_a_rush_that_passes_leaves_the_cap_as_it_was() -> None:
    capacity = Capacity(most=256)
    watch(capacity, FEW, ended(10, 0.05), from_s=0)

    for start_s in range(10, 30, 2):
        watch(capacity, CROWDED, ended(80, 0.2), from_s=start_s, for_s=0.6)
        watch(capacity, FEW, ended(80, 0.2), from_s=start_s + 1, for_s=0.6)

    assert not capacity.overloaded
    assert capacity.cap == 64


def test_overload_ends_when_nobody_waits_any_more() -> None:
    capacity = Capacity(most=256)
    watch(capacity, FEW, ended(10, 0.05), from_s=0)
    watch(capacity, CROWDED, ended(80, 0.8), from_s=10, limited=True, waiting=True)

    watch(capacity, FEW, ended(40, 0.05), from_s=20, waiting=True)
    assert capacity.overloaded
    watch(capacity, FEW, ended(40, 0.05), from_s=30, waiting=False)

    assert not capacity.overloaded
    assert capacity.cap == 64


def test_where_nothing_ends_at_all_the_cap_stays() -> None:
    capacity = Capacity(most=256)

    watch(capacity, CROWDED, [], from_s=0, limited=True, waiting=True)

    assert capacity.cap == 32


def test_the_cap_stays_between_its_bounds() -> None:
    narrow, wide = Capacity(most=5), Capacity(most=3_000, least=2_000)
    for capacity in (narrow, wide):
        watch(capacity, FEW, ended(10, 0.05), from_s=0)
        watch(capacity, CROWDED, ended(80, 0.8), from_s=10, limited=True, waiting=True)

    assert (narrow.cap, narrow.kept) == (5, 2)
    assert wide.cap == 2_008


def test_company_teaches_nothing_about_how_long_a_question_takes_alone() -> None:
    capacity = Capacity(most=256)
    watch(capacity, FEW, ended(10, 0.05), from_s=0)

    watch(capacity, CROWDED, ended(80, 0.8), from_s=10, for_s=60, limited=True, waiting=True)

    assert capacity.alone_s == 0.05


def test_slower_questions_are_noticed_when_few_are_asked() -> None:
    capacity = Capacity(most=256)
    watch(capacity, FEW, ended(10, 0.05), from_s=0)

    watch(capacity, FEW, ended(2, 0.5), from_s=10, for_s=60)

    assert capacity.alone_s is not None
    assert 0.45 < capacity.alone_s <= 0.5
