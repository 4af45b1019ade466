"""The ratios before the first update beside their predictions."""

import math

import numpy as np
import pandas as pd
import pytest
import tiny

from paperlib import mean_field
from paperlib.config import RunConfig
from paperlib.models import build
from paperlib.studies import beginning, section4

Q = 3.0


def record(**parameters):
    """A record of the first ratios, whose blocks all have the input variance ``Q`` and the ratio 1."""
    made = tiny.record()
    made.config = RunConfig(**{"preset": "smoke", "depth": 29, "precision": "float32"} | parameters).resolve()
    blocks = build(made.config.arch, made.config.depth).blocks
    rows = [
        {"block": i, "name": b.name, "kind": b.kind, "variance": Q, "log_ratio": 0.0} for i, b in enumerate(blocks, 1)
    ]
    made.frames["initial"] = pd.DataFrame(rows)
    return made


def predictions(**parameters):
    table = beginning.beginnings([record(**parameters)])
    return table.set_index("name")[["prediction", "unmeasured"]]


def test_a_resnet_s_predictions():
    table = predictions(arch="resnet")
    rho = mean_field.RHO
    identity = math.log((1 + rho**2 / (4 * Q)) ** -0.5)
    assert table.prediction["stage2_block3"] == pytest.approx(identity)
    assert table.prediction["stage1_block1"] == pytest.approx(math.log(math.sqrt(4 * Q / (rho**2 + 1))))
    assert table.prediction["stage3_block1"] == pytest.approx(math.log(math.sqrt(4 * Q / (rho**2 + 2))))
    assert math.isnan(table.unmeasured["stage1_block1"])
    # Behind the first transition the variance is 2/(4ρ), behind the others 3/(4ρ); each block adds 1/(4ρ).
    for name, k in (("stage1_block2", 2), ("stage1_block3", 3), ("stage2_block2", 3), ("stage3_block3", 4)):
        assert table.unmeasured[name] == pytest.approx(math.log((1 + rho**3 / k) ** -0.5))
    assert table.unmeasured["stage2_block1"] == pytest.approx(math.log(math.sqrt(4 / rho / (rho**2 + 2))))
    assert table.unmeasured["stage3_block1"] == pytest.approx(math.log(math.sqrt(5 / rho / (rho**2 + 2))))


def test_a_plain_network_s_predictions():
    table = predictions(arch="plain")
    assert np.allclose(table.prediction, math.log(2 * math.sqrt(Q) / mean_field.RHO))
    assert math.isnan(table.unmeasured.iloc[0])
    assert np.allclose(table.unmeasured.iloc[1:], math.log(mean_field.PLAIN))


def test_a_procresnet_s_predictions():
    held = predictions(arch="procresnet")
    assert held.prediction[["transition1", "transition2", "transition3"]].tolist() == [0, 0, 0]
    variance = 1 + 3 / (4 * mean_field.RHO)  # the image, and the three blocks of the first stage
    assert held.unmeasured["stage2_block1"] == pytest.approx(math.log(mean_field.ratio(variance)))


@pytest.mark.parametrize("how", [{"project": False}, {"projector": "published"}])
def test_free_transitions_begin_at_he_s_start(how):
    free = predictions(arch="procresnet", **how).prediction
    # 2c/d for 3 → 64, 64 → 128 and 128 → 256
    assert free[["transition1", "transition2", "transition3"]].tolist() == pytest.approx(
        [math.log(math.sqrt(64 / 6)), 0, 0]
    )


def test_transitions_held_elsewhere_begin_there():
    table = predictions(arch="procresnet", hold_at=2.0)
    assert table.prediction["transition2"] == pytest.approx(-math.log(2))
    assert table.unmeasured["stage1_block1"] == pytest.approx(math.log(mean_field.ratio(4.0)))


def test_the_theory_is_that_of_three_relus():
    assert predictions(arch="resnet", erase_relu=True).isna().all(axis=None)


def test_older_records_have_no_beginning():
    assert beginning.beginnings([tiny.record()]).empty
    assert beginning.accuracy(beginning.beginnings([])).empty


def test_accuracy_tells_the_groups_of_blocks_apart():
    table = beginning.accuracy(beginning.beginnings([record(arch="resnet"), record(arch="resnet", seed=1)]))
    assert table.blocks.tolist() == ["first transition", "residual", "later transitions"]
    assert table.runs.tolist() == [2, 2, 2]
    assert table.measured.tolist() == [1, 1, 1]
    expected = [mean_field.transition(Q, 1), mean_field.ratio(Q), mean_field.transition(Q, 2)]
    assert table.predicted.tolist() == pytest.approx(expected)
    assert table.off.tolist() == pytest.approx([abs(math.log(e)) for e in expected])
    assert math.isnan(table.off_unmeasured[0])


def test_the_stem_wants_the_harmonic_mean():
    table = beginning.stems(range(2))
    assert (table.harmonic < table.arithmetic).all()
    off = {name: np.log(table.measured / table[name]).abs().mean() for name in ("by_arithmetic", "by_harmonic")}
    assert off["by_harmonic"] < 0.2 < off["by_arithmetic"]
    pd.testing.assert_frame_equal(table, beginning.stems(range(2)))


def test_the_stem_of_a_plain_network_wants_it_too():
    table = beginning.stems(range(5), arch="plain")[["measured", "by_arithmetic", "by_harmonic"]].mean()
    off = {name: abs(math.log(table.measured / table[name])) for name in ("by_arithmetic", "by_harmonic")}
    assert off["by_harmonic"] < 0.2 and off["by_arithmetic"] > 0.5


def test_accuracy_is_the_mean_over_the_runs_of_their_medians():
    """As the rule of S0 takes it."""
    two = [record(arch="procresnet"), record(arch="procresnet", seed=1)]
    kinds = two[1].initial.kind == "residual"
    two[1].frames["initial"].loc[kinds, "log_ratio"] = 0.5
    row = beginning.accuracy(beginning.beginnings(two)).set_index("blocks").loc["residual"]
    predicted = math.log(mean_field.ratio(Q))
    assert row.off == pytest.approx((abs(0.0 - predicted) + abs(0.5 - predicted)) / 2)


def test_the_predictions_follow_the_ratios_from_epoch_0():
    records = [record(arch="resnet")]
    ratios, start = section4.ratios(records), beginning.beginnings(records)
    found = beginning.followed(ratios, start)
    assert set(found.columns) == set(ratios.columns) and len(found) == len(ratios)
    first = found[found.epoch == 0]
    assert np.array_equal(first.prediction.astype(float), start.prediction.astype(float), equal_nan=True)
    assert first.prediction[first.kind == "transition"].notna().any()  # which the ratios alone do not have
    assert found[found.epoch > 0].prediction.isna().all() and (found.epoch > 0).any()
