"""Facts: the merge is a join (C2), versions rise (C1, C3), deltas carry what changed."""

from meshd.config import FACT_ENTRIES_MAX, FACT_TOMBSTONES_MAX
from meshd.core.facts import Facts, Merged
from meshd.core.ids import Boot, Digest, SegmentId
from meshd.core.messages import FactKey, FactsDelta, FactValue, Held, OnDisk, Spare
from meshd.core.view import Hold
from tests.core.lone import id_of

A = id_of("a")
WHOLE = 1 << 20


def _models(count: int) -> list[tuple[str, Digest]]:
    return [("disk", Digest(f"{number:064x}")) for number in range(count)]


def _owner(writes: list[tuple[int, bool]], boot: int = 1) -> Facts:
    owner = Facts(A)
    owner.begin(Boot(boot))
    for number, there in writes:
        owner.state(("disk", Digest(f"{number:064x}")), OnDisk() if there else None, 0)
    return owner


def _known(reader: Facts) -> dict[FactKey, FactValue]:
    return reader.of(A).values()


def test_writing_the_same_again_is_no_news() -> None:
    owner = _owner([(1, True)])
    assert not owner.state(_models(2)[1], OnDisk(), 0)
    assert owner.state(_models(2)[1], None, 0)
    assert not owner.state(_models(2)[1], None, 0)
    assert owner.of(A).version == 2


def test_a_reader_with_the_base_takes_a_delta_and_one_behind_asks() -> None:
    owner = _owner([(1, True), (2, True), (3, True)])
    reader, late = Facts(id_of("b")), Facts(id_of("c"))
    reader.merge(owner.delta(A, 0, WHOLE, 0), 0)  # type: ignore[arg-type]
    owner.state(_models(5)[4], OnDisk(), 0)
    delta = owner.delta(A, 3, WHOLE, 0)
    assert delta is not None
    assert len(delta.entries) == 1
    assert reader.merge(delta, 0) is Merged.NEWS
    assert _known(reader) == _known(owner)
    assert late.merge(delta, 0) is Merged.GAP
    assert _known(late) == {}


def test_what_does_not_fit_is_cut_to_a_lower_version_and_shows_when_the_rest_is_there() -> None:
    owner = _owner([(number, True) for number in range(40)])
    reader = Facts(id_of("b"))
    outcomes = []
    while reader.of(A).version < 40:
        delta = owner.delta(A, reader.reached(A, Boot(1)), 700, 0)
        assert delta is not None
        outcomes.append(reader.merge(delta, 0))
    assert outcomes[:3] == [Merged.PART] * 3
    assert outcomes[-1] is Merged.NEWS
    assert _known(reader) == _known(owner)


def test_a_new_boot_starts_over() -> None:
    reader = Facts(id_of("b"))
    reader.merge(_owner([(1, True), (2, True)]).delta(A, 0, WHOLE, 0), 0)  # type: ignore[arg-type]
    again = _owner([(3, True)], boot=2)
    assert reader.merge(again.delta(A, 0, WHOLE, 0), 0) is Merged.NEWS  # type: ignore[arg-type]
    assert _known(reader) == _known(again)
    assert reader.merge(_owner([(1, True)] * 9).delta(A, 0, WHOLE, 0), 0) is Merged.OLD  # type: ignore[arg-type]


def test_a_reader_past_forgotten_tombstones_gets_the_whole() -> None:
    owner = _owner([(1, True), (2, True)])
    reader = Facts(id_of("b"))
    reader.merge(owner.delta(A, 0, WHOLE, 0), 0)  # type: ignore[arg-type]
    for number in range(100, 100 + 2 * FACT_TOMBSTONES_MAX):
        for there in (True, False):
            owner.state(("disk", Digest(f"{number:064x}")), OnDisk() if there else None, 0)
    owner.state(_models(2)[1], None, 0)
    delta = owner.delta(A, reader.of(A).version, WHOLE, 0)
    assert delta is not None
    assert delta.base == 0
    assert reader.merge(delta, 0) is Merged.NEWS
    assert _known(reader) == _known(owner)


def test_more_entries_than_a_node_may_state_are_refused_whole() -> None:
    greedy = _owner([(number, True) for number in range(FACT_ENTRIES_MAX + 1)])
    entries = tuple(greedy.of(A).entries.values())
    reader = Facts(id_of("b"))
    assert reader.merge(FactsDelta(A, Boot(1), 0, entries[-1].version, entries), 0) is Merged.REFUSED
    assert reader.of(A).version == 0


def test_how_long_it_is_ready_travels_and_no_clock_does() -> None:
    owner = Facts(A)
    owner.begin(Boot(1))
    segment = SegmentId(Digest("0" * 64), 0)
    owner.state(segment, Held(Hold.READY, 10, 0), now_us=50_000_000)
    delta = owner.delta(A, 0, WHOLE, now_us=57_000_000)
    reader = Facts(id_of("b"))
    reader.merge(delta, now_us=1_000)  # type: ignore[arg-type]
    assert reader.of(A).since_us[segment] == 1_000 - 7_000_000


def test_spare_capacity_and_holdings_are_facts_like_any() -> None:
    owner = Facts(A)
    owner.begin(Boot(1))
    owner.state("capacity", Spare(64), 0)
    owner.state("capacity", Spare(128), 0)
    assert owner.of(A).values() == {"capacity": Spare(128)}
    assert next(iter(owner.of(A).entries.values())).version == 2
