"""What every `DocumentStore` does."""

import asyncio
from dataclasses import replace

from schemas.events import LifecycleChanged
from schemas.topics import INGEST
from streams.ports import Origins
from tests.contract.factories import embedded, key_of, origin
from tests.contract.fence import Fence

GUIDE = key_of()


async def assigned(fence: Fence, offset: int, *, partition: int = 0, deleted: bool = False) -> tuple[int, str]:
    given = await fence.documents.assign(GUIDE, origin(offset, partition=partition), deleted=deleted, attributes={})
    return given.version, given.outcome


async def test_each_record_gets_the_next_version(fence: Fence) -> None:
    assert [await assigned(fence, 3), await assigned(fence, 7)] == [(1, "fresh"), (2, "fresh")]
    assert await fence.documents.latest_version(GUIDE) == 2


async def test_an_unknown_document_has_no_version(fence: Fence) -> None:
    assert await fence.documents.latest_version(GUIDE) is None


async def test_the_same_record_gets_the_same_version_again(fence: Fence) -> None:
    await assigned(fence, 3)
    await assigned(fence, 0, partition=1)

    assert await assigned(fence, 3) == (1, "again")


async def test_a_lower_offset_of_the_same_partition_is_a_redelivery(fence: Fence) -> None:
    await assigned(fence, 3)
    await assigned(fence, 4)

    assert await assigned(fence, 3) == (2, "redelivered")
    assert await fence.documents.latest_version(GUIDE) == 2


async def test_a_lower_offset_of_another_partition_or_topic_is_fresh(fence: Fence) -> None:
    await assigned(fence, 9)
    await assigned(fence, 2, partition=1)
    recreated = await fence.documents.assign(GUIDE, origin(0, topic_id="t2"), deleted=False, attributes={})

    assert (recreated.version, recreated.outcome) == (3, "fresh")


async def test_a_version_is_not_given_twice_across_a_delete(fence: Fence) -> None:
    assert await assigned(fence, 0) == (1, "fresh")
    assert await assigned(fence, 1, deleted=True) == (2, "fresh")
    assert await assigned(fence, 2) == (3, "fresh")


async def test_documents_and_tenants_count_apart(fence: Fence) -> None:
    await assigned(fence, 0)
    other = await fence.documents.assign(key_of(tenant="umbrella"), origin(1), deleted=False, attributes={})

    assert other.version == 1


async def test_attributes_may_hold_any_text(fence: Fence) -> None:
    key = key_of("docs/ü 'x'%2F.md")
    given = await fence.documents.assign(
        key,
        origin(0),
        deleted=False,
        attributes={
            "title": "Ünïcode",
            "uri": None,
            "collection": "a b",
            "metadata": {"tags": ["x", "ÿ"], "n": 1.5},
            "acl": ["staff"],
            "content_type": "text/plain",
            "n_bytes": 7,
        },
    )

    assert given.version == 1


async def test_an_accepted_record_shows_at_once(fence: Fence) -> None:
    await assigned(fence, 0)
    await fence.status.project(changed("indexed", 1, n_chunks=2))
    await assigned(fence, 1)

    shown = await fence.shown(GUIDE)
    assert (shown.status, shown.status_version, shown.n_chunks) == ("accepted", 2, None)


async def test_a_deleted_document_shows_at_once(fence: Fence) -> None:
    await assigned(fence, 0)
    await assigned(fence, 1, deleted=True)

    assert (await fence.shown(GUIDE)).status == "deleted"


def changed(status: str, version: int, *, stage: str = "index", n_chunks: int | None = None) -> LifecycleChanged:
    return LifecycleChanged(
        tenant="acme", document="guide", version=version, status=status, stage=stage, at_ms=1, n_chunks=n_chunks
    )


async def test_only_the_latest_version_may_be_published(fence: Fence) -> None:
    await assigned(fence, 0)
    await assigned(fence, 1)

    async with fence.documents.holding_latest(GUIDE, 1) as first:
        assert first is False
    async with fence.documents.holding_latest(GUIDE, 2) as second:
        assert second is True


async def test_no_version_is_given_while_the_latest_is_published(fence: Fence) -> None:
    await assigned(fence, 0)

    async with fence.documents.holding_latest(GUIDE, 1) as latest:
        waiting = asyncio.create_task(assigned(fence, 1))
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert latest and not done

    assert await waiting == (2, "fresh")


async def test_the_lock_ends_with_a_publisher_that_fails(fence: Fence) -> None:
    await assigned(fence, 0)

    try:
        async with fence.documents.holding_latest(GUIDE, 1):
            raise KeyError("published nothing")
    except KeyError:
        pass

    assert await assigned(fence, 1) == (2, "fresh")


