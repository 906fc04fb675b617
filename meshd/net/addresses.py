"""Socket addresses, and one port number for both UDP gossip and TCP links.

Rule 1: `Address.host` is numeric where it comes from here; IPv4 mapped into IPv6 is written as IPv4.
Rule 2: without a bind address both families are heard by one socket, where the machine has IPv6.
"""

import ipaddress
import socket
from typing import Any

from meshd.core.ids import Address
from meshd.errors import UnavailableError

_PICK_TRIES = 16
_BACKLOG = 64
_GOSSIP_BUFFER_BYTES = 1 << 20
"""A sync storm of 10,000 members' rumours must not overflow while a step runs."""


def bind_ports(host: str = "", port: int = 0) -> tuple[socket.socket, socket.socket, int]:
    """Bind UDP and TCP to one port number: (UDP, listening TCP, port). Both do not block.

    Parameters
    ----------
    host : address to bind; empty for all interfaces, IPv4 and IPv6.
    port : 0 picks a free one.

    Raises
    ------
    UnavailableError
        The port is taken, or the address is not this machine's.
    """
    tries = _PICK_TRIES if port == 0 else 1
    while True:
        udp = tcp = None
        tries -= 1
        try:
            family = _family(host)
            udp = _socket(family, socket.SOCK_DGRAM)
            udp.bind((host, port))
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _GOSSIP_BUFFER_BYTES)
            number = int(udp.getsockname()[1])
            tcp = listen_tcp(host, number)
            return udp, tcp, number
        except OSError as error:
            for opened in (udp, tcp):
                if opened is not None:
                    opened.close()
            if tries == 0:
                where = f"{host or 'all interfaces'}, port {port}"
                raise UnavailableError(f"could not listen on {where} (UDP and TCP): {error.strerror}") from error


def listen_tcp(host: str, port: int) -> socket.socket:
    """A listening TCP socket that does not block; `host` and `port` as for `bind_ports`. Raises OSError."""
    opened = _socket(_family(host), socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(_BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def sockaddr(address: Address, family: int) -> Any:
    """What the socket calls of `family` take for `address`.

    Raises
    ------
    ValueError
        The host is not numeric, or is IPv6 and the socket is not.
    """
    ip = ipaddress.ip_address(address.host)
    if family == socket.AF_INET6 and ip.version == 4:
        return (f"::ffff:{ip}", address.port)
    if family == socket.AF_INET and ip.version == 6:
        raise ValueError(f"{address}: this node's socket is IPv4 only")
    return (str(ip), address.port)


def address_of(sender: Any) -> Address:
    """The address of what `recvfrom`, `accept` or `getpeername` returned."""
    host = str(sender[0])
    return Address(host.removeprefix("::ffff:") if "." in host else host, int(sender[1]))


def _family(host: str) -> int:
    if host:
        return socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET


def _socket(family: int, kind: int) -> socket.socket:
    opened = socket.socket(family, kind)
    opened.setblocking(False)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return opened
