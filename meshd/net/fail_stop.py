"""What a bug on one of this process's own threads does: it ends the process, and systemd starts it again.

Rule 1: what a peer sends may close that peer's link, never more: it is refused and counted before it can be called a bug.
Rule 2: no thread dies alone. A link without its reader looks up and hears nothing, a pool with a thread less is slow; requests
would wait for their deadlines and nobody would know why. The mesh mends the loss of a process in milliseconds.

Source: Schlichting and Schneider, "Fail-stop processors", 1983.
"""

import logging
import os
import threading
from collections.abc import Callable

from meshd.errors import Exit

log = logging.getLogger(__name__)

OnBug = Callable[[BaseException], None]


def end_process(error: BaseException) -> None:
    """End the process because of a bug on one of its threads: told in full on the log, then at once.

    NB not by raising: only the main thread's exceptions end a process, and it may be anywhere.
    """
    log.critical("a bug on thread %s: this process ends", threading.current_thread().name, exc_info=error)
    logging.shutdown()
    os._exit(Exit.FAILURE)


def watched(run: Callable[..., None], on_bug: OnBug) -> Callable[..., None]:
    """`run` as a thread's target: whatever it raises is told to `on_bug`."""

    def target(*arguments: object) -> None:
        try:
            run(*arguments)
        except BaseException as error:  # noqa: BLE001  A bug, whatever it is: rule 2.
            on_bug(error)

    return target
