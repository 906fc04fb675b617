"""Block pruning: the schedule, the masks, and that they hold."""

import pytest

torch = pytest.importorskip("torch", reason="NOT TESTED: needs PyTorch: pip install 'meshd[train]'")

from meshd.compress.torch.prune import BlockPruner, block_mask, sparsity_at  # noqa: E402


@pytest.mark.parametrize(
    ("step", "wanted"), [(0, 0.0), (100, 0.0), (150, 0.7875), (175, 0.8859375), (200, 0.9), (900, 0.9)]
)
def test_sparsity_follows_the_cubic_schedule(step: int, wanted: float) -> None:
    assert sparsity_at(step, 100, 200, 0.9) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(("last", "target"), [(100, 0.9), (200, 1.0), (200, -0.1)])
def test_a_schedule_that_cannot_be_is_refused(last: int, target: float) -> None:
    with pytest.raises(ValueError, match=r"pruning ends|sparsity target"):
        sparsity_at(0, 100, last, target)


def test_four_output_channels_share_their_positions() -> None:
    torch.manual_seed(5)
    mask = block_mask(torch.randn(8, 6, 3, 3), 0.9)
    blocks = mask.reshape(2, 4, -1)
    assert torch.equal(blocks, blocks[:, :1].expand_as(blocks))
    assert mask.float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_the_blocks_with_the_most_energy_are_kept() -> None:
    weight = torch.zeros(8, 3)
    weight[0:4, 1] = 0.6  # Energy 1.44, spread over the block.
    weight[5, 2] = 1.1  # Energy 1.21 in one channel.
    weight[4:8, 0] = 0.5  # Energy 1.
    kept = block_mask(weight, 1 - 2 / 6)
    assert kept[::4].tolist() == [[False, True, False], [False, False, True]]


def test_channels_that_do_not_fill_their_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="6 output channels are not a multiple of the block of 4"):
        block_mask(torch.ones(6, 2), 0.5)


def test_a_pruned_weight_stays_zero_while_the_optimiser_works_on() -> None:
    torch.manual_seed(5)
    layer = torch.nn.Linear(16, 8)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.1)
    pruner = BlockPruner({"layer": layer}, 0.75, first=0, last=10, every=5)
    for step in range(1, 31):
        optimiser.zero_grad()
        (layer(torch.randn(4, 16)) ** 2).sum().backward()
        optimiser.step()
        pruner.hold(step)
        if step == 10:
            zeros = layer.weight == 0
    assert zeros.float().mean().item() == 0.75
    assert torch.equal(layer.weight == 0, zeros)


def test_a_run_that_resumes_goes_on_with_the_masks_it_had() -> None:
    torch.manual_seed(5)
    layer, resumed = torch.nn.Linear(16, 8), torch.nn.Linear(16, 8)
    BlockPruner({"layer": layer}, 0.75, first=0, last=10).hold(10)
    pruner = BlockPruner({"layer": resumed}, 0.75, first=0, last=10)
    resumed.load_state_dict(layer.state_dict())
    with torch.no_grad():
        resumed.weight += 1.0
    pruner.hold(11)
    assert torch.equal(resumed.weight == 0, layer.weight == 0)


def test_a_layer_that_cannot_be_pruned_is_named() -> None:
    with pytest.raises(ValueError, match="layer norm is a BatchNorm2d"):
        BlockPruner({"norm": torch.nn.BatchNorm2d(4)}, 0.5, first=0, last=1)
