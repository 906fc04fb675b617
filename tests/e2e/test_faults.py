"""The fault table's short form: five real daemons on hosts of their own under a steady load, and a few of the faults."""

from collections.abc import Iterator

import pytest

from tests.e2e.faults import Row, judge, run
from tests.e2e.five import Five
from tests.e2e.relay import needs_namespaces
from tests.e2e.steady import Sent
from tests.e2e.switches import FAULTS

RATE = 20.0
SHARE = 0.4
"""Of a fault's usual time: what it does to requests shows at once."""
ADDED_P50_MS_MAX = 1_000.0
"""The full table has the bound of the promise; this machine may be doing anything else."""

SHORT = ("kill-1", "stop", "one-way-back", "generation")


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Five]:
    with Five(tmp_path_factory.mktemp("five")) as made:
        yield made


@pytest.mark.timeout(290)
@needs_namespaces
@pytest.mark.parametrize("name", SHORT)
def test_no_fault_costs_a_request(name: str, request: pytest.FixtureRequest) -> None:
    five: Five = request.getfixturevalue("five")
    row: Row = run(five, next(fault for fault in FAULTS if fault.name == name), RATE, SHARE)
    assert (row.lost, row.wrong) == (0, 0), row
    assert row.requests > 0
    assert row.added_p50 < ADDED_P50_MS_MAX, row


def test_the_row_counts_what_its_words_say() -> None:
    """Lost, refused, wrong and added, of requests that nobody sent."""
    quick = [Sent(n / 10, n / 10 + 0.01, right=True) for n in range(40)]
    slow = [Sent(4 + n / 10, 4 + n / 10 + 0.5, right=True) for n in range(20)]
    bad = [
        Sent(4.5, 4.6, code="UNAVAILABLE", error="no live node holds segment 1"),
        Sent(4.5, 8.6, code="UNAVAILABLE", error="no live node holds segment 1"),
        Sent(12.0, 12.1, code="UNAVAILABLE", error="no live node holds segment 1"),
        Sent(4.7, 4.8, code="RESOURCE_EXHAUSTED"),
        Sent(4.8, 4.9, wrong=True),
    ]
    by_name = {fault.name: fault for fault in FAULTS}
    apart = judge(by_name["split-without"], [*quick, *slow, *bad], (0.0, 4.0, 6.0, 6.1))
    assert (apart.lost, apart.refused, apart.wrong, apart.busy) == (1, 2, 1, 1)
    assert [why.split(":")[0] for why in apart.broken] == ["lost", "refused badly", "1 wrong answers"]
    whole = judge(by_name["kill-1"], [*quick, *slow, *bad[:1]], (0.0, 4.0, 6.0, 6.1))
    assert (whole.lost, whole.refused, round(whole.added_p50)) == (1, 0, 490)
    assert "added p50 490 ms, at most 150" in whole.broken
