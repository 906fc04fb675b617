"""Settings come from a file, the environment and flags, and say where a mistake stands."""

from pathlib import Path

import pytest

from meshd.config import PORT_OFF
from meshd.core.ids import Address
from meshd.daemon.settings import KEYS, load
from meshd.errors import MisuseError

HOME = {"HOME": "/home/eve"}


def test_defaults_need_no_file_and_no_environment() -> None:
    settings = load({}, HOME)
    assert (settings.gossip_port, settings.grpc_port, settings.http_port, settings.metrics_port) == (
        7946, 8001, 8000, 8002,
    )  # fmt: skip
    assert settings.state_dir == Path("/home/eve/.local/state/meshd")
    assert settings.runtime_dir == settings.state_dir / "run"
    assert settings.mesh_key == settings.state_dir / "mesh.key"
    assert settings.discovery
    assert not settings.loopback


def test_systemd_says_where_everything_lies() -> None:
    environ = {
        **HOME, "STATE_DIRECTORY": "/var/lib/meshd", "RUNTIME_DIRECTORY": "/run/meshd:/run/other",
        "CACHE_DIRECTORY": "/var/cache/meshd",
    }  # fmt: skip
    settings = load({}, environ)
    assert settings.admin_socket == Path("/run/meshd/admin.sock")
    assert settings.state_dir == Path("/var/lib/meshd")
    assert settings.cache_dir == Path("/var/cache/meshd")


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "meshd.toml").write_text('grpc_port = 1\nhttp_port = 1\nmetrics_port = 1\nname = "pi"\n')
    environ = {
        **HOME, "CONFIGURATION_DIRECTORY": str(tmp_path), "MESHD_HTTP_PORT": "2", "MESHD_METRICS_PORT": "2",
    }  # fmt: skip
    settings = load({"metrics_port": 3, "bind": None}, environ)
    assert (settings.name, settings.grpc_port, settings.http_port, settings.metrics_port) == ("pi", 1, 2, 3)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("memory_max", "512MiB", 512 * 1024**2),
        ("memory_max", "2G", 2 * 1024**3),
        ("labels", "gpu,site=a,gpu", ("gpu", "site=a")),
        ("seeds", "pi, 10.0.0.1:9,[fe80::1%eth0]:7", (Address("pi", 7946), Address("10.0.0.1", 9), Address("fe80::1%eth0", 7))),
        ("discovery", "off", False),
        ("bind", "127.0.0.1", "127.0.0.1"),
    ],
)  # fmt: skip
def test_values_are_read_as_people_write_them(name: str, text: str, value: object) -> None:
    assert getattr(load({name: text}, HOME), name) == value


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"grpc_port": "70000"}, "--grpc-port"),
        ({"memory_max": "much"}, "512MiB"),
        ({"profile": "quick"}, "lowpower"),
        ({"labels": "a b"}, "'a b'"),
        ({"seeds": "a:b:c"}, "'a:b:c'"),
        ({"bind": "localhost"}, "localhost"),
        ({"nonsense": "1"}, "nonsense"),
        ({"config": "/nonexistent/meshd.toml"}, "--config"),
    ],
)
def test_a_bad_value_is_named_with_its_place(flags: dict[str, object], says: str) -> None:
    with pytest.raises(MisuseError, match=says.replace("(", r"\(")):
        load(flags, HOME)


def test_a_mistyped_key_in_the_file_is_an_error_and_not_silence(tmp_path: Path) -> None:
    (tmp_path / "meshd.toml").write_text("grcp_port = 1\n")
    with pytest.raises(MisuseError, match="grcp_port"):
        load({"config": str(tmp_path / "meshd.toml")}, HOME)


def test_every_key_has_help_a_flag_and_a_variable() -> None:
    assert all(key.help and key.flag.startswith("--") and key.variable.startswith("MESHD_") for key in KEYS)


def test_a_credential_is_preferred_to_a_key_in_the_state_folder(tmp_path: Path) -> None:
    (tmp_path / "mesh.key").write_text("x")
    assert load({}, {**HOME, "CREDENTIALS_DIRECTORY": str(tmp_path)}).mesh_key == tmp_path / "mesh.key"


def test_a_port_may_be_off_but_not_that_of_gossip(tmp_path: Path) -> None:
    (tmp_path / "meshd.toml").write_text('http_port = "off"\n')
    settings = load({"metrics_port": "off", "grpc_port": "OFF"}, {"CONFIGURATION_DIRECTORY": str(tmp_path)})
    assert (settings.grpc_port, settings.http_port, settings.metrics_port) == (PORT_OFF, PORT_OFF, PORT_OFF)
    with pytest.raises(MisuseError, match="--gossip-port"):
        load({"gossip_port": "off"}, {})
