"""This device: its memory budget, its machine identity, its addresses.

Rule: what cannot be read here (no /proc, no machine id) becomes a modest default, never an error.
"""

import hashlib
import ipaddress
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from meshd.config import ADDRESSES_MAX, MIB
from meshd.core.ids import Address
from meshd.net.interfaces import interfaces

MEMORY_SHARE = 0.6
"""Of what is free at start: the device has a job of its own."""
MEMORY_UNKNOWN_BYTES = 256 * MIB


def memory_budget_bytes(asked: int, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Budget for models: as asked, else a share of what is available now, within a cgroup's limit if there is one."""
    if asked:
        return asked
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return MEMORY_UNKNOWN_BYTES
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        available = min(available, int(limit)) if limit.isdigit() else available
    except OSError:
        pass
    return int(available * MEMORY_SHARE)


def machine() -> str:
    """An identity of the machine, so that standbys go to another one; a digest, for the id itself is private."""
    for place in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            raw = Path(place).read_text().strip()
        except OSError:
            continue
        if raw:
            return hashlib.sha256(f"meshd {raw}".encode()).hexdigest()[:16]
    return hashlib.sha256(f"meshd {platform.node()}".encode()).hexdigest()[:16]


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def own_addresses(bind: str, port: int, patterns: Sequence[str], skip: Sequence[str]) -> tuple[Address, ...]:
    """Where peers may reach this node, IPv4 first; the loopback if there is nothing else.

    `patterns` and `skip` are patterns of interface names, as in the settings.
    """
    if bind:
        return (Address(bind, port),)
    found = [ip for interface in interfaces(patterns, skip) for ip in interface.addresses]
    found.sort(key=lambda ip: ipaddress.ip_address(ip).version)  # IPv4 first; else in order of interface.
    return tuple(Address(ip, port) for ip in found[:ADDRESSES_MAX]) or (Address("127.0.0.1", port),)
