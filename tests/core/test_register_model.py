"""The model check of the plan register, short: two epochs whole, and each rule broken on purpose is found broken.

All three epochs, some minutes: `python -m tests.core.register_model`.
"""

import pytest

from tests.core.register_model import broken


def test_two_epochs_by_two_planners_with_a_crash_are_right_in_every_interleaving() -> None:
    model = broken("", epochs=2)
    assert model.run() == []
    assert model.visited > 50_000


@pytest.mark.parametrize(("how", "words"), [("wait", "none of them holds"), ("state", "nothing to route by")])
def test_a_rule_that_is_broken_on_purpose_is_found(how: str, words: str) -> None:
    wrong = broken(how).run(most=20_000)
    assert words in wrong[-1]
