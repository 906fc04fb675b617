"""The recipes' own parts: data that is refused, training that resumes, and the cost they claim."""

import gzip
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="NOT TESTED: needs PyTorch: pip install 'meshd[train]'")

from meshd.compress.recipes import activity, fashion  # noqa: E402
from meshd.compress.recipes.fit import Training, fit, settle_statistics  # noqa: E402


def test_a_run_that_was_interrupted_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    x, y = torch.arange(64.0).view(32, 2) / 64, torch.arange(32) % 2
    training = Training(epochs=4, batch=8, rate=0.01, decay=0.01, seed=3)

    class StoppedError(Exception):
        pass

    def stop_late(step: int) -> None:
        if step == 11:
            raise StoppedError

    def run(name: str, after_step: object) -> torch.nn.Module:
        torch.manual_seed(1)
        model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        fit(
            model,
            x,
            y,
            training,
            lambda m, a, b: torch.nn.functional.cross_entropy(m(a), b),
            checkpoint=tmp_path / name,
            augment=lambda batch, random: batch + 0.1 * torch.randn(batch.shape, generator=random),
            after_step=after_step,
            after_epoch=lambda line: None,
        )
        return model

    whole = run("whole.pt", lambda step: None)
    with pytest.raises(StoppedError):
        run("resumed.pt", stop_late)
    resumed = run("resumed.pt", lambda step: None)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_settled_statistics_are_those_of_the_data() -> None:
    torch.manual_seed(1)
    norm = torch.nn.BatchNorm2d(3)
    x = torch.randn(40, 3, 4, 4) * 5 + 2
    settle_statistics(torch.nn.Sequential(norm), [x[:20], x[20:]])
    assert torch.allclose(norm.running_mean, x.mean(dim=(0, 2, 3)), atol=1e-5)


def test_a_missing_data_set_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="install Debian's dataset-fashion-mnist"):
        fashion.read_set(tmp_path, "train")


def test_a_file_that_is_not_idx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.gz").write_bytes(gzip.compress(b"\0\0\x0d\x01" + bytes(8)))
    with pytest.raises(ValueError, match="not an IDX file of unsigned bytes"):
        fashion.read_idx(tmp_path, "labels")


def test_an_idx_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x05" + bytes(4)))
    with pytest.raises(ValueError, match="holds 4 values, not 5"):
        fashion.read_idx(tmp_path, "labels")


def test_an_idx_file_is_read_in_its_shape(tmp_path: Path) -> None:
    (tmp_path / "images.gz").write_bytes(gzip.compress(b"\0\0\x08\x02\0\0\0\x02\0\0\0\x03" + bytes(range(6))))
    assert fashion.read_idx(tmp_path, "images").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_images_are_moved_by_two_pixels_at_most_and_half_of_them_mirrored() -> None:
    image = torch.zeros(28, 28, dtype=torch.uint8)
    image[10, 8] = 255
    varied = fashion.shift_and_mirror(image.expand(200, 28, 28), torch.Generator().manual_seed(1))
    assert varied.sum().item() == 200
    rows, columns = (set(axis.tolist()) for axis in torch.nonzero(varied[:, 0], as_tuple=True)[1:])
    assert rows == {8, 9, 10, 11, 12}
    assert columns == {6, 7, 8, 9, 10} | {17, 18, 19, 20, 21}


def test_the_student_takes_the_teachers_weights_by_name() -> None:
    teacher, student = fashion.network(binary=False), fashion.network(binary=True)
    assert student.load_state_dict(teacher.state_dict())
    assert isinstance(student.get_submodule("binary1"), fashion.BinaryConv2d)
    assert not isinstance(teacher.get_submodule("binary1"), fashion.BinaryConv2d)


def test_a_pickle_that_is_not_the_known_one_is_never_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "watch_dataset.npy"
    np.save(path, np.array({"X": []}, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"take it from seglearn==1\.2\.5"):
        activity.read_windows(path)


def test_the_activity_networks_cost_counts_weights_that_are_not_zero_at_every_position() -> None:
    model = activity.network()
    dense = 16 * 6 * 9 * 64 + 64 * 16 * 9 * 32 + 64 * 64 * 9 * 16 + 128 * 64 * 9 * 16 + 128 * 7
    assert activity.multiplications(model) == dense
    with torch.no_grad():
        model.get_submodule("time4").weight[4:] = 0
    assert activity.multiplications(model) == dense - 124 * 64 * 9 * 16
