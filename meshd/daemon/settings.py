"""What a node was told: `meshd.toml`, the environment, flags; the last one named wins.

Every key exists three times under one name: `grpc_port = 8001` in the file, `MESHD_GRPC_PORT=8001`, `--grpc-port 8001`.
Defaults need no file. `KEYS` is the whole list; the command line makes its flags from it.

Rule 1: a key that does not exist, or a value that does not parse, is an error that names where it stands.
Rule 2: secrets are never settings: the mesh key is a *path* (or a systemd credential), tokens live in the store.
"""

import ipaddress
import os
import re
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshd.config import KIB, PORT_GOSSIP, PORT_GRPC, PORT_HTTP, PORT_METRICS, PORT_OFF, PROFILES, SETTINGS_BYTES_MAX
from meshd.core.ids import Address
from meshd.errors import MisuseError

LOG_LEVELS = ("debug", "info", "warning", "error")
_UNITS = {"": 1, "k": KIB, "m": KIB**2, "g": KIB**3}


@dataclass(frozen=True, slots=True)
class Settings:
    """One node's settings, all decided. Paths are absolute."""

    name: str
    state_dir: Path
    cache_dir: Path
    runtime_dir: Path
    mesh_key: Path
    bind: str
    gossip_port: int
    grpc_port: int
    http_port: int
    metrics_port: int
    """These three: 0 any free one, `PORT_OFF` none."""
    seeds: tuple[Address, ...]
    discovery: bool
    interfaces: tuple[str, ...]
    interfaces_skip: tuple[str, ...]
    labels: tuple[str, ...]
    memory_max: int
    threads: int
    profile: str
    log_level: str

    @property
    def loopback(self) -> bool:
        """Whether everything, mDNS included, stays on this machine."""
        return bool(self.bind) and ipaddress.ip_address(self.bind).is_loopback

    @property
    def admin_socket(self) -> Path:
        """Where `meshctl` finds the daemon; who may open it may do everything."""
        return self.runtime_dir / "admin.sock"

    @property
    def client_socket(self) -> Path:
        """Where inference clients of this machine find the daemon."""
        return self.runtime_dir / "client.sock"


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError("expected text")
    return raw.strip()


def _name(raw: object) -> str:
    name = _text(raw)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
        raise ValueError("expected 1 to 63 letters, digits, dots, dashes or underscores")
    return name


def _path(raw: object) -> Path:
    return Path(_text(raw)).expanduser().absolute()


def _port(raw: object) -> int:
    number = _whole(raw)
    if not 0 <= number <= 65_535:
        raise ValueError("expected a port from 0 (any free one) to 65535")
    return number


def _port_or_off(raw: object) -> int:
    return PORT_OFF if isinstance(raw, str) and raw.strip().lower() == "off" else _port(raw)


def _whole(raw: object) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise ValueError("expected a whole number")
    return int(raw)


def _size(raw: object) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    found = re.fullmatch(r"(\d+)\s*([kmg]?)(?:i?b)?", _text(raw).lower())
    if not found:
        raise ValueError("expected bytes, such as 300000000, 512MiB or 2G")
    return int(found[1]) * _UNITS[found[2]]


def _flag(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    known = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}
    if (word := _text(raw).lower()) not in known:
        raise ValueError("expected true or false")
    return known[word]


def _words(raw: object) -> tuple[str, ...]:
    parts = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(parts, list | tuple) or not all(isinstance(p, str) for p in parts):
        raise ValueError("expected a list of words (in flags and the environment, split by commas)")
    return tuple(p.strip() for p in parts if p.strip())


def _labels(raw: object) -> tuple[str, ...]:
    labels = _words(raw)
    for label in labels:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/=-]{0,62}", label):
            raise ValueError(f"label {label!r}: expected 1 to 63 letters, digits and ._/=-")
    return tuple(sorted(set(labels)))


def _bind(raw: object) -> str:
    return str(ipaddress.ip_address(text)) if (text := _text(raw)) else ""


def address(text: str) -> Address:
    """Parse `host`, `host:port`, `[v6]:port`; the port is gossip's unless given. Raises ValueError."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s:\[\]]+))(?::(\d{1,5}))?", text.strip())
    if not found:
        raise ValueError(f"{text!r}: expected host, host:port or [v6 address]:port")
    return Address(found[1] or found[2], _port(found[3] or PORT_GOSSIP))


def _seeds(raw: object) -> tuple[Address, ...]:
    return tuple(address(word) for word in _words(raw))


def _one_of(*words: str) -> Callable[[object], str]:
    def parse(raw: object) -> str:
        if (word := _text(raw)) not in words:
            raise ValueError(f"expected one of {', '.join(words)}")
        return word

    return parse


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: its name, how text or a TOML value becomes its value, its default as text, what it does."""

    name: str
    parse: Callable[[object], Any]
    default: str
    """As it would be written in the environment; empty where `_decide` works it out."""
    help: str

    @property
    def flag(self) -> str:
        """The option's name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable's name."""
        return "MESHD_" + self.name.upper()


