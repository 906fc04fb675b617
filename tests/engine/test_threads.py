"""The crew: every part done once, idle cores only, errors told, no answer changed."""

import threading

import numpy as np
import pytest

from meshd.engine import threads
from meshd.engine.segment import compile_segment
from meshd.engine.step import KernelStep
from meshd.engine.threads import Crew
from meshd.model import bundle, cuts
from meshd.model.onnx_import import import_bytes
from tests.model.networks import demo_like


@pytest.mark.parametrize("cores", [1, 2, 4])
@pytest.mark.parametrize("parts", [1, 2, 3, 9])
def test_every_part_is_done_once(cores: int, parts: int) -> None:
    done: list[int] = []
    Crew(cores).share(done.append, parts)
    assert sorted(done) == list(range(parts))


def test_parts_run_at_the_same_time_where_cores_are_idle() -> None:
    meet = threading.Barrier(2, timeout=20)
    Crew(2).share(lambda _: meet.wait() and None, 2)


def test_busy_cores_are_not_lent() -> None:
    team, seen = Crew(2), set[str]()
    with team.computing(), team.computing():
        team.share(lambda _: seen.add(threading.current_thread().name), 4)
    assert seen == {threading.current_thread().name}


def test_what_was_lent_comes_back_even_after_an_error() -> None:
    team = Crew(3)

    def fail(part: int) -> None:
        if part == 1:
            raise ValueError("part 1")

    for _ in range(3):
        with pytest.raises(ValueError, match="part 1"):
            team.share(fail, 3)
    assert team._busy == 0


def test_a_helper_that_shares_in_turn_does_not_wait_for_itself() -> None:
    team, done = Crew(4), list[int]()
    for _ in range(50):
        team.share(lambda _: team.share(done.append, 3), 2)
    assert len(done) == 50 * 2 * 3


def test_a_split_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = bundle.pack(*import_bytes(demo_like(), "demo"))
    end = len(cuts.layers(packed.graph))
    images = np.random.default_rng(0).standard_normal((5, 1, 12, 12)).astype(np.float32)
    segment = compile_segment(packed.graph, 0, end, packed.blobs.__getitem__)
    (whole,) = segment.run([images])
    monkeypatch.setattr(threads, "_crew", [Crew(3)])
    split = compile_segment(packed.graph, 0, end, packed.blobs.__getitem__)
    for step in split.steps:
        if isinstance(step, KernelStep):
            step.ways = 3
    assert np.array_equal(split.run([images])[0], whole)
    assert np.array_equal(split.run([images[:1]])[0], whole[:1])
