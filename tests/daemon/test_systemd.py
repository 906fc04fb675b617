"""The notify protocol against a fake manager's socket, and the unit file against systemd's own tools."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.daemon.systemd import Notifier

UNITS = Path(__file__).resolve().parents[2] / "systemd"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_states_arrive_in_one_datagram_each(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.tell("READY=1", "STATUS=2 nodes alive")
    assert manager.recv(4096) == b"READY=1\nSTATUS=2 nodes alive"


def test_an_abstract_socket_works_too() -> None:
    name = f"\0meshd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name)
        listening.settimeout(5)
        Notifier({"NOTIFY_SOCKET": "@" + name[1:]}).tell("STOPPING=1")
        assert listening.recv(4096) == b"STOPPING=1"


def test_without_systemd_or_with_a_dead_manager_nothing_happens(tmp_path: Path) -> None:
    Notifier({}).tell("READY=1")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")


@pytest.mark.parametrize(
    ("environ", "every_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "junk"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked(environ: dict[str, str], every_s: float | None) -> None:
    assert Notifier(environ).watchdog_s == every_s


needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="NOT TESTED: no systemd-analyze here"
)


def _analyze(*words: str) -> str:
    done = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_systemd
def test_the_unit_is_sound(tmp_path: Path) -> None:
    # verify wants the command and the user to exist, which an installation provides: stand-ins here.
    unit = (UNITS / "meshd.service").read_text().replace("/usr/local/bin/meshd", "/bin/true")
    unit = unit.replace("User=meshd", "User=root").replace("Group=meshd", "Group=root")
    (tmp_path / "meshd.service").write_text(unit)
    assert "meshd.service" not in _analyze("verify", "--man=no", str(tmp_path / "meshd.service"))


@needs_systemd
def test_the_unit_is_confined() -> None:
    _analyze("security", "--offline=true", "--threshold=16", str(UNITS / "meshd.service"))


def test_the_unit_says_what_the_daemon_relies_on() -> None:
    unit = (UNITS / "meshd.service").read_text()
    for line in (
        "Type=notify", "NotifyAccess=main", "WatchdogSec=30", "UMask=0077", "StateDirectory=meshd", "RuntimeDirectory=meshd",
        "MemoryDenyWriteExecute=no", "ProcSubset=all", "Restart=on-failure",
    ):  # fmt: skip
        assert line in unit, line