async def patched(fence: Fence, offset: int, base: int, *, partition: int = 0) -> tuple[int, str]:
    there = origin(offset, partition=partition)
    given = await fence.documents.assign(GUIDE, there, deleted=False, attributes={}, base=base)
    return given.version, given.outcome


async def test_a_patch_gets_a_version_only_while_what_it_changes_is_the_latest(fence: Fence) -> None:
    await assigned(fence, 0)
    await assigned(fence, 0, partition=1)

    assert await patched(fence, 1, 1) == (2, "moved")
    assert await patched(fence, 0, 1, partition=2) == (2, "moved")
    assert await fence.documents.latest_version(GUIDE) == 2
    assert await patched(fence, 1, 2) == (3, "fresh")


async def test_a_patch_that_comes_again_is_the_one_it_was(fence: Fence) -> None:
    await assigned(fence, 0)
    await patched(fence, 1, 1)

    assert await patched(fence, 1, 2) == (2, "again")
    assert await patched(fence, 0, 2) == (2, "redelivered")


async def test_a_patch_that_was_given_up_may_get_a_version_later(fence: Fence) -> None:
    await assigned(fence, 0)
    await rejected(fence, 1)

    assert await patched(fence, 1, 7) == (1, "moved")
    assert await patched(fence, 1, 1) == (2, "fresh")


async def test_a_patch_remembers_when_what_it_changed_was_accepted(fence: Fence) -> None:
    await assigned(fence, 0)
    before = await fence.documents.latest(GUIDE)
    await patched(fence, 1, 1)
    await assigned(fence, 0, partition=1)

    after = await fence.documents.latest(GUIDE)

    assert before is not None and after is not None
    patch, other = after.origins["t1/0"], after.origins["t1/1"]
    assert (patch["version"], patch["base_ms"]) == (2, before.accepted_ms)
    assert "base_ms" not in other


async def rejected(fence: Fence, offset: int, reason: str = "not_json", *, partition: int = 0) -> int | None:
    return await fence.documents.reject(GUIDE, origin(offset, partition=partition), reason=reason, message="Send JSON.")


async def test_a_document_that_was_never_accepted_shows_why(fence: Fence) -> None:
    assert await rejected(fence, 0) == 0

    shown = await fence.shown(GUIDE)
    assert (shown.status, shown.status_version, shown.reason) == ("failed", 0, "not_json")


async def test_a_rejected_record_spends_no_version_and_does_not_stop_the_one_on_its_way(fence: Fence) -> None:
    await assigned(fence, 0)

    assert await rejected(fence, 1) == 1
    async with fence.documents.holding_latest(GUIDE, 1) as latest:
        assert latest is True
    assert await assigned(fence, 2) == (2, "fresh")


async def test_a_rejection_shows_whatever_becomes_of_the_version_before(fence: Fence) -> None:
    await assigned(fence, 0)
    await rejected(fence, 1)
    await fence.status.project(changed("indexed", 1, n_chunks=2))

    assert (await fence.shown(GUIDE)).status == "failed"


async def test_the_next_accepted_version_replaces_a_rejection(fence: Fence) -> None:
    await rejected(fence, 0)
    await assigned(fence, 1)

    shown = await fence.shown(GUIDE)
    assert (shown.status, shown.reason) == ("accepted", None)


async def test_a_rejection_that_is_delivered_late_changes_nothing(fence: Fence) -> None:
    await rejected(fence, 0)
    await assigned(fence, 1)

    assert await rejected(fence, 0) is None
    assert (await fence.shown(GUIDE)).status == "accepted"


async def test_a_rejection_repeats_harmlessly(fence: Fence) -> None:
    await assigned(fence, 0)

    assert [await rejected(fence, 1), await rejected(fence, 1)] == [1, 1]


async def test_a_rejected_record_that_comes_again_and_is_good_gets_a_version(fence: Fence) -> None:
    await rejected(fence, 0)

    assert await assigned(fence, 0) == (1, "fresh")
    assert await assigned(fence, 0) == (1, "again")


async def test_a_record_that_failed_after_it_got_its_version_fails_as_that_version(fence: Fence) -> None:
    await assigned(fence, 0)

    assert await rejected(fence, 0, "kafka_away") == 1
    assert (await fence.shown(GUIDE)).status == "failed"
    assert await assigned(fence, 0) == (1, "again")
    await fence.status.project(changed("indexed", 1, n_chunks=2))
    assert (await fence.shown(GUIDE)).status == "indexed"


async def test_a_version_that_is_searchable_does_not_fail_any_more(fence: Fence) -> None:
    await assigned(fence, 0)
    await fence.status.project(changed("indexed", 1, n_chunks=2))

    assert await rejected(fence, 0) is None
    assert (await fence.shown(GUIDE)).status == "indexed"


