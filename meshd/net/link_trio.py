"""How a control connection begins, in trio: the kind byte, TLS, pinned both ways. The threads' twin is `link_greeting`."""

from collections.abc import Sequence
from typing import Any

import trio

from meshd.config import LINK_CONNECT_US, LINK_GREETING_US
from meshd.core.ids import Address, NodeId
from meshd.errors import DeniedError, MeshdError, UnavailableError
from meshd.net import tcp
from meshd.net.link_greeting import LinkKind
from meshd.net.tls import Roster


async def dial_stream(roster: Roster, peer: NodeId, addresses: Sequence[Address]) -> trio.SSLStream[trio.SocketStream]:
    """Connect to `peer` at the first address where it answers. Cancelled, it leaves nothing open.

    Raises
    ------
    DeniedError
        It is not on the roster.
    UnavailableError
        Nothing answers, or what answers is not `peer`; names each address and what was wrong there.
    """
    context = roster.dialler_context(peer)
    said = []
    for address in addresses:
        stream: Any = None
        try:
            with trio.fail_after(LINK_CONNECT_US / 1e6):
                stream = await trio.open_tcp_stream(address.host, address.port)
            tcp.tune(stream.socket)
            stream = trio.SSLStream(stream, context)
            with trio.fail_after(LINK_GREETING_US / 1e6):
                await stream.transport_stream.send_all(LinkKind.CONTROL.value)
                await stream.do_handshake()
            roster.check(stream.getpeercert(binary_form=True), peer)
            secured: trio.SSLStream[trio.SocketStream] = stream
            return secured
        except (OSError, trio.BrokenResourceError, trio.TooSlowError, DeniedError) as error:
            said.append(f"{address}: {error or type(error).__name__}")
            if stream is not None:
                await trio.aclose_forcefully(stream)
        except BaseException:
            if stream is not None:
                await trio.aclose_forcefully(stream)
            raise
    raise UnavailableError(f"cannot reach {peer}: {'; '.join(said) or 'no address is known'}")


async def welcome_stream(
    roster: Roster, accepted: trio.SocketStream
) -> tuple[trio.SSLStream[trio.SocketStream], NodeId]:
    """Shake hands on a connection that was accepted (its first byte is read). Closes it if that fails.

    Raises
    ------
    DeniedError
        The far end is nobody on the roster, or broke off.
    """
    stream = trio.SSLStream(accepted, roster.listener_context(), server_side=True)
    try:
        tcp.tune(accepted.socket)
        with trio.fail_after(LINK_GREETING_US / 1e6):
            await stream.do_handshake()
        return stream, roster.check(stream.getpeercert(binary_form=True))
    except (OSError, trio.BrokenResourceError, trio.TooSlowError, MeshdError) as error:
        await trio.aclose_forcefully(stream)
        raise DeniedError(f"refused a connection: {error.__cause__ or error or type(error).__name__}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
