"""Joules from a made-up sysfs, from a command, or the reason why there are none."""

import sys
from pathlib import Path

import pytest

from meshd.compress import energy
from meshd.errors import InvalidError


def _zone(root: Path, name: str, micro: int, bound: int = 1000) -> Path:
    zone = root / "class" / "powercap" / name
    zone.mkdir(parents=True)
    (zone / "energy_uj").write_text(f"{micro}\n")
    (zone / "max_energy_range_uj").write_text(f"{bound}\n")
    return zone / "energy_uj"


def test_packages_are_added_and_what_lies_within_them_is_not_counted_twice(tmp_path: Path) -> None:
    files = [_zone(tmp_path, "intel-rapl:0", 100), _zone(tmp_path, "intel-rapl:1", 10)]
    inner = [_zone(tmp_path, "intel-rapl:0:0", 50), _zone(tmp_path, "intel-rapl-mmio:0", 100)]
    (tmp_path / "class/powercap/intel-rapl").mkdir()
    meter, why = energy.find(tmp_path)
    assert meter is not None
    assert not why
    meter.begin()
    files[0].write_text("400\n")
    files[1].write_text("30\n")
    for path in inner:
        path.write_text("900\n")
    assert meter.joules(1.0) == pytest.approx(320e-6)


def test_a_counter_that_comes_round_is_followed(tmp_path: Path) -> None:
    file = _zone(tmp_path, "intel-rapl:0", 900)
    meter, _ = energy.find(tmp_path)
    assert meter is not None
    meter.begin()
    file.write_text("100\n")
    meter.sample()
    file.write_text("50\n")
    assert meter.joules(1.0) == pytest.approx((200 + 950) * 1e-6)


@pytest.mark.parametrize("file", ["power1_input", "power1_average"])
def test_a_sensor_of_watts_is_averaged_over_the_work(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "class" / "hwmon" / "hwmon3"
    folder.mkdir(parents=True)
    (folder / "name").write_text("ina219\n")
    (folder / file).write_text("2000000\n")
    meter, _ = energy.find(tmp_path)
    assert meter is not None
    assert "ina219" in meter.name
    meter.begin()
    meter.sample()
    (folder / file).write_text("4000000\n")
    meter.sample()
    assert meter.joules(2.0) == pytest.approx(6.0)


def test_a_sensor_that_counts_is_preferred(tmp_path: Path) -> None:
    folder = tmp_path / "class" / "hwmon" / "hwmon0"
    folder.mkdir(parents=True)
    (folder / "power1_input").write_text("1\n")
    (folder / "energy1_input").write_text("7000000\n")
    meter, _ = energy.find(tmp_path)
    assert meter is not None
    meter.begin()
    (folder / "energy1_input").write_text("9000000\n")
    assert meter.joules(1.0) == pytest.approx(2.0)


def test_without_any_the_reason_is_told(tmp_path: Path) -> None:
    meter, why = energy.find(tmp_path)
    assert meter is None
    assert "powercap: none here; hwmon: none here" in why
    assert "--power-cmd" in why


def test_what_is_no_number_is_a_reason_too(tmp_path: Path) -> None:
    _zone(tmp_path, "intel-rapl:0", 1).write_text("n/a")
    meter, why = energy.find(tmp_path)
    assert meter is None
    assert "powercap: invalid literal" in why


def test_a_command_tells_watts(tmp_path: Path) -> None:
    _zone(tmp_path, "intel-rapl:0", 1)
    meter, _ = energy.find(tmp_path, f"{sys.executable} -c 'print(2.5)'")
    assert meter is not None
    meter.begin()
    assert meter.joules(2.0) == pytest.approx(5.0)


@pytest.mark.parametrize("command", ["no-such-command-here", "true", "false", "echo -3", "echo nan"])
def test_a_command_that_tells_none_is_refused(tmp_path: Path, command: str) -> None:
    with pytest.raises(InvalidError, match="--power-cmd"):
        energy.find(tmp_path, command)
