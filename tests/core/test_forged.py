"""Forged datagrams, short; a million of them: `python -m tests.core.forged --count 1000000`."""

import gc
import tracemalloc

from tests.core.forged import KINDS, Forger


def test_forged_datagrams_are_counted_and_change_nothing_and_leave_nothing_behind() -> None:
    forger = Forger()
    forger.run(2_000)
    knew = forger.knows()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        forger.run(4_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert forger.knows() == knew
    assert forger.outcomes["heard"] == 0
    assert forger.outcomes.total() == 6_000
    assert len(forger.outcomes) >= 5
    assert grown < 64 * 1024, f"{grown} bytes stay behind 4,000 of them"


def test_each_kind_is_refused_by_what_is_there_for_it() -> None:
    forger = Forger()
    expected = {
        "noise": {"malformed"},
        "header": {"replayed", "forged"},
        "another key": {"forged"},
        "altered": {"forged", "malformed", "replayed", "version", "other_mesh"},
        "cut": {"malformed", "replayed", "forged"},
        "replayed": {"replayed"},
        "another receiver": {"forged", "replayed"},
        "higher boot": {"forged"},
        "junk in a seal": {"not a message"},
    }
    assert set(expected) == set(KINDS)
    for kind, outcomes in expected.items():
        assert {forger.receive(forger.forge(kind)) for _ in range(50)} <= outcomes, kind
