"""sd_notify, without a dependency: datagrams to the socket systemd names; nothing at all elsewhere.

READY after identity, listeners and self-test; WATCHDOG only after a round trip through the driver, so that a stuck driver
is restarted; STOPPING when the drain begins.
"""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Tells the service manager. Cheap and never in the way: a manager that does not listen is ignored."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        usec = environ.get("WATCHDOG_USEC", "")
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(usec) / 2e6 if usec.isdigit() and int(usec) > 0 and mine else None
        """How often to send WATCHDOG=1: half of what systemd allows; None if it does not watch."""

    def tell(self, *lines: str) -> None:
        """Send state lines, such as `READY=1`, `STATUS=3 nodes`, in one datagram."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                manager.sendto("\n".join(lines).encode(), address)
        except OSError:
            return
