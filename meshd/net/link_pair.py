"""One peer's data link: the connection we dialled and write, the one the peer dialled and we read, and what pairs them.

    we                                    peer
    dial, Hello(number=a, heard=0)   →    reads it
    reads it                         ←    dials, Hello(number=b, heard=a)         we are up
    Hello(number=a, heard=b)         →    the peer is up

Rule 1: up = the peer's connection said that it hears ours. A Hello is queued before any frame that being up allows.
Rule 2: the end of one connection ends the other, if they were paired; one that was not paired yet is left alone (or
    two nodes that lost each other would end each other's new connections for ever).
Rule 3: `_lock` guards the fields; nothing that waits or calls back happens under it.
"""

import logging
import random
import secrets
import ssl
import threading
from typing import TYPE_CHECKING

from meshd.config import LINK_BACK_OFF_MAX_US, LINK_BACK_OFF_MIN_US, PROTOCOL_VERSION
from meshd.core.ids import Address, NodeId
from meshd.errors import InvalidError
from meshd.net import tcp
from meshd.net.fail_stop import watched
from meshd.net.link_writer import Measured, Writer
from meshd.wire.codec_frames import Echo, Hello, check_payload, decode_frame
from meshd.wire.frames import FrameReader

if TYPE_CHECKING:
    from meshd.net.link_data import DataLinks

log = logging.getLogger(__name__)


class LinkPair:
    """The link to `peer`."""

    def __init__(self, links: "DataLinks", peer: NodeId) -> None:
        self._links, self.peer = links, peer
        self.up = False
        self.writer: Writer | None = None
        self.measured = Measured()
        self._lock = threading.Lock()
        self._telling = threading.RLock()
        self._told = False
        self._kept = self._closed = False
        self._incoming: ssl.SSLSocket | None = None
        self._heard = 0
        """Number of the peer's connection that we read; 0 for none."""
        self._paired = False
        """The peer's connection said that it hears ours."""
        self._came_from: Address | None = None
        self._thread: threading.Thread | None = None
        self._dial_now = threading.Event()

    @property
    def idle(self) -> bool:
        """Nobody here wants it and the peer does not keep it."""
        return not self._kept and self._incoming is None and self._thread is None

    def keep(self) -> None:
        """Dial, and dial again, from now on."""
        with self._lock:
            self._kept = True
        self._dial_soon()

    def close(self) -> None:
        """End it for good."""
        with self._lock:
            self._closed, self._kept = True, False
            writer, incoming = self._take_apart()
        self._end(writer, incoming)
        self._dial_now.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the writer's thread."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def tell_again(self) -> None:
        """There is a new receiver; it believes that every link is down."""
        with self._telling:
            self._told = False
            self._settle()

    # ---------------------------------------------------------------- the peer's connection

    def read(self, connection: ssl.SSLSocket, reader: FrameReader, hello: Hello, came_from: Address) -> None:
        """Read the peer's connection until it ends, on this thread; closes it."""
        with self._lock:
            if self._closed:
                connection.close()
                return
            # A second connection: the peer lost the first one, whether we noticed or not.
            old = self._take_incoming()
            self._incoming, self._came_from = connection, came_from
        self._end(*old)
        try:
            self._hello(hello)
            while (frame := reader.read()) is not None:
                if self._incoming is not connection:
                    break  # Struck off or replaced: nothing of it counts any more.
                self._take(*frame)
        except OSError as error:
            log.debug("the connection of %s broke: %s", self.peer, error)
        except InvalidError as error:
            self._links.counts["refused_frame"] += 1
            log.warning("closed the link of %s: %s", self.peer, error)
        finally:
            with self._lock:
                gone = self._take_incoming() if self._incoming is connection else (None, None)
            self._end(*gone)
            tcp.shut(connection)
            connection.close()

    def _take(self, header: bytes, payload: memoryview) -> None:
        frame = decode_frame(header)
        check_payload(frame, len(payload))
        if isinstance(frame, Hello):
            self._hello(frame)
        elif isinstance(frame, Echo):
            writer = self.writer
            if writer is not None and frame.ask:
                writer.send(Echo(frame.number, False))
            elif writer is not None:
                writer.echoed(frame.number)
        else:
            self._links.deliver(self.peer, frame, payload)

    def _hello(self, hello: Hello) -> None:
        with self._lock:
            news = self._heard != hello.number
            self._heard = hello.number
            writer = self.writer
            self._paired = writer is not None and hello.heard == writer.number
            paired = self._paired
        if writer is not None and news:
            self._greet(writer)
        if writer is not None and paired:
            writer.start_echoes()
        self._settle()
        self._dial_soon()

    # ---------------------------------------------------------------- our connection

    def _greet(self, writer: Writer) -> None:
        writer.send(Hello(PROTOCOL_VERSION, self._links.boot, self._links.port, writer.number, self._heard))

    def _dial_soon(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._dial_now.set()
            if self._thread is None:
                target = watched(self._write, self._links.on_bug)
                self._thread = threading.Thread(target=target, name=f"link-write-{self.peer[:6]}", daemon=True)
                self._thread.start()

    def _write(self) -> None:
        """Dial, write until the connection ends, again: the writer's thread."""
        back_off_us = 0
        while self._wanted():
            self._dial_now.clear()
            writer = self._dial()
            if writer is not None:
                writer.run()
                with self._lock:
                    gone = self._take_apart() if self.writer is writer and self._paired else (None, None)
                    if self.writer is writer:
                        self.writer = None
                self._end(*gone)
                if writer.stood:
                    back_off_us = 0
            if back_off_us:
                self._dial_now.wait(back_off_us * random.uniform(0.5, 1.0) / 1e6)
            back_off_us = min(max(LINK_BACK_OFF_MIN_US, 2 * back_off_us), LINK_BACK_OFF_MAX_US)

    def _wanted(self) -> bool:
        with self._lock:
            wanted = not self._closed and (self._kept or self._incoming is not None)
            if not wanted:
                self._thread = None
            return wanted

    def _dial(self) -> Writer | None:
        connection = self._links.dial(self.peer, self._came_from)
        if connection is None:
            return None
        writer = Writer(connection, secrets.randbits(63) + 1, self.measured)
        with self._lock:
            if not self._closed:
                self.writer, self._paired = writer, False
        if self.writer is not writer:
            connection.close()
            return None
        self._greet(writer)
        return writer

    # ---------------------------------------------------------------- both

    def _take_incoming(self) -> tuple[Writer | None, ssl.SSLSocket | None]:
        """Let go of the peer's connection, and of ours if they were paired. Under the lock."""
        if self._paired:
            return self._take_apart()
        incoming, self._incoming, self._heard = self._incoming, None, 0
        return None, incoming

    def _take_apart(self) -> tuple[Writer | None, ssl.SSLSocket | None]:
        """Let go of both. Under the lock."""
        gone = self.writer, self._incoming
        self.writer = self._incoming = None
        self._heard, self._paired = 0, False
        return gone

    def _end(self, writer: Writer | None, incoming: ssl.SSLSocket | None) -> None:
        """Shut what was let go of: the threads in it find the end, and close it."""
        if incoming is not None:
            tcp.shut(incoming)
        if writer is not None:
            writer.shut()
        self._settle()

    def _settle(self) -> None:
        """Work out whether the link is up, and tell if that changed."""
        with self._telling:
            with self._lock:
                up = self.up = self.writer is not None and self._incoming is not None and self._paired
            if up != self._told:
                self._told = up
                self._links.changed(self.peer, up)
