"""ONNX's node cases: every listed one passes, those in the table are refused at import, and none is wrong."""

import numpy as np
import pytest

from tests.model.conformance import EXCEPTIONS, cases, exception, is_listed, outcomes

PARTS = 8
PASSED_LEAST = 900
"""With onnx 1.23: 964 of 1,016. A guard against a list that quietly grows shorter."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(PARTS))
def test_listed_node_cases_pass_and_exceptions_are_refused(part: int) -> None:
    with np.errstate(all="ignore"):
        names = [n for n, c in sorted(cases().items()) if is_listed(c)][part::PARTS]
        told = list(outcomes(names))
    wrong = [(n, o, said) for n, o, said in told if o != ("refused" if exception(n) else "passed")]
    assert not wrong, wrong


@pytest.mark.filterwarnings("ignore")
def test_the_list_is_long_and_the_table_short() -> None:
    listed = [n for n, c in cases().items() if is_listed(c)]
    assert len(listed) - sum(1 for n in listed if exception(n)) >= PASSED_LEAST
    assert len(EXCEPTIONS) < 20
    print(f"{len(listed)} of {len(cases())} node cases are listed")


@pytest.mark.filterwarnings("ignore")
def test_what_is_not_listed_is_refused_or_right() -> None:
    """A sample: nothing may be computed wrongly because nobody thought of it."""
    with np.errstate(all="ignore"):
        rest = [n for n, c in sorted(cases().items()) if not is_listed(c)][::9]
        kept = [n for n in rest if all(isinstance(a, np.ndarray) for part in cases()[n].data_sets[0] for a in part)]
        told = [t for t in outcomes(kept) if t[1] == "wrong"]
    assert not told
