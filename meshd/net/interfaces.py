"""Which addresses of this machine a node announces, and on which interfaces it looks for others."""

import fnmatch
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import ifaddr

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface and its addresses, best first."""

    name: str
    addresses: tuple[str, ...]


def interfaces(only: Sequence[str] = (), skip: Sequence[str] = ()) -> tuple[Interface, ...]:
    """Interfaces other devices can reach, in order of name.

    Loopback is not among them, nor link-local addresses (which mean nothing without an interface's name).

    Parameters
    ----------
    only : patterns of names to use; empty for all.
    skip : patterns of names to leave alone; wins over `only`.
    """
    return choose(((a.nice_name, [ip.ip for ip in a.ips]) for a in ifaddr.get_adapters()), only, skip)


def choose(
    adapters: Iterable[tuple[str, Sequence[object]]], only: Sequence[str], skip: Sequence[str]
) -> tuple[Interface, ...]:
    """As `interfaces`, of given (name, addresses as ifaddr gives them)."""
    found = []
    for name, raw in adapters:
        if only and not any(fnmatch.fnmatch(name, pattern) for pattern in only):
            continue
        if any(fnmatch.fnmatch(name, pattern) for pattern in skip):
            continue
        # ifaddr gives IPv4 as text and IPv6 as (text, flow, scope).
        parsed = [ipaddress.ip_address(str(ip[0] if isinstance(ip, tuple) else ip)) for ip in raw]
        usable = [ip for ip in parsed if not (ip.is_loopback or ip.is_link_local or ip.is_unspecified)]
        if usable:
            found.append(Interface(name, tuple(str(ip) for ip in sorted(usable, key=lambda ip: (ip.version, ip)))))
    return tuple(sorted(found, key=lambda i: i.name))
