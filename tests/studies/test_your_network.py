"""Chapter 6: small networks and layers, each against what must be so."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from paperlib.studies import your_network as studies


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(32, 3, 16, 16, generator=generator), torch.randint(10, (32,), generator=generator)


def convolutions(model):
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def test_the_plain_network_has_so_many_layers_and_no_other_weights():
    model = studies.plain_network(depth=6, width=4)
    assert [tuple(c.weight.shape[:2]) for c in convolutions(model)] == [(4, 3), (4, 4), (4, 4), (8, 4), (8, 8), (8, 8)]
    assert [c.stride[0] for c in convolutions(model)] == [2, 1, 1, 2, 1, 1]
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


def test_each_level_of_the_u_net_reaches_its_output():
    torch.manual_seed(0)
    model = studies.UNet(4)
    model(torch.randn(1, 3, 16, 16)).square().sum().backward()
    assert all(c.weight.grad.abs().max() > 0 for c in convolutions(model))


@pytest.mark.parametrize("kind", studies.KINDS)
def test_train_watches_the_first_step_and_the_last_ones(kind, batch):
    layers, losses = studies.train(kind, *batch, seed=0, steps=12, batch=8)
    assert losses.step.tolist() == list(range(1, 13)) and np.isfinite(losses.loss).all()
    assert layers.groupby("when").layer.apply(list).to_dict() == {"before": [*range(1, 11)], "after": [*range(1, 11)]}
    assert np.isfinite(layers.log_ratio).all()
    assert (layers[layers.when == "before"].log_ratio.abs().max() > 0.5) == (kind == studies.KINDS[0])
    again, _ = studies.train(kind, *batch, seed=0, steps=11, batch=8)
    before = [table[table.when == "before"].log_ratio.tolist() for table in (layers, again)]
    assert before[0] == before[1]


def test_train_refuses_an_unknown_kind(batch):
    with pytest.raises(ValueError, match="kind 'freed' is unknown"):
        studies.train("freed", *batch, seed=0)


def test_each_kind_sees_the_same_batches(batch, monkeypatch):
    seen, loss = [], studies.F.cross_entropy
    monkeypatch.setattr(studies.F, "cross_entropy", lambda out, labels: (seen.append(labels), loss(out, labels))[1])
    for kind in studies.KINDS:
        studies.train(kind, *batch, seed=1, steps=11, batch=4)
    runs = [torch.cat(seen[i : i + 11]) for i in range(0, 44, 11)]
    assert all(torch.equal(run, runs[0]) for run in runs)


def test_the_summary_is_over_seeds():
    layers = pd.DataFrame(
        {"kind": "held", "seed": s, "when": w, "layer": i, "log_ratio": sign * np.log(2.0 + s)}
        for s in (0, 2)
        for w in ("before", "after")
        for i, sign in ((1, 1), (2, -1))
    )  # fmt: skip
    losses = pd.DataFrame({"kind": "held", "seed": s, "step": t, "loss": t + s} for s in (0, 2) for t in range(1, 21))
    (row,) = studies.summary(layers, losses).itertuples()
    assert (row.off_before, row.off_after) == pytest.approx((3, 3))  # factors of 2 and 4, whichever way
    assert row.off_before_sd == pytest.approx(np.std([2, 4], ddof=1))
    assert (row.loss, row.loss_sd) == pytest.approx((16.5, np.sqrt(2)))


def test_a_normalisation_cancels_the_scale_and_nothing_else_does(batch):
    table = studies.ratios_by_scale(*batch, [0.5, 1, 2]).pivot(index="behind", columns="scale", values="ratio")
    for behind, ratios in table.iterrows():
        same = ratios.max() / ratios.min() < 1.001
        assert same == (behind == "a batch normalisation"), behind
    assert table.loc["nothing", 0.5] == pytest.approx(2 * table.loc["nothing", 1], rel=0.05)


def test_with_a_normalisation_the_ratio_follows_the_size_of_the_block_s_input(batch):
    """Half as large an input, half as large a standard deviation to divide by, half the ratio."""
    model, block, _ = studies._with_block("a batch normalisation", 1.0, 16, seed=0)
    ratios = []
    for _ in range(2):
        with studies.GradientNorms(model, [block]) as probe:
            studies.F.cross_entropy(model(batch[0]), batch[1]).backward()
        ratios.append(probe.ratios().item())
        with torch.no_grad():
            model[0][0].weight.mul_(0.5)
    assert ratios[1] / ratios[0] == pytest.approx(0.5, rel=0.01)


@pytest.fixture
def exactly(monkeypatch):
    """float64, and nearly nothing added to a variance before it divides: that number alone knows the scale."""
    monkeypatch.setattr(nn, "BatchNorm2d", functools.partial(nn.BatchNorm2d, eps=1e-14))
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def trainings(behind, rate, batch):
    """A training at three scales: by scale, the columns over the steps."""
    runs = [studies.trained_at_scale(behind, s, batch[0].double(), batch[1], rate, steps=6) for s in (0.5, 1, 2)]
    return pd.concat(runs).pivot(index="step", columns="scale", values=["loss", "ratio", "gradient"])


@pytest.mark.usefixtures("exactly")
def test_behind_a_normalisation_the_scale_is_a_learning_rate(batch):
    """Scale s trains as scale 1 does with a learning rate divided by s², in every step and to rounding."""
    same, squared = (trainings("a batch normalisation", rate, batch) for rate in studies.RATES)
    first = same.loc[1]
    assert np.ptp(first.loss) < 1e-10 and np.ptp(first.ratio) < 1e-8
    assert first.gradient.to_numpy() == pytest.approx(first.gradient[1] / first.gradient.index, rel=1e-8)
    assert np.ptp(squared.loss, axis=1).max() < 1e-9 < 1e-3 < np.ptp(same.loss, axis=1).iloc[-1]


@pytest.mark.usefixtures("exactly")
def test_without_a_normalisation_no_learning_rate_replaces_the_scale(batch):
    for rate in studies.RATES:
        table = trainings("nothing", rate, batch)
        assert np.ptp(table.loss, axis=1).min() > 1e-3 and (np.ptp(table.ratio, axis=1) > 1).all()


@pytest.mark.usefixtures("exactly")
def test_a_normalisation_by_stored_averages_does_not_cancel_a_later_change_of_scale(batch):
    """In eval mode the averages stay: what was learned with them is cancelled, what is multiplied afterwards is not."""
    losses = []
    for scale, later in ((1, 1), (2, 1), (1, 2)):
        model, block, _ = studies._with_block("a batch normalisation", scale, 16, seed=0)
        block[1].momentum = None  # the averages are those of the one batch
        model(batch[0].double())
        with torch.no_grad():
            block[0].weight.mul_(later)
            losses.append(studies.F.cross_entropy(model.eval()(batch[0].double()), batch[1]).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-10) != losses[2]
    assert abs(losses[2] - losses[0]) > 1e-3


def test_the_summary_of_the_trainings_has_their_first_step_and_their_last_ones(batch):
    runs = studies.trained_by_scale(*batch, [1, 2], steps=11)
    table = studies.trained_summary(runs)
    assert len(runs) == 6 * 11 and table.index.names == ["behind", "rate", "scale"] and len(table) == 6
    (one,) = (rows for key, rows in runs.groupby(["behind", "rate", "scale"]) if key == ("nothing", "as for all", 2))
    found = table.loc["nothing", "as for all", 2]
    assert (found.first_loss, found.gradient) == (one.loss.iloc[0], one.gradient.iloc[0])
    assert (found.loss, found.ratio) == pytest.approx((one.loss[1:].mean(), one.ratio[1:].mean()))


def test_orthogonal_kernels_are_exact_where_projected_ones_are_not():
    table = studies.square_kernels([(8, 8, 3, 1)]).set_index("treatment")
    assert abs(table.loc["orthogonal", ["lowest", "highest"]] - 1).max() < 1e-10
    assert table.loc["50 projections", "lowest"] < 0.5


def test_exact_singular_values_are_those_of_a_known_map():
    """A convolution of one tap is one matrix at each pixel."""
    conv = nn.Conv2d(2, 3, 1).double()
    expected = torch.linalg.svdvals(conv.weight.detach().flatten(1)).repeat_interleave(9)
    assert torch.allclose(studies.exact_singular_values(conv, (2, 3, 3)), expected, rtol=1e-12)


def test_layers_agree_with_the_dense_decomposition_and_stay_below_the_bound():
    torch.manual_seed(0)
    layers = {
        "circular": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular").double(), (2, 6, 6)),
        "transposed": (nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1).double(), (2, 4, 4)),
        "linear": (nn.Linear(5, 4).double(), (5,)),
    }
    table = studies.beside_dense(layers)
    assert (table.difference < 1e-9).all() and (table.bound >= table.norm * (1 - 1e-9)).all()
    assert table["values"].tolist() == [72, 32, 4]


def made_up(gap):
    """Two layers and two seeds, and their summary; the held network's loss lies ``gap`` above He's start's."""
    off = dict(zip(studies.KINDS, (2.0, 1.2, 1.1, 1.05), strict=True))
    layers = pd.DataFrame(
        {"kind": kind, "seed": seed, "when": when, "layer": layer, "log_ratio": np.log(factor)}
        for kind, factor in off.items()
        for seed in (0, 1)
        for when in ("before", "after")
        for layer in (1, 2)
    )
    losses = pd.DataFrame(
        {"kind": kind, "seed": seed, "step": step, "loss": 2.0 + 0.1 * seed + gap * (kind == "held")}
        for kind in off
        for seed in (0, 1)
        for step in range(1, 13)
    )
    return layers, studies.summary(layers, losses)


