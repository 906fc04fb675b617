"""A shared table with differences behaves as a table of one's own, and leaves what is shared alone."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.layered import Layered

Keys = st.integers(0, 5)
Changes = st.lists(st.tuples(st.sampled_from(["set", "pop", "copy"]), Keys, st.integers()), max_size=20)


@given(st.dictionaries(Keys, st.integers()), Changes)
@settings(max_examples=200, derandomize=True)
def test_it_holds_what_a_dict_would_and_its_base_never_changes(base: dict[int, int], changes: object) -> None:
    assert isinstance(changes, list)
    before = dict(base)
    plain, layered = dict(base), Layered(base)
    for change, key, value in changes:
        if change == "set":
            plain[key] = layered[key] = value
        elif change == "pop":
            assert plain.pop(key, None) == layered.pop(key, None)
        else:
            old, layered = layered, layered.copy()
            old[key] = value + 1
        assert dict(layered) == plain
        assert len(layered) == len(plain)
        assert [key in layered for key in range(6)] == [key in plain for key in range(6)]
        assert [layered.get(key) for key in range(6)] == [plain.get(key) for key in range(6)]
    assert base == before


@dataclass
class Thing:
    number: int


def test_a_value_that_was_read_may_be_changed_and_the_shared_one_stays() -> None:
    base = {"a": Thing(1), "b": Thing(2)}
    layered = Layered(base, replace)
    layered["a"].number = 5
    assert (layered["a"].number, base["a"].number) == (5, 1)
    assert layered.peek("a").number == 5
    assert layered.peek("b") is base["b"]


def test_what_was_deleted_is_not_found_below() -> None:
    layered = Layered({"a": 1})
    del layered["a"]
    assert "a" not in layered
    for read in (layered.__getitem__, layered.peek, layered.__delitem__):
        with pytest.raises(KeyError):
            read("a")