KEYS = (
    Key("name", _name, "", "What people call this node. Default: the host's name."),
    Key("state_dir", _path, "", "Identity, registry, models. Default: $STATE_DIRECTORY, else XDG's state folder."),
    Key("cache_dir", _path, "", "Compiled kernels, measured rates. Default: $CACHE_DIRECTORY, else XDG's cache folder."),
    Key("runtime_dir", _path, "", "Unix sockets. Default: $RUNTIME_DIRECTORY, else XDG's, else under the state folder."),
    Key("mesh_key", _path, "", "The mesh key's file. Default: the credential mesh.key, else mesh.key in the state folder."),
    Key("bind", _bind, "", "Address all listeners bind; 127.0.0.1 keeps everything, mDNS too, on this machine. "
        "Default: every interface with a mesh key, loopback without."),
    Key("gossip_port", _port, str(PORT_GOSSIP), "UDP gossip and TCP links."),
    Key("grpc_port", _port_or_off, str(PORT_GRPC), "Open Inference Protocol over gRPC; off: only on its unix socket."),
    Key("http_port", _port_or_off, str(PORT_HTTP), "Open Inference Protocol over HTTP; off: not served."),
    Key("metrics_port", _port_or_off, str(PORT_METRICS),
        "Metrics for Prometheus, loopback only unless bind says otherwise; off: not served."),
    Key("seeds", _seeds, "", "Nodes to try where multicast does not reach: host[:port], several split by commas."),
    Key("discovery", _flag, "true", "Find nodes, and be found, by mDNS."),
    Key("interfaces", _words, "", "Patterns of network interfaces to use. Default: all but those skipped."),
    Key("interfaces_skip", _words, "docker*,veth*,br-*,virbr*,cni*,flannel*", "Patterns of interfaces to leave alone."),
    Key("labels", _labels, "", "Words that deployments keep to or avoid."),
    Key("memory_max", _size, "0", "Most memory for models, such as 512MiB. 0: 60 % of what is free at start."),
    Key("threads", _whole, "0", "Compute threads. 0: one a core."),
    Key("profile", _one_of(*PROFILES), "default", f"Timers: {', '.join(PROFILES)}."),
    Key("log_level", _one_of(*LOG_LEVELS), "info", f"{', '.join(LOG_LEVELS)}."),
)  # fmt: skip


def load(flags: Mapping[str, object], environ: Mapping[str, str] = os.environ) -> Settings:
    """Decide every setting.

    Parameters
    ----------
    flags : values by key name, None where the flag was not given; `config` may name the file.
    environ : `MESHD_*`, systemd's `*_DIRECTORY`, XDG's.

    Raises
    ------
    MisuseError
        A file that cannot be read, an unknown key, or a value that does not parse.
    """
    given: dict[str, Any] = {}
    known = {key.name: key for key in KEYS}
    for name, raw, where in [*_from_file(flags.get("config"), environ), *_from_environment(environ)]:
        given[name] = _parse(known, name, raw, where)
    for name, raw in flags.items():
        if raw is not None and name != "config":
            given[name] = _parse(known, name, raw, f"flag {known[name].flag}" if name in known else "flag")
    return _decide(given, environ)


def _parse(known: Mapping[str, Key], name: str, raw: object, where: str) -> Any:
    if name not in known:
        raise MisuseError(f"{where}: there is no setting {name!r}; there are {', '.join(known)}")
    try:
        return known[name].parse(raw)
    except ValueError as error:
        raise MisuseError(f"{where}: {name} = {raw!r}: {error}") from None


def _from_file(named: object, environ: Mapping[str, str]) -> list[tuple[str, object, str]]:
    path = Path(str(named)) if named else _folder(environ, "CONFIGURATION_DIRECTORY", "XDG_CONFIG_HOME", ".config")
    path = path if named else path / "meshd.toml"
    try:
        with open(path, "rb") as file:
            text = file.read(SETTINGS_BYTES_MAX + 1)
    except FileNotFoundError:
        if named:
            raise MisuseError(f"{path}: no such file; leave --config out to run with defaults") from None
        return []
    except OSError as error:
        raise MisuseError(f"{path}: {error.strerror}; check the file's owner and mode") from None
    if len(text) > SETTINGS_BYTES_MAX:
        raise MisuseError(f"{path}: more than {SETTINGS_BYTES_MAX} bytes; is it the right file?")
    try:
        table = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MisuseError(f"{path}: {error}") from None
    return [(name, raw, str(path)) for name, raw in table.items()]


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, object, str]]:
    return [(key.name, environ[key.variable], key.variable) for key in KEYS if environ.get(key.variable)]


def _folder(environ: Mapping[str, str], systemd: str, xdg: str, home: str) -> Path:
    # systemd may list several folders, split by colons; the first is ours.
    if found := environ.get(systemd, "").split(":")[0]:
        return Path(found)
    return Path(environ.get(xdg) or Path(environ.get("HOME", "/")) / home) / "meshd"


def _runtime(environ: Mapping[str, str], state: Path) -> Path:
    if found := environ.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        return Path(found)
    return Path(environ["XDG_RUNTIME_DIR"]) / "meshd" if environ.get("XDG_RUNTIME_DIR") else state / "run"


def _decide(given: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    values: dict[str, Any] = {key.name: given.get(key.name) for key in KEYS}
    for key in KEYS:
        if values[key.name] is None and (key.default or key.parse in (_bind, _seeds, _words, _labels)):
            values[key.name] = key.parse(key.default)
    state = values["state_dir"] or _folder(environ, "STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state").absolute()
    values["state_dir"] = state
    values["cache_dir"] = (
        values["cache_dir"] or _folder(environ, "CACHE_DIRECTORY", "XDG_CACHE_HOME", ".cache").absolute()
    )
    # A state folder of one's own means a daemon of one's own: its sockets lie beside its state.
    own = "state_dir" in given
    values["runtime_dir"] = values["runtime_dir"] or (state / "run" if own else _runtime(environ, state).absolute())
    credential = Path(environ.get("CREDENTIALS_DIRECTORY", "/nonexistent")) / "mesh.key"
    values["mesh_key"] = values["mesh_key"] or (credential if credential.exists() else state / "mesh.key")
    values["name"] = values["name"] or _host_name()
    return Settings(**values)


def _host_name() -> str:
    bare = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname().split(".")[0])
    return bare.strip("-._")[:63] or "node"