def test_what_was_found_is_that_of_the_tables():
    layers, table = made_up(0.0)
    rows = [(behind, scale) for behind in studies.BEHIND for scale in (0.5, 2.0)]
    scaled = pd.DataFrame(rows, columns=["behind", "scale"]).assign(ratio=[2.0, 0.5, 0.4, 0.4, 0.7, 0.5])
    said = studies.found(layers, table, scaled)
    assert said.startswith("> **Found.**") and "by a factor of 2.0, and all 2 of them by about 4, if" in said
    assert (
        "From He's start it is 1.20 a layer, from the delta-orthogonal start of the held kernels 1.10, and with "
        "`orthogonal` kernels 1.05 (n = 2)." in said
    )
    assert (
        "a kernel 4 times as large does not change the ratio. Without the normalisation it divides the ratio by 4.0."
        in said
    )
    scaled.loc[2, "ratio"] = 0.42
    assert "as large divides the ratio by 1.05. Without" in studies.found(layers, table, scaled)


@pytest.mark.parametrize(
    ("gap", "words"),
    [(0.01, "differ by less than their standard deviations"), (-1.0, "the lower loss"), (1.0, "the higher loss")],
)
def test_losses_are_compared_by_their_spread(gap, words):
    layers, table = made_up(gap)
    said = studies.told(layers, table, 12)
    assert words in said and "after 12 steps the loss is 2.05" in said and "2 seeds and 12 steps decide nothing" in said
    shown = studies.written(table)
    assert shown.iloc[0].tolist() == ["2.00 ± 0.00", "2.00 ± 0.00", "2.05 ± 0.07"] and shown.index.name == "network"
