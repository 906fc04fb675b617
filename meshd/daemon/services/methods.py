"""The Open Inference Protocol's methods without a transport: gRPC and HTTP both call these, and only these.

Rule 1: a method decides nothing about routes; it checks, asks the data plane, and answers in the protocol's messages.
Rule 2: a request becomes tensors here and nowhere else; transports turn bytes into `InferRequest`, and `Answered` into bytes.
Rule 3: failures are raised (`RequestFailedError`, `InvalidError`, `DeniedError`); each transport has one table of statuses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from meshd.config import MS
from meshd.core.journey.frames import Code, Failure, Reason
from meshd.core.journey.route import find_route
from meshd.core.view import View
from meshd.daemon.services import served
from meshd.daemon.services.failures import of_invalid
from meshd.daemon.services.roles import Gate
from meshd.daemon.services.tensors import answer_outputs, bind_inputs, chosen_outputs
from meshd.dataplane.links import Signature
from meshd.dataplane.plane import DataPlane, RequestFailedError
from meshd.errors import DeniedError, InvalidError
from meshd.wire import oip
from meshd.wire.oip_request import InferRequest, Parameter
from meshd.wire.oip_response import OutputTensor

VERSION: Final = "1"
"""The only version of a deployment there is; generations replace each other."""

_EMPTY_FINAL: Final = "triton_enable_empty_final_response"
_NOT_HERE: Final = (
    "{}: not in a mesh: its nodes share no memory with a client and have no such settings;"
    " send tensors in the request, see meshctl for settings"
)

OnHangUp = Callable[[Callable[[], None]], object]
"""Is given what to call when the client goes away; returns False where it has gone already."""


@dataclass(frozen=True, slots=True)
class Desk:
    """All the services for clients work with."""

    plane: DataPlane
    gate: Gate
    version: str
    ready: Callable[[], bool]
    """Whether this node may be given requests (it is not draining or stopping)."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A ModelInferResponse before it is written."""

    model: str
    id: str
    outputs: list[OutputTensor]
    """Those asked for, in that order."""
    parameters: list[tuple[str, Parameter]]


class Methods:
    """One method for each of the protocol's that a mesh can have, by its name there. Thread-safe; calls block."""

    def __init__(self, desk: Desk) -> None:
        self._plane, self._desk = desk.plane, desk

    @property
    def view(self) -> View:
        """What this node knows of the mesh."""
        return self._plane.view()

    # ------------------------------------------------------------ inference

    def infer(self, request: InferRequest, remaining_s: float | None, on_hang_up: OnHangUp) -> Answered:
        """Have the mesh compute; blocks until it is answered.

        Parameters
        ----------
        remaining_s : the transport's own deadline, from now; the parameter `timeout` may be sooner

        Raises
        ------
        RequestFailedError
        """
        plane, name = self._plane, request.model_name
        with plane.budget:
            signature = self.signature(name, request.model_version)
            try:
                deadline_us = _deadline_us(request, remaining_s)
                inputs, batch = bind_inputs(request, signature)
                chosen = chosen_outputs(request, signature)
            except InvalidError as error:
                raise RequestFailedError(of_invalid(error, name)) from error
        answer = plane.infer(name, inputs, batch, deadline_us, on_hang_up)
        says: list[tuple[str, Parameter]] = []
        if request.parameters.get(_EMPTY_FINAL) is True:
            says.append(("triton_final_response", True))
        if answer.spent.lost:
            says.append((oip.NODES_LOST, answer.spent.lost))
        return Answered(name, request.id, answer_outputs(signature, chosen, answer.raw, answer.batch), says)

    def signature(self, name: str, version: str) -> Signature:
        """What a deployment takes and gives. Raises RequestFailedError where it cannot be asked for anything."""
        if (signature := self._plane.signatures(name)) is not None and name in self.view.deployments:
            if version not in ("", VERSION):
                text = f"deployment {name!r} has no version {version!r}; leave it out, or ask for {VERSION!r}"
                raise RequestFailedError(Failure(Code.NOT_FOUND, Reason.UNKNOWN_MODEL, text, name))
            return signature
        route = find_route(self.view, name)
        if isinstance(route, Failure):
            raise RequestFailedError(route)
        text = f"deployment {name!r}: this node is still fetching the model's description; try again in a second"
        raise RequestFailedError(Failure(Code.UNAVAILABLE, Reason.NOT_SERVED, text, name, retry_after_us=1000 * MS))

    # ------------------------------------------------------------ what is served

    def ServerLive(self, request: Any) -> Any:
        return oip.message("inference.ServerLiveResponse")(live=True)

    def ServerReady(self, request: Any) -> Any:
        return oip.message("inference.ServerReadyResponse")(ready=self._desk.ready())

    def ModelReady(self, request: Any) -> Any:
        known = self.view.deployments.get(request.name)
        ready = known is not None and known.plan is not None and request.version in ("", VERSION)
        return oip.message("inference.ModelReadyResponse")(ready=ready)

    def ServerMetadata(self, request: Any) -> Any:
        extensions = ["model_repository", "model_configuration", "statistics", "binary_tensor_data"]
        return oip.message("inference.ServerMetadataResponse")(
            name="meshd", version=self._desk.version, extensions=extensions
        )

    def ModelMetadata(self, request: Any) -> Any:
        return served.metadata(request.name, VERSION, self.signature(request.name, request.version))

    def ModelConfig(self, request: Any) -> Any:
        return served.config(request.name, self.signature(request.name, request.version))

    def ModelStatistics(self, request: Any) -> Any:
        if request.name:
            self.signature(request.name, request.version)
        names = [request.name] if request.name else sorted(self.view.deployments)
        response = oip.message("inference.ModelStatisticsResponse")()
        response.model_stats.extend(served.statistics(n, VERSION, self._plane.statistics(n)) for n in names)
        return response

    def RepositoryIndex(self, request: Any) -> Any:
        return served.index(self.view, VERSION, request.ready)

    def RepositoryModelLoad(self, request: Any) -> Any:
        """A deployment is loaded for as long as it is deployed: nothing to do."""
        route = find_route(self.view, request.model_name)
        if isinstance(route, Failure):
            raise RequestFailedError(route)
        return oip.message("inference.RepositoryModelLoadResponse")()

    def RepositoryModelUnload(self, request: Any) -> Any:
        name = request.model_name
        raise DeniedError(
            f"{name!r} is deployed to the whole mesh, which is its operator's to end: meshctl retire {name}"
        )


def not_here(name: str) -> RequestFailedError:
    """What a method of the protocol that a mesh cannot have ends with."""
    return RequestFailedError(Failure(Code.UNIMPLEMENTED, Reason.NOT_SUPPORTED, _NOT_HERE.format(name)))


def _deadline_us(request: InferRequest, remaining_s: float | None) -> int:
    """The sooner of the transport's deadline and the `timeout` parameter; 0 for none."""
    for name in ("sequence_id", "sequence_start", "sequence_end"):
        if request.parameters.get(name):
            raise InvalidError(
                f"parameter {name!r}: models keep no state between requests; pass state as inputs and outputs"
            )
    times = [] if remaining_s is None else [max(1, int(remaining_s * 1_000_000))]
    timeout = request.parameters.get("timeout")
    if isinstance(timeout, int) and not isinstance(timeout, bool) and timeout > 0:
        times.append(timeout)
    return min(times, default=0)
