"""What `meshctl` prints and how it ends: JSON against golden files, tables by eye-catching lines, exit codes by number.

After a wanted change: `UPDATE_GOLDEN=1 python -m pytest tests/cli`, and look at the difference.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from meshd.cli.meshctl import COMMANDS, main
from meshd.cli.meshctl.output import size, span, yaml_lines
from meshd.core import events
from meshd.core.events import Refused
from meshd.core.view import Capacity, View
from meshd.v1 import admin_pb2 as pb
from tests.daemon.desks import FakeDaemon, fake_daemon
from tests.daemon.models import small_bundle
from tests.daemon.pictures import B, view

GOLDEN = Path(__file__).parent / "golden"
BUNDLE = small_bundle()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as made:
        for digest, blob in BUNDLE.blobs.items():
            made.library.add_blob(digest, [blob])
        made.library.add(BUNDLE.digest, BUNDLE.topology)
        made.board.report(events.Report("member.suspect", B, {"silent_us": 1_200_000}))
        made.findings = [
            pb.Finding(
                severity="FINDING_SEVERITY_ERROR", kind="port_closed", subject="x", says="it is", advice="open it"
            )
        ]
        yield made


def meshctl(daemon: FakeDaemon, *words: str, input: str | None = None) -> Result:
    return CliRunner().invoke(main, list(words), input=input, env={"MESHD_SOCKET": str(daemon.socket)})


UNSTABLE = ("uptime_us", "wall_us", "created_s", "secret", "macs", "resident_bytes", "crossing_bytes")
"""Clocks, secrets, and what the cost model makes of a layer, which may be bettered."""


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "(varies)" if key in UNSTABLE else _steady(each) for key, each in value.items()}
    return [_steady(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("name", "words", "code"),
    [
        ("status", ["status"], 7),
        ("node_list", ["node", "ls"], 0),
        ("node", ["node", "show", "nuc"], 0),
        ("model_list", ["model", "ls"], 0),
        ("model", ["model", "show", "small"], 0),
        ("deployment", ["plan", "show", "fashion"], 0),
        ("event", ["events"], 0),
        ("token", ["token", "create", "laptop"], 0),
        ("token_list", ["token", "ls"], 0),
        ("diagnosis", ["doctor"], 7),
        ("done_drain", ["node", "drain", "--yes"], 0),
        ("done_undrain", ["node", "drain", "--off"], 0),
        ("done_retire", ["retire", "fashion", "--yes"], 0),
        ("done_model_rm", ["model", "rm", "small", "--yes"], 0),
        ("done_token_rm", ["token", "rm", "laptop", "--yes"], 0),
        ("done_wait", ["wait", "--nodes", "2", "--deployment", "fashion"], 0),
    ],
)
def test_json_is_what_it_was(daemon: FakeDaemon, name: str, words: list[str], code: int) -> None:
    if name in ("token_list", "done_token_rm"):
        meshctl(daemon, "token", "create", "laptop")
    result = meshctl(daemon, *words, "-o", "json")
    assert result.exit_code == code, result.output
    document = json.loads(result.stdout)
    assert document["apiVersion"] == "meshd/v1"
    text = json.dumps(_steady(document), indent=2) + "\n"
    place = GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        place.write_text(text)
    assert text == place.read_text()


def test_a_status_table_shows_who_is_there_and_what_is_wrong(daemon: FakeDaemon) -> None:
    lines = meshctl(daemon, "status").stdout.splitlines()
    assert lines[0].startswith("node aaaaaaaa, mesh 9f86d081, 2 of 3 nodes alive, up ")
    assert lines[2].split() == ["NODE", "NAME", "STATE", "RTT", "MEMORY", "HOLDS"]
    assert lines[3].split() == ["aaaaaaaa", "pi", "alive", "-", "768M/1.0G", "1", "+1", "loading"]
    assert lines[5].split() == ["cccccccc", "old", "suspect,draining", "2.1ms", "768M/1.0G", "0", "1", "failed"]
    assert lines[8].split() == ["fashion", "555555555555", "3", "yes", "2", "1/2", "-"]
    assert lines[-1] == "! deployment wake: needs 80 MiB more memory"


def test_wide_shows_more_and_yaml_is_the_same_document(daemon: FakeDaemon) -> None:
    assert "10.0.0.1:7946" in meshctl(daemon, "status", "-o", "wide").stdout
    text = meshctl(daemon, "node", "show", "nuc", "-o", "yaml").stdout
    assert 'apiVersion: "meshd/v1"\nkind: "Node"\n' in text
    assert "  binary: 9000000000\n" in text


def test_a_plan_table_shows_owner_standby_and_what_crosses(daemon: FakeDaemon) -> None:
    lines = meshctl(daemon, "plan", "show", "fashion").stdout.splitlines()
    assert lines[0] == "fashion generation 3: serving"
    assert lines[4].split()[:4] == ["0", "0-0", "pi", "nuc"]
    assert "sign_bits" in lines[4]


def test_other_tables_are_for_people(daemon: FakeDaemon) -> None:
    assert "small: 512 of weights in 2 layers" in meshctl(daemon, "model", "show", "small").stdout
    assert meshctl(daemon, "model", "show", "small", "--graph").stdout.startswith("<svg ")
    assert "member.suspect" in meshctl(daemon, "events").stdout
    assert meshctl(daemon, "events", "--kind", "plan.").stdout == ""
    assert "→ open it" in meshctl(daemon, "doctor").stdout
    assert "segment" in meshctl(daemon, "node", "show").stdout.lower()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["plan", "show", "none"], 3, "fashion, wake"),
        (["node", "show", "none"], 3, "node ls"),
        (["model", "show", "none"], 3, "model ls"),
        (["model", "rm", "none", "--yes"], 3, "model ls"),
        (["token", "rm", "none", "--yes"], 3, "token ls"),
        (["deploy", "x", "--replicas", "0"], 2, "replicas"),
        (["deploy", "x", "--memory-max", "lots"], 2, "512MiB"),
        (["deploy", "x"], 3, "model ls"),
        (["node", "drain", "nuc", "--yes"], 2, "run this command there"),
        (["wait", "--nodes", "9", "--timeout", "0.3"], 4, "9 nodes alive: not within"),
        (["nonsense"], 2, "nonsense"),
        (["status", "--socket", "/nowhere"], 4, "meshd run"),
    ],
)
def test_errors_end_with_their_code_and_what_to_do(daemon: FakeDaemon, words: list[str], code: int, says: str) -> None:
    result = meshctl(daemon, *words)
    assert result.exit_code == code, result.output
    assert says in result.stderr
    assert result.stdout == ""


def test_deploy_answers_when_what_was_ordered_is_served(daemon: FakeDaemon) -> None:
    older = view(5)
    ordered: list[events.Command] = daemon.operator.commands

    def operate(command: events.Command, timeout_s: float) -> events.Done:
        ordered.append(command)
        daemon.board.publish(view(6))
        return events.Done("kept on 3 nodes")

    daemon.board.publish(View(5, older.me, older.boot, older.members, {}))
    daemon.operator.operate_from_thread = operate  # type: ignore[method-assign]
    result = meshctl(daemon, "deploy", "fashion", "--model", "small", "--min-segments", "2", "-o", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["serving"]["epoch"] == 2
    assert "kept on 3 nodes" in result.stderr


def test_deploy_of_what_cannot_be_placed_ends_with_6(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshd.client.order.PATIENCE_S", 0.1)
    older = view(5)
    daemon.board.publish(View(5, older.me, older.boot, older.members, {}))
    daemon.operator.operate_from_thread = lambda *_: (daemon.board.publish(view(6)), events.Done(""))[1]  # type: ignore[method-assign]
    result = meshctl(daemon, "deploy", "wake", "--model", "small")
    assert result.exit_code == 6
    assert "80 MiB" in result.stderr


def test_a_problem_is_not_the_answer_while_a_node_still_measures_itself(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshd.client.order.PATIENCE_S", 0.1)
    older = view(5)
    daemon.board.publish(View(5, older.me, older.boot, older.members, {}))
    blank = {node: replace(member, capacity=Capacity()) for node, member in older.members.items()}
    measuring = View(6, older.me, older.boot, blank, older.deployments)
    daemon.operator.operate_from_thread = lambda *_: (daemon.board.publish(measuring), events.Done(""))[1]  # type: ignore[method-assign]
    result = meshctl(daemon, "deploy", "wake", "--model", "small", "--timeout", "0.6")
    assert result.exit_code == 6
    assert result.stderr.count("80 MiB") == 2


def test_a_refused_deploy_ends_with_6_and_no_wait_asks_nothing_more(daemon: FakeDaemon) -> None:
    assert meshctl(daemon, "deploy", "small", "--no-wait").exit_code == 0
    daemon.operator.result = Refused("CONFLICT", "no node is large enough; lower --min-segments")
    result = meshctl(daemon, "deploy", "small")
    assert result.exit_code == 6
    assert "lower --min-segments" in result.stderr


def test_destructive_commands_ask(daemon: FakeDaemon) -> None:
    assert meshctl(daemon, "retire", "fashion", input="n\n").exit_code == 1
    assert daemon.operator.commands == []
    assert meshctl(daemon, "retire", "fashion", "--yes").exit_code == 0
    assert meshctl(daemon, "node", "drain", input="y\n").exit_code == 0
    assert meshctl(daemon, "model", "rm", "small", "-y").exit_code == 0
    assert [type(c).__name__ for c in daemon.operator.commands] == ["Retire", "Drain"]


def test_model_push_converts_here_and_sends_what_is_missing(daemon: FakeDaemon, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    weights = np.eye(4, dtype=np.float32)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    port = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node], "g", [port("x", 1, ["N", 4])], [port("y", 1, ["N", 4])], [onnx.numpy_helper.from_array(weights, "w")]
    )
    file = tmp_path / "eye.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), file)
    result = meshctl(daemon, "model", "push", str(file), "-o", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["name"] == "eye"
    assert len(daemon.library.whole()) == 2
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    assert meshctl(daemon, "model", "push", str(tmp_path / "junk.onnx")).exit_code == 1
    assert meshctl(daemon, "model", "push", str(file), "--dim", "N").exit_code == 2


def _commands(group: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(group, click.Group):
        yield path, group
        return
    with click.Context(group) as ctx:
        for name in group.list_commands(ctx):
            found = group.get_command(ctx, name)
            assert found is not None
            yield from _commands(found, *path, name)


def test_every_command_prints_json() -> None:
    found = dict(_commands(main))
    assert len(found) > len(COMMANDS), "groups are walked"
    without = [path for path, each in found.items() if "-o" not in [opt for p in each.params for opt in p.opts]]
    assert without == []


def test_what_a_command_did_is_said_on_stderr_and_printed_for_programs_only(daemon: FakeDaemon) -> None:
    assert meshctl(daemon, "retire", "fashion", "--yes").stdout == ""
    result = meshctl(daemon, "node", "drain", "--yes", "-o", "yaml")
    assert 'kind: "Done"\naction: "drain"' in result.stdout
    assert result.stderr == "done\n"


def test_every_command_has_help() -> None:
    for name in COMMANDS:
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (1023, "1023"), (1536, "1.5K"), (300 * 1024, "300K"), (5 * 2**30, "5.0G"), (2**50, "1048576G")],
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("us", "text"),
    [(250, "250us"), (12_340, "12.3ms"), (4_500_000, "4.5s"), (11_520_000_000, "3h12m"), (200_000_000_000, "2d7h")],
)
def test_times_are_short(us: int, text: str) -> None:
    assert span(us) == text


def test_yaml_nests() -> None:
    assert yaml_lines({"a": [{"b": 1, "c": []}, {}], "d-e": {"f": None}}) == [
        "a:", "  - b: 1", "    c: []", "  - {}", '"d-e":', "  f: null",
    ]  # fmt: skip
