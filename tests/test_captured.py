"""Steps that a device replays give what steps one by one give, also when they fail or are interrupted."""

import signal

import numpy as np
import pandas as pd
import pytest
import torch
from emulated_graphs import at_launch, emulate
from tiny import data_of, tiny

from paperlib import captured, checkpoints, training
from paperlib.checkpoints import FILE
from paperlib.errors import ConfigError
from paperlib.holding import NormPreserving, _Failures
from paperlib.training import run as running
from paperlib.training.run import Run

NETWORKS = [{"arch": "resnet"}, {"arch": "procresnet"}, {"arch": "plain", "schedule": "constant", "probe_every": 2}]
PLAIN = {"cuda_graphs": False, "fused": False}


@pytest.fixture
def emulated(monkeypatch):
    emulate(monkeypatch)
    return monkeypatch


def assert_alike(record, other, rtol=1e-9):
    for name in ("epochs", "blocks", "initial"):
        assert_tables_alike(record.frames[name], other.frames[name], rtol)


def assert_tables_alike(table, other, rtol):
    assert list(table.columns) == list(other.columns) and len(table) == len(other)
    for column in table:
        if pd.api.types.is_numeric_dtype(table[column]):
            np.testing.assert_allclose(table[column], other[column], rtol=rtol, err_msg=column)
        else:
            assert (table[column] == other[column]).all()


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n["arch"])
def test_replayed_steps_are_the_steps(emulated, tmp_path, network):
    plain = training.train(tiny(**network, epochs=2, **PLAIN), tmp_path / "plain", quiet=True)
    replayed = training.train(tiny(**network, epochs=2), tmp_path / "replayed", quiet=True)
    assert_alike(replayed, plain, rtol=1e-6)  # the gradient's norm is added in float64
    assert (replayed.epochs.test_error == plain.epochs.test_error).all()
    assert replayed.projections == plain.projections
    a, b = (training.trained_network(r).state_dict() for r in (replayed, plain))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_weights_are_rounded_as_autocast_does(emulated, tmp_path):
    run = {"arch": "procresnet", "precision": "bfloat16", "epochs": 2}
    plain = training.train(tiny(**run, **PLAIN), tmp_path / "plain", quiet=True)
    replayed = training.train(tiny(**run), tmp_path / "replayed", quiet=True)
    assert_alike(replayed, plain, rtol=1e-6)


def test_a_checkpoint_of_one_is_a_checkpoint_of_the_other(emulated, tmp_path):
    run = tiny(arch="procresnet", epochs=2)
    whole = training.train(run.model_copy(update=PLAIN), tmp_path / "whole", quiet=True)
    for first, second in ((PLAIN, {}), ({}, PLAIN)):
        root = tmp_path / str(len(first))
        emulated.setattr(running, "CHECKPOINT_PAUSE", 0)
        with emulated.context() as patch:
            patch.setattr(Run, "end_epoch", _stop_in_second_epoch(Run.end_epoch))
            with pytest.raises(ZeroDivisionError):
                training.train(run.model_copy(update=first), root, quiet=True)
        assert_alike(training.train(run.model_copy(update=second), root, quiet=True), whole, rtol=1e-6)


def _stop_in_second_epoch(end_epoch):
    def end(run, divergence):
        if run.state.epoch == 2:
            raise ZeroDivisionError
        return end_epoch(run, divergence)

    return end


def test_a_signal_is_answered_after_the_steps_that_are_under_way(emulated, tmp_path):
    run = tiny(epochs=2)
    whole = training.train(run, tmp_path / "whole", quiet=True)
    emulated.setattr(running, "READ_EVERY", 2)
    with emulated.context() as patch, pytest.raises(SystemExit):
        at_launch(patch, 3, lambda: signal.raise_signal(signal.SIGTERM))
        training.train(run, tmp_path / "cut", quiet=True)
    folder = run.resolve().folder(tmp_path / "cut")
    assert (folder / FILE).exists()
    assert_alike(training.train(run, tmp_path / "cut", quiet=True), whole)


@pytest.mark.parametrize("read_every", [1, 3, 100])
@pytest.mark.parametrize("network", [{"arch": "plain"}, {"arch": "procresnet", "probe_every": 2}])
def test_a_divergence_has_its_step_and_block_however_late_it_is_read(emulated, tmp_path, read_every, network):
    emulated.setattr(running, "READ_EVERY", read_every)
    wild = network | {"lr": 1e20, "epochs": 2, "batch_size": 4}
    plain = training.train(tiny(**wild, **PLAIN), tmp_path / "plain", quiet=True)
    replayed = training.train(tiny(**wild), tmp_path / "replayed", quiet=True)
    assert plain.status == replayed.status == "diverged"
    assert replayed.divergence == plain.divergence
    assert replayed.projections == plain.projections
    assert_alike(replayed, plain, rtol=1e-6)


