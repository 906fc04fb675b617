"""When a node that drains may go: when what it serves is READY elsewhere, or nobody is there to take it."""

from dataclasses import replace

from meshd.core.view import Hold, Holding, State, View
from meshd.daemon.supervisor import is_covered
from tests.daemon.pictures import A, B, C, member, view


def test_a_node_that_alone_holds_a_served_segment_stays() -> None:
    picture = view()
    alone = {**picture.members, B: replace(picture.members[B], holdings=())}
    assert not is_covered(replace(picture, members=alone))


def test_a_node_whose_segments_are_ready_elsewhere_goes() -> None:
    assert is_covered(view())


def test_a_suspect_or_draining_node_covers_nothing() -> None:
    picture = view()
    for other in (replace(picture.members[B], state=State.SUSPECT), replace(picture.members[B], draining=True)):
        members = {A: picture.members[A], B: other, C: member(C, "idle")}
        assert not is_covered(replace(picture, members=members))


def test_a_loading_copy_covers_nothing() -> None:
    picture = view()
    loading = tuple(Holding(h.segment, Hold.LOADING) for h in picture.members[B].holdings)
    assert not is_covered(
        replace(picture, members={**picture.members, B: replace(picture.members[B], holdings=loading)})
    )


def test_a_node_with_nobody_who_stays_or_nothing_held_goes() -> None:
    picture = view()
    assert is_covered(replace(picture, members={A: picture.members[A]}))
    draining = replace(picture.members[B], draining=True)
    assert is_covered(replace(picture, members={A: picture.members[A], B: draining}))
    idle = View(1, C, picture.boot, picture.members, picture.deployments)
    assert is_covered(replace(idle, members={**picture.members, C: member(C, "idle")}))
