"""`meshd sim`: what a user sees, and the document a program reads."""

import json

from click.testing import CliRunner

from meshd.cli.meshd import main


def test_the_report_is_a_document_and_the_same_each_time() -> None:
    words = ["sim", "--nodes", "3", "--minutes", "1", "--seed", "5", "--faults", "crash,loss=0.1", "-o", "json"]
    first, second = (CliRunner().invoke(main, words) for _ in range(2))
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert report["apiVersion"] == "meshd/v1"
    assert report["kind"] == "SimReport"
    assert report["invariants"]["broken"] == []
    assert list(report["faults"]) == ["crash", "loss"]
    assert report["faults"]["crash"] == 1
    assert report["faults"]["loss"] > 100, "datagrams that were lost"
    assert report["false_dead"] == 0
    assert first.stdout == second.stdout


def test_a_person_reads_a_table() -> None:
    result = CliRunner().invoke(main, ["sim", "--nodes", "2", "--minutes", "0.2"])
    assert result.exit_code == 0
    assert "false DEAD" in result.stdout
    assert "none broken" in result.stdout


def test_a_fault_that_never_happened_is_a_failure() -> None:
    result = CliRunner().invoke(main, ["sim", "--nodes", "2", "--minutes", "0.0005", "--faults", "reorder"])
    assert result.exit_code == 1
    assert "the fault reorder never happened" in result.stderr


def test_an_unknown_fault_names_those_there_are() -> None:
    result = CliRunner().invoke(main, ["sim", "--faults", "earthquake"])
    assert result.exit_code == 2
    assert "no fault is called earthquake" in result.stderr
    assert "split" in result.stderr


def test_a_fault_that_strikes_deployments_asks_for_some() -> None:
    result = CliRunner().invoke(main, ["sim", "--faults", "planner_dies"])
    assert result.exit_code == 2
    assert "--deployments" in result.stderr