def test_a_kernel_that_cannot_be_projected_ends_the_run(emulated, tmp_path):
    project = NormPreserving._project

    def spoilt(self, wanted=None):
        if self.steps == 4:
            with torch.no_grad():
                self.convs[1].conv.weight.fill_(float("nan"))
        project(self, wanted)

    emulated.setattr(NormPreserving, "_project", spoilt)
    run = tiny(arch="procresnet", batch_size=4, epochs=1)
    for kind in ({}, PLAIN):
        record = training.train(run.model_copy(update=kind), tmp_path / str(len(kind)), quiet=True)
        assert record.status == "diverged"
        assert (record.divergence.step, record.divergence.block) == (4, "transition2")


def test_a_failure_of_the_last_projection_is_waited_for(emulated, tmp_path):
    """As on CUDA, where its news comes during later steps, and no step follows."""
    project, notice = NormPreserving._project, _Failures.notice

    def spoilt(self, wanted=None):
        if self.steps == 10:
            with torch.no_grad():
                self.convs[1].conv.weight.zero_()  # its rank is lost; loss and evaluation stay finite
        project(self, wanted)

    emulated.setattr(NormPreserving, "_project", spoilt)
    emulated.setattr(_Failures, "notice", lambda self, wait=False: notice(self, wait) if wait else None)
    run = tiny(arch="procresnet", batch_size=4, epochs=2)
    for kind in ({}, PLAIN):
        record = training.train(run.model_copy(update=kind), tmp_path / str(len(kind)), quiet=True)
        assert record.status == "diverged" and record.projections.refused == 1
        found = record.divergence
        assert (found.epoch, found.step, found.what, found.block) == (1, 10, "projection", "transition2")


def test_evaluation_takes_every_image_once(emulated, tmp_path):
    emulated.setattr(captured, "EVAL_IMAGES", 12)
    run = {"epochs": 1, "test_images": 40}
    replayed, plain = (
        training.train(tiny(**run, **kind), tmp_path / str(len(kind)), quiet=True) for kind in ({}, PLAIN)
    )
    assert_alike(replayed, plain, rtol=1e-6)


def test_an_evaluation_leaves_the_projection_where_it_is(emulated, tmp_path):
    config = tiny(arch="procresnet").resolve()
    run = Run(config, "", tmp_path, data_of(config))
    run.evaluate(*run.batches.clean)
    run.optimizer.step()
    assert run.projection.steps == 1


def test_runs_side_by_side_are_the_runs_alone(emulated, tmp_path):
    configs = [tiny(**network, seed=seed, epochs=2) for seed, network in enumerate(NETWORKS[:2])]
    together = training.train_together(configs, tmp_path / "together", quiet=True)
    for config, record in zip(configs, together, strict=True):
        assert record.config.seed == config.seed and record.provenance.last.settings["runs side by side"] == "2"
        assert_alike(record, training.train(config, tmp_path / "alone", quiet=True))
    assert training.train_together(configs, tmp_path / "together", quiet=True)[1].epochs.equals(together[1].epochs)


def test_all_runs_side_by_side_are_saved_at_a_signal(emulated, tmp_path):
    configs = [tiny(seed=seed, epochs=2) for seed in (0, 1)]
    with emulated.context() as patch, pytest.raises(KeyboardInterrupt):
        at_launch(patch, 7, lambda: signal.raise_signal(signal.SIGINT))
        training.train_together(configs, tmp_path / "cut", quiet=True)
    assert all((config.resolve().folder(tmp_path / "cut") / FILE).exists() for config in configs)
    again = training.train_together(configs, tmp_path / "cut", quiet=True)
    assert_alike(again[1], training.train(configs[1], tmp_path / "alone", quiet=True))


def test_a_second_signal_leaves_what_was_saved_before(tmp_path, monkeypatch):
    """It is obeyed at once, in the middle of a step: nothing is saved of that."""
    run = tiny(epochs=2)
    whole = training.train(run, tmp_path / "whole", quiet=True)
    update = Run.update
    calls = []

    def signalled(self):
        update(self)
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "update", signalled)
        training.train(run, tmp_path / "cut", quiet=True)
    assert_alike(training.train(run, tmp_path / "cut", quiet=True), whole)