async def redriven(fence: Fence, offset: int, *, partition: int = 0) -> tuple[int, str]:
    given = await fence.documents.assign(
        GUIDE, origin(offset, partition=partition), deleted=False, attributes={}, redriven=True
    )
    return given.version, given.outcome


async def test_a_redriven_record_gets_one_version_however_often_it_is_redriven(fence: Fence) -> None:
    await rejected(fence, 3)

    assert [await redriven(fence, 3), await redriven(fence, 3)] == [(1, "fresh"), (1, "again")]
    assert await assigned(fence, 3) == (1, "again")


async def test_a_redriven_record_whose_document_changed_since_is_overtaken(fence: Fence) -> None:
    await assigned(fence, 2)
    await rejected(fence, 3)
    await assigned(fence, 0, partition=1)

    assert [await redriven(fence, 3), await redriven(fence, 3)] == [(2, "overtaken"), (2, "overtaken")]
    assert await fence.documents.latest_version(GUIDE) == 2


async def test_a_redriven_record_is_overtaken_by_a_later_one_of_its_partition(fence: Fence) -> None:
    await rejected(fence, 3)
    await assigned(fence, 4)

    assert await redriven(fence, 3) == (1, "overtaken")


async def test_a_redriven_record_that_nobody_remembers_fits_only_where_nothing_came(fence: Fence) -> None:
    assert await redriven(fence, 3) == (1, "fresh")
    assert await redriven(fence, 9, partition=1) == (1, "overtaken")


async def test_what_was_redriven_after_a_rejection_is_no_rejection_any_more(fence: Fence) -> None:
    await rejected(fence, 3)
    await redriven(fence, 3)
    await assigned(fence, 4)

    assert await redriven(fence, 3) == (2, "overtaken")


async def test_the_latest_version_names_the_submission_that_it_was_given_to(fence: Fence) -> None:
    assert await fence.documents.latest(GUIDE) is None
    await rejected(fence, 1)
    assert await fence.documents.latest(GUIDE) is None
    await assigned(fence, 3)
    await rejected(fence, 0, partition=1)
    await assigned(fence, 4, deleted=True)

    latest = await fence.documents.latest(GUIDE)

    assert latest is not None
    assert (latest.version, latest.deleted) == (2, True)
    assert latest.submission == replace(origin(4), topic=INGEST.name)
    assert latest.accepted_ms > 1_600_000_000_000


async def test_a_submission_that_was_rejected_after_the_version_is_not_the_one(fence: Fence) -> None:
    await assigned(fence, 3)
    await rejected(fence, 4)

    latest = await fence.documents.latest(GUIDE)

    assert latest is not None
    assert (latest.version, latest.submission) == (1, None)


async def test_a_store_learns_from_the_log_what_it_has_forgotten_and_gives_no_version_again(fence: Fence) -> None:
    await assigned(fence, 3)
    origins: Origins = {"t1/0": {"offset": 7, "version": 3}, "t1/1": {"offset": 5, "version": 2}}

    learnt = await fence.documents.learn(GUIDE, 3, origins, deleted=False, attributes={}, at_ms=1_000)

    assert learnt
    assert await assigned(fence, 3) == (3, "redelivered")
    assert await assigned(fence, 5, partition=1) == (2, "again")
    assert await assigned(fence, 7) == (3, "again")
    assert await assigned(fence, 8) == (4, "fresh")


async def test_what_the_store_knows_is_not_learnt_again(fence: Fence) -> None:
    await assigned(fence, 3)
    given = await fence.documents.assign(GUIDE, origin(3), deleted=False, attributes={})

    known = await fence.documents.learn(GUIDE, 1, given.origins, deleted=False, attributes={}, at_ms=1_000)
    await assigned(fence, 4)
    older = await fence.documents.learn(GUIDE, 1, given.origins, deleted=False, attributes={}, at_ms=1_000)

    assert (known, older) == (False, False)
    assert (await fence.shown(GUIDE)).status_version == 2


async def test_a_delete_that_is_learnt_keeps_older_versions_out(fence: Fence) -> None:
    await assigned(fence, 3)
    origins: Origins = {"t1/0": {"offset": 4, "version": 2}}

    await fence.documents.learn(GUIDE, 2, origins, deleted=True, attributes={}, at_ms=1_000)

    assert (await fence.shown(GUIDE)).status == "deleted"
    assert not await fence.generation.replace(embedded(1, {}))


async def test_a_store_learns_where_a_version_comes_from_that_the_index_has_taught_it(fence: Fence) -> None:
    await fence.generation.replace(embedded(4, {}))
    origins: Origins = {"t1/0": {"offset": 9, "version": 4}}

    learnt = await fence.documents.learn(GUIDE, 4, origins, deleted=False, attributes={}, at_ms=1_000)

    assert learnt
    assert await assigned(fence, 9) == (4, "again")
