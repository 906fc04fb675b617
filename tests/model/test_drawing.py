"""A graph drawn: every operation, every cut, the same bytes each time. `UPDATE_GOLDEN=1` after a wanted change."""

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from meshd.model import bundle, cuts
from meshd.model.drawing import draw
from meshd.model.graph import Graph
from meshd.model.onnx_import import import_bytes
from tests.model.networks import demo_like

GOLDEN = Path(__file__).parent / "golden" / "demo_like.svg"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return bundle.pack(*import_bytes(demo_like(), "demo <like> & co")).graph


def _steady(svg: str) -> str:
    """Without what the cost model makes of a layer, which may be bettered."""
    return re.sub(r">layer (\d+): [^<]*<", r">layer \1: (varies)<", svg)


def test_the_drawing_of_a_small_model_is_the_one_that_was_looked_at(graph: Graph) -> None:
    drawn = _steady(draw(graph))
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(drawn)
    assert drawn == GOLDEN.read_text()


def test_a_drawing_is_xml_with_a_box_an_operation_and_a_dashed_line_a_cut(graph: Graph) -> None:
    root = ElementTree.fromstring(draw(graph))
    boxes = [e for e in root.iter(f"{SVG}rect") if e.get("class") == "b"]
    dashes = [e for e in root.iter(f"{SVG}path") if e.get("class") == "c"]
    assert len(boxes) == len(graph.operations)
    assert len(dashes) == len(cuts.layers(graph)) - 1
    assert any(e.text == "demo <like> & co" for e in root.iter(f"{SVG}text"))


def test_edges_that_skip_rows_do_not_overlap_in_a_lane(graph: Graph) -> None:
    strokes = re.findall(r'class="e" d="M\d+ (\d+)H(\d+)V(\d+)H', draw(graph))
    lanes: dict[str, list[tuple[int, int]]] = {}
    for start, x, end in strokes:
        lanes.setdefault(x, []).append((int(start), int(end)))
    assert strokes
    for held in lanes.values():
        for (_, end), (start, _) in zip(sorted(held), sorted(held)[1:], strict=False):
            assert end <= start
