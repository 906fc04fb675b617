"""Everything on the client server: inference, health, reflection."""

from collections.abc import Callable

import grpc

from meshd.daemon.services.health import add_health
from meshd.daemon.services.inference import add_inference
from meshd.daemon.services.methods import Desk
from meshd.daemon.services.reflection import add_reflection


def add_client_services(server: grpc.Server, desk: Desk) -> Callable[[], None]:
    """Serve clients on `server`, which has `inference.THREADS` threads; returns what ends the services' own threads."""
    inference = add_inference(server, desk)
    health = add_health(server, desk)
    add_reflection(server, desk.gate)

    def close() -> None:
        health.close()
        inference.close()

    return close
