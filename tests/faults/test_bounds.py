"""Numbers have upper bounds, flags are True or False, and a run that cannot fit into the memory does not start."""

from __future__ import annotations

import pytest
import torch
from faults import hostile
from tiny import tiny
from torch import nn

import paperlib
from paperlib import cifar, machine, models, records, training
from paperlib.__main__ import main
from paperlib.channel_grid import GridConfig
from paperlib.config import RunConfig, check_memory_together
from paperlib.errors import ConfigError
from paperlib.holding import Exact
from paperlib.store import results_root

KERNEL = torch.ones(4, 2, 3, 3)
BOUNDS = {
    "depth must be a whole number of at most 10,001": lambda: RunConfig(depth=900_002),
    "depth must be a whole number of at most 10,001 of": lambda: paperlib.build("resnet", 900_002),
    "epochs must be at most 10000": lambda: RunConfig(epochs=10**6),
    "batch_size must be at most 50000": lambda: RunConfig(batch_size=10**6),
    "lr must be at most 1e": lambda: RunConfig(lr=1e300),
    "project_every must be at most": lambda: RunConfig(project_every=2**40),
    "probe_every must be at most": lambda: RunConfig(probe_every=2**40),
    "num_classes must be a whole number of at most": lambda: paperlib.build("resnet", 11, num_classes=10**9),
    "width must be a whole number of at most": lambda: models.Bottleneck(16, 10**6),
    "in_channels must be at most 4096": lambda: GridConfig(in_channels="2 5000"),
    "seeds must be at most 10000": lambda: GridConfig(seeds=10**9),
    "workers must be at most 1024": lambda: GridConfig(workers=10**6),
    "passes must be a whole number of at most 10,000, not 1000000000": lambda: paperlib.project(
        KERNEL, 4, passes=10**9
    ),
    "passes must be a whole number of at most 10,000, not 2000000000": lambda: Exact(passes=2 * 10**9),
    "passes must be a whole number of at most 10,000, not 3000000000": lambda: paperlib.NormPreserving(
        nn.Sequential(nn.Conv2d(2, 4, 3)), convs=[("0", 4)], passes=3 * 10**9
    ),
    "tolerance must be a number above 0 and at most 0.1, not 1.0": lambda: paperlib.operator_norm(
        KERNEL, 4, "zeros", tolerance=1.0
    ),
    "tolerance must be a number above 0 and at most 0.1, not 7": lambda: paperlib.operator_norm(KERNEL, 4, tolerance=7),
    "size must be of at most 16,777,216 pixels in all": lambda: paperlib.singular_values(KERNEL, 10**5),
    "stride must be a whole number of at most 1,024": lambda: paperlib.singular_values(KERNEL, 4, stride=10**6),
    "L asks for 4,000,000,000 numbers at once": lambda: paperlib.linear_factors(torch.eye(2), 10**9),
}


@pytest.mark.parametrize("said", BOUNDS)
def test_a_number_without_bounds_has_one(said):
    with pytest.raises(ValueError, match=said):
        BOUNDS[said]()


@pytest.mark.parametrize("value", ["False", "True", "no", 0, 1, [], (True,), torch.tensor(True)], ids=repr)
def test_a_flag_is_true_or_false(value):
    """A text such as "False" counts as true wherever Python is asked."""
    flags = [
        (name, flag) for name, call in hostile.CALLS.items() for flag, v in call.valid().items() if isinstance(v, bool)
    ]
    wrong = []
    for name, flag in flags:
        call = hostile.CALLS[name]
        try:
            call.function(**call.valid() | {flag: value})
        except ValueError as e:
            if f"{flag} must be True or False, not" in str(e):
                continue
        wrong.append((name, flag))
    assert wrong == [] and len(flags) >= 20


def test_a_run_that_cannot_fit_is_refused_before_it_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(machine, "memory", lambda: 4e9)
    monkeypatch.setattr(cifar, "load", lambda *_: pytest.fail("data were loaded"))
    config = tiny(depth=1001, batch_size=100, train_images=100, checkpoint_activations=False, precision="float32")
    said = "depth 1001 with batch_size 100 needs at least 17.4 GB of memory, and there are 4.0 GB here: take a smaller"
    with pytest.raises(ConfigError, match=said):
        training.train(config, quiet=True)
    options = [
        word for name, value in config.model_dump(exclude_unset=True).items() for word in ("-p", name, str(value))
    ]
    for command in ("run", "train"):
        assert main([command, *options]) == 1
        assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.pt"))


def test_runs_that_cannot_fit_side_by_side_are_refused_before_they_start(tmp_path, monkeypatch):
    monkeypatch.setattr("paperlib.machine.device_memory", lambda device: 3e9)
    same = {"preset": "paper", "precision": "bfloat16", "checkpoint_activations": False}
    asked = [RunConfig(**same, seed=seed) for seed in (0, 1)]
    runs = [run.resolve_on("cuda") for run in asked]
    said = "2 runs side by side need at least 3.9 GB of memory, and there are 3.0 GB here: train fewer of them at a"
    with pytest.raises(ConfigError, match=said):
        training.train_together(runs, tmp_path)
    check_memory_together(runs[:1])
    # Without graphs a run's step takes what another's has freed.
    check_memory_together([run.model_copy(update={"cuda_graphs": False}) for run in runs])
    check_memory_together([run.resolve_on("cpu") for run in asked])


def test_no_run_on_record_would_have_been_refused_where_it_was_made(tally):
    """The prediction is of the least that a run needs: what was measured is never less."""
    made = records.read_all(results_root())
    over = [r.folder for r in made if r.config.least_memory() > r.peak_memory_bytes]
    assert over == [] and len(made) > 100
    tally("the least memory of a run on record was computed", no_more_than_was_used=len(made))
