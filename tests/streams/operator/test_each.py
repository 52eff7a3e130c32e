"""Work that is done for every generation that is followed."""

from streams.operator.each import EachGeneration, Round
from streams.ports import Generation
from tests.doubles.catalogue import MemoryCatalogue


def generation(name: str, state: str = "following") -> Generation:
    return Generation(name=name, chunker="structure", embedder="e", dim=4, state=state)


async def test_each_that_is_followed_has_its_rounds_and_one_that_is_not_any_more_is_forgotten() -> None:
    catalogue = MemoryCatalogue(rows=[generation("g1"), generation("g2"), generation("g3", "paused")], answers="g1")
    made, done, forgotten = [], [], list[str]()

    def make(of: Generation) -> Round:
        made.append(of.name)

        async def round() -> None:
            done.append(of.name)

        return round

    each = EachGeneration(catalogue=catalogue, make=make, forget=forgotten.append)
    await each.round()
    catalogue.rows = [generation("g1"), generation("g2", "dropping"), generation("g3")]
    await each.round()
    await each.round()

    assert made == ["g1", "g2", "g3"]
    assert done == ["g1", "g2", "g1", "g3", "g1", "g3"]
    assert forgotten == ["g2"]
