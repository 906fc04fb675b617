"""What each deployment's model takes and gives, for whoever wants to send a request in here.

Any node may be an entry, so a topology (small) is fetched for every deployment, weights only by those who hold.

Rule 1: a look-up never waits: until the topology is here the answer is None ("not known yet").
Rule 2: a topology that could not be fetched is tried again after `AGAIN_S`, for as long as it is deployed.
"""

import logging
import time
from collections.abc import Callable

from meshd.core.ids import Digest
from meshd.core.view import View
from meshd.daemon.library import Library
from meshd.dataplane.links import Signature
from meshd.errors import MeshdError

log = logging.getLogger(__name__)

AGAIN_S = 0.4


class SignatureBook:
    """Signatures by deployment.

    Parameters
    ----------
    fetch : has the holder's thread fetch a model's topology, then calls back there
    """

    def __init__(self, library: Library, fetch: Callable[[Digest, Callable[[], None]], None]) -> None:
        self._library, self._fetch = library, fetch
        self._signatures: dict[Digest, Signature] = {}
        self._models: dict[str, Digest] = {}
        self._asked_s: dict[Digest, float] = {}

    def update(self, view: View) -> None:
        """Take in a view, new or not (now and then, to try again); on the driver's thread, so quick."""
        self._models = {name: served.model for name, served in view.deployments.items()}
        now_s = time.monotonic()
        live = set(self._models.values())
        for model in live - self._signatures.keys():
            if now_s - self._asked_s.get(model, -AGAIN_S) >= AGAIN_S:
                self._asked_s[model] = now_s
                self._fetch(model, lambda model=model: self._learn(model))  # type: ignore[misc]
        for gone in (self._signatures.keys() | self._asked_s.keys()) - live:
            self._signatures.pop(gone, None)
            self._asked_s.pop(gone, None)

    def _learn(self, model: Digest) -> None:
        try:
            graph = self._library.entry(model).graph
        except MeshdError as error:
            log.debug("signature of %s: %s", model[:12], error)
            return
        self._signatures[model] = Signature(graph.inputs, graph.outputs, 0 if graph.batched else 1)

    def signature(self, deployment: str) -> Signature | None:
        """See `dataplane.links.Signatures`."""
        model = self._models.get(deployment)
        return None if model is None else self._signatures.get(model)
