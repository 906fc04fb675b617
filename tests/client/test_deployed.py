"""`client.deploy` where there is no mesh: a module or a file becomes a callable on this machine, and it is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshd import client
from meshd.errors import MisuseError, UnavailableError
from tests.client.doubling import write


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No daemon of this machine is found."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "MESHD_STATE_DIR", "MESHD_SOCKET"):
        monkeypatch.delenv(name, raising=False)


def test_a_module_is_called_like_itself_here_and_keeps_its_mode() -> None:
    torch = pytest.importorskip("torch", reason="NOT TESTED: needs PyTorch: pip install 'meshd[train]'")

    class Two(torch.nn.Module):  # type: ignore[name-defined, misc]
        """Two inputs, two outputs."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8, 4)
            self.drop = torch.nn.Dropout(0.5)

        def forward(self, left: Any, right: Any) -> Any:
            mixed = self.drop(torch.relu(self.layer(left)))
            return mixed + right, mixed

    torch.manual_seed(1)
    module = Two()
    with pytest.warns(UserWarning, match="two runs on this machine alone: no daemon here"):
        deployed = client.deploy(module, (torch.zeros(1, 8), torch.zeros(1, 4)))
    assert (deployed.on_mesh, deployed.name, deployed.inputs) == (False, "two", ("left", "right"))
    assert module.training
    left, right = torch.randn(3, 8), torch.randn(3, 4)
    module.eval()
    with torch.no_grad():
        wanted = module(left, right)
    with deployed:
        got = deployed(left, right)
        named = deployed(right=right.numpy(), left=left.double().numpy())
        with pytest.raises(MisuseError, match="takes left, right"):
            deployed(left)
    assert isinstance(got[0], torch.Tensor)
    assert isinstance(named[0], np.ndarray)
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert np.array_equal(named[1], got[1].numpy())


def test_a_file_is_deployed_without_an_example(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="double runs on this machine"):
        deployed = client.deploy(write(tmp_path / "a.onnx"), name="double")
    assert np.array_equal(deployed(np.ones((3, 8))), np.full((3, 8), 2, np.float32))


def test_what_cannot_be_deployed_is_said(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="expected an ONNX file"):
        client.deploy("model.pt")
    torch = pytest.importorskip("torch", reason="NOT TESTED: needs PyTorch: pip install 'meshd[train]'")
    with pytest.raises(MisuseError, match="needs an example"):
        client.deploy(torch.nn.Linear(2, 2))
    with pytest.raises(MisuseError, match=r"expected a torch\.nn\.Module"):
        client.deploy(object(), np.zeros(1))
    with pytest.raises(UnavailableError, match="no daemon here"):
        client.deploy(torch.nn.Linear(2, 2), torch.zeros(1, 2), socket=str(tmp_path / "none.sock"))
