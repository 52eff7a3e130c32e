"""The memory of a partition."""

from gateway.log.memory import Kept, Memory


def kept(offset: int, key: bytes = b"q", n_bytes: int = 99) -> Kept:
    return Kept(partition=0, offset=offset, key=key, value=bytes(n_bytes), blob=None)


def filled(max_bytes: int, *records: Kept) -> Memory:
    memory = Memory(max_bytes)
    for record in records:
        memory.add(record.key, record)
    return memory


def test_it_knows_nothing_before_it_has_read() -> None:
    memory = Memory(1_000)
    assert memory.first is None
    assert memory.after(b"q", 0) is None


def test_records_of_a_group_are_found_by_offset() -> None:
    memory = filled(10_000, kept(5, b"a"), kept(6, b"b"), kept(8, b"a"))
    found = [memory.after(b"a", offset) for offset in (5, 6, 8)]
    assert [each and each.offset for each in found] == [5, 8, 8]
    assert memory.after(b"a", 9) is None
    assert memory.after(b"c", 0) is None
    assert (memory.first, memory.next) == (5, 9)


def test_the_oldest_records_make_room() -> None:
    memory = filled(1_100, kept(1), kept(2, b"other"), kept(3))
    assert (memory.first, memory.next) == (2, 4)
    later = memory.after(b"q", 1)
    assert later is not None and later.offset == 3


def test_a_record_larger_than_all_the_memory_is_kept_until_the_next() -> None:
    memory = filled(1_000, kept(1, n_bytes=5_000))
    assert memory.after(b"q", 1) is not None
    memory.add(b"q", kept(2))
    assert memory.first == 2


def test_it_begins_anew_at_another_place() -> None:
    memory = filled(10_000, kept(5))
    memory.start(2)
    assert (memory.first, memory.next, memory.after(b"q", 0)) == (2, 2, None)
    memory.add(b"q", kept(2))
    assert (memory.first, memory.next) == (2, 3)
