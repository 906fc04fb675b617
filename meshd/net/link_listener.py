"""The one TCP port: the first byte, in the clear, says which kind of link it is; then TLS. (Interface; being filled.)"""

import socket

import trio

from meshd.net.link_bulk import BulkLinks
from meshd.net.link_control import ControlLinks
from meshd.net.link_data import DataLinks


async def serve_links(
    listener: socket.socket,
    control: ControlLinks,
    data: DataLinks,
    bulk: BulkLinks,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept on `listener` (see `addresses.bind_ports`) and hand each connection to its kind, until cancelled."""
    raise NotImplementedError
