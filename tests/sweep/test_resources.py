"""Which claims a sweep's runs can decide."""

import pytest

from paperlib.channel_grid import GridConfig
from paperlib.sweep import read, resources


def sweep(tmp_path, text):
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    return read(file)


def test_only_claims_about_the_sweeps_own_runs_are_measured(tmp_path):
    constant = "preset: smoke\ngroups:\n  a: {arch: plain, depth: 20, schedule: constant}\n"
    found = resources.claims_from_records(sweep(tmp_path, constant))
    assert {"F3a", "F3d"} <= {*found} and not {"TII", "F5", "O2"} & {*found}
    final = "preset: smoke\ngroups:\n  a: {arch: resnet, depth: 164, schedule: steps}\n"
    found = resources.claims_from_records(sweep(tmp_path, final))
    assert "TII" in found and "F3a" not in found


def test_runs_that_override_their_preset_decide_no_claim(tmp_path):
    run = "\ngroups:\n  a: {arch: plain, depth: 20, schedule: constant}\n"
    assert resources.claims_from_records(sweep(tmp_path, "preset: smoke\ncommon: {lr: 0.2}" + run)) == []
    # But S0, which looks at nothing that comes after the first update.
    assert resources.claims_from_records(sweep(tmp_path, "preset: smoke\ncommon: {epochs: 1}" + run)) == ["S0"]


@pytest.mark.parametrize(
    ("grid", "cores", "processes"),
    [({"device": "cpu"}, 16, 16), ({"device": "cpu"}, None, 1), ({"device": "cuda"}, 16, 4), ({"device": "cuda"}, 2, 2),
     ({"device": "cuda"}, None, 4), ({"device": "cuda", "stored": True}, 16, 1),
     ({"device": "cpu", "preset": "smoke"}, 16, 1)],
)  # fmt: skip
def test_a_grid_takes_all_cores_and_on_a_gpu_some(grid, cores, processes):
    assert resources.grid_threads(GridConfig(**{"preset": "desk"} | grid), cores) == processes
