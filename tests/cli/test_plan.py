"""`meshd plan`: problems in files, answers for people and programs."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from meshd.cli.meshd import main

LAYERS = [{"memory_bytes": 10, "output_bytes": 100}] * 4
NODES = [
    {"name": "slow", "memory_bytes": 1_000_000, "bandwidth_bps": 8_000_000, "layer_us": [40, 40, 40, 40], "watts": 1},
    {"name": "fast", "memory_bytes": 1_000_000, "bandwidth_bps": 80_000_000, "layer_us": [20, 20, 20, 20], "watts": 9},
]
PROBLEM = {"input_bytes": 50, "layers": LAYERS, "nodes": NODES, "objective": "throughput", "batch": 1}


def plan(tmp_path: Path, problem: Any, *words: str) -> Result:
    path = tmp_path / "problem.json"
    path.write_text(problem if isinstance(problem, str) else json.dumps(problem))
    return CliRunner().invoke(main, ["plan", "--problem", str(path), *words])


def answer(tmp_path: Path, **changed: Any) -> Any:
    done = plan(tmp_path, PROBLEM | changed, "-o", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_throughput_overlaps_transfer_with_compute(tmp_path: Path) -> None:
    # A link takes 100 us: one node alone is faster than any split.
    found = answer(tmp_path)
    assert found["stages"] == [{"node": "fast", "start": 0, "end": 4}]
    assert (found["bottleneck_us"], found["best_single_us"]) == (80, 80)
    assert found["lower_bound_us"] <= 80
    nodes = [NODES[0] | {"bandwidth_bps": 80_000_000}, NODES[1]]
    found = answer(tmp_path, nodes=nodes)
    assert {s["node"] for s in found["stages"]} == {"slow", "fast"}
    assert (found["bottleneck_us"], found["latency_us"]) == (60, 110)


def test_latency_adds_up_and_energy_is_joules_a_batch(tmp_path: Path) -> None:
    assert answer(tmp_path, objective="latency")["latency_us"] == 80
    found = answer(tmp_path, objective="energy")
    assert found["stages"] == [{"node": "slow", "start": 0, "end": 4}]
    assert found["joules"] == pytest.approx(160e-6)
    assert (found["latency_us"], found["best_single_us"]) == (160, 160)


def test_activations_count_for_the_batch_and_layer_times_do_not(tmp_path: Path) -> None:
    # 40 bytes of layers, 3 x 100 x 8 of output, 50 x 8 of input.
    nodes = [node | {"memory_bytes": 40 + 2_400 + 400} for node in NODES]
    assert len(answer(tmp_path, batch=8, nodes=nodes, objective="latency")["stages"]) == 1
    nodes = [node | {"memory_bytes": 40 + 2_400 + 399} for node in NODES]
    done = plan(tmp_path, PROBLEM | {"batch": 8, "nodes": nodes})
    assert done.exit_code == 6
    assert "more on every node would do" in done.stderr or "more than any node" in done.stderr


def test_what_does_not_fit_is_exit_6_with_the_shortfall(tmp_path: Path) -> None:
    tight = [node | {"memory_bytes": 500} for node in NODES]
    done = plan(tmp_path, PROBLEM | {"nodes": tight, "layers": [{"memory_bytes": 400, "output_bytes": 0}] * 4})
    assert done.exit_code == 6
    assert "1600 bytes, and all nodes together have 1000: 600 bytes too few" in done.stderr
    one = [node | {"layer_us": [1]} for node in tight]
    done = plan(tmp_path, PROBLEM | {"nodes": one, "layers": [{"memory_bytes": 700, "output_bytes": 0}]})
    assert done.exit_code == 6
    assert "layer 0 alone is 250 bytes more than any node has" in done.stderr
    assert done.stdout == ""


def test_the_picture_shows_stages_links_and_the_slowest(tmp_path: Path) -> None:
    done = plan(tmp_path, PROBLEM | {"nodes": [NODES[0] | {"bandwidth_bps": 80_000_000}, NODES[1]]})
    assert done.exit_code == 0
    for words in (
        "slow",
        "fast",
        "layers",
        "for 100 B",
        "<- slowest",
        "a batch every 0.06 ms",
        "best single node: 0.08 ms",
    ):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ("{", "not JSON"),
        ([], "an object in braces"),
        (PROBLEM | {"layers": []}, "layers: a list of 1 to"),
        (PROBLEM | {"layers": [{"memory_bytes": -1, "output_bytes": 0}] * 4}, "layers[0].memory_bytes"),
        (PROBLEM | {"layers": [{"memory_bytes": 1}] * 4}, "layers[0].output_bytes"),
        (PROBLEM | {"batch": 0}, "batch: a number from 1"),
        (PROBLEM | {"batch": True}, "batch: a number from 1"),
        (PROBLEM | {"objective": "speed"}, "none of latency, throughput, energy"),
        (PROBLEM | {"nodes": [NODES[0], NODES[0]]}, "the same name"),
        (PROBLEM | {"nodes": [NODES[0] | {"layer_us": [1]}]}, "1 numbers for 4 layers"),
        (PROBLEM | {"nodes": [NODES[0] | {"layer_us": [1, 2, 3, "x"]}]}, "layer_us[3]"),
        (PROBLEM | {"nodes": [NODES[0] | {"bandwidth_bps": 0}]}, "bandwidth_bps"),
        (PROBLEM | {"nodes": [{k: v for k, v in NODES[0].items() if k != "watts"}], "objective": "energy"}, "watts"),
        (PROBLEM | {"input_bytes": float("nan")}, "input_bytes"),
        (PROBLEM | {"nodes": [NODES[0] | {"name": ""}]}, "nodes[0].name"),
    ],
)
def test_a_bad_file_is_refused_by_the_name_of_the_field(tmp_path: Path, problem: Any, words: str) -> None:
    done = plan(tmp_path, problem)
    assert done.exit_code == 1
    assert words in done.stderr