def test_a_run_that_fails_costs_those_beside_it_nothing(emulated, tmp_path):
    configs = [tiny(seed=seed, epochs=2) for seed in (0, 1)]
    with emulated.context() as patch, pytest.raises(ZeroDivisionError):
        at_launch(patch, 11, lambda: 1 / 0)  # of the first run, in its second epoch
        training.train_together(configs, tmp_path, quiet=True)
    content = checkpoints.read(configs[1].resolve().folder(tmp_path), "cpu")
    assert (content["state"]["epoch"], content["state"]["step"]) == (2, 1)


def test_a_signal_waits_for_one_step_not_for_the_next_reading(emulated, tmp_path):
    calls = at_launch(emulated, 3, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        training.train(tiny(batch_size=2), tmp_path, quiet=True)
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("configs", "sentence"),
    [
        ([], "no run to train"),
        ([tiny(), tiny()], "two of the runs are the same"),
        ([tiny(), tiny(seed=1, threads=1), tiny(seed=2, threads=2)], "same device, threads"),
    ],
)
def test_runs_that_do_not_fit_together(tmp_path, configs, sentence):
    with pytest.raises(ConfigError, match=sentence):
        training.train_together(configs, tmp_path)


# -- on a device -----------------------------------------------------------------------------------------------------
@pytest.mark.cuda
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n["arch"])
@pytest.mark.parametrize("shortcut", ["cuda_graphs", "fused"])
def test_each_shortcut_keeps_the_losses_of_twenty_steps(tmp_path, network, shortcut):
    run = network | {"device": "cuda", "precision": "float32", "batch_size": 50, "epochs": 2, "train_images": 500,
                     "depth": 20, "lr": 1e-3}  # fmt: skip
    plain = training.train(tiny(**run, **PLAIN), tmp_path / "plain", quiet=True)
    quick = training.train(tiny(**run, **PLAIN | {shortcut: True}), tmp_path / "quick", quiet=True)
    # A Plain network's gradients grow from block to block, and so does what rounding differently amounts to.
    np.testing.assert_allclose(
        quick.epochs.train_loss, plain.epochs.train_loss, rtol=1e-3 if network["arch"] == "plain" else 1e-4
    )
    np.testing.assert_allclose(quick.blocks.ratio, plain.blocks.ratio, rtol=1e-2)
    assert quick.provenance.last.settings[shortcut.replace("_", " ")] == "yes"


@pytest.mark.cuda
@pytest.mark.parametrize("arch", ["resnet", "procresnet"])
def test_a_replayed_step_never_waits(tmp_path, arch, monkeypatch):
    launch = captured.Captured.launch

    def watched(self):
        if self.launched < 3:  # capturing waits
            return launch(self)
        torch.cuda.set_sync_debug_mode("error")
        try:
            return launch(self)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(captured.Captured, "launch", watched)
    run = {"arch": arch, "device": "cuda", "batch_size": 10, "epochs": 1}
    assert training.train(tiny(**run), tmp_path, quiet=True).status == "finished"


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_blocks_in_a_graph_are_those_launched_one_by_one(tmp_path, precision):
    run = {"depth": 20, "device": "cuda", "precision": precision, "fused": "blocks", "batch_size": 20}
    replayed, plain = (
        training.train(tiny(**run, cuda_graphs=graphs), tmp_path / str(graphs), quiet=True) for graphs in (True, False)
    )
    np.testing.assert_allclose(replayed.epochs.train_loss, plain.epochs.train_loss, rtol=1e-3)
    np.testing.assert_allclose(replayed.blocks.ratio, plain.blocks.ratio, rtol=1e-2)


@pytest.mark.cuda
@pytest.mark.parametrize("fused", [True, "blocks"])
def test_side_by_side_on_streams_the_runs_are_those_alone(tmp_path, fused):
    archs = ("plain", "resnet", "procresnet")
    configs = [tiny(arch=arch, device="cuda", depth=20, precision="bfloat16", fused=fused) for arch in archs]
    for config, record in zip(configs, training.train_together(configs, tmp_path / "together"), strict=True):
        assert_alike(record, training.train(config, tmp_path / "alone", quiet=True))


@pytest.mark.cuda
def test_a_divergence_on_the_device_has_its_step_and_block(tmp_path):
    wild = {"arch": "plain", "lr": 1e20, "epochs": 2, "batch_size": 10, "device": "cuda"}
    plain, replayed = (
        training.train(tiny(**wild, **kind), tmp_path / str(len(kind)), quiet=True) for kind in (PLAIN, {})
    )
    assert replayed.divergence == plain.divergence and plain.status == "diverged"
