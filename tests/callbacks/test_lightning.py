"""Ratios in Lightning's loggers: with the package where it is installed, and with its interface played by hand."""

import importlib.util
import math
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from paperlib.callbacks import lightning as ours
from paperlib.probes import GradientNorms


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)))

    def forward(self, x):
        return self.layers(x)


BLOCKS = ["net.layers.0", "net.layers.1", "net.layers.2"]


def data(i):
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(i))


def expected(batches):
    """The scalars over some batches, with the weights of the start."""
    net, total = Net(), 0.0
    with GradientNorms(net, net.layers) as probe:
        for i in batches:
            net(data(i)).square().sum().backward()
            total = total + probe.ratios().double().log()
    return {f"grad_ratio/{name}": math.exp(x) for name, x in zip(BLOCKS, total / len(batches), strict=True)}


class Logger:
    def __init__(self):
        self.logged = []

    def log_metrics(self, metrics, step=None):
        self.logged.append((step, metrics))


@pytest.fixture
def played(monkeypatch):
    """This module as it is loaded where Lightning is installed."""
    stand_in = ModuleType("lightning.pytorch")
    stand_in.Callback = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", stand_in)
    spec = importlib.util.spec_from_file_location("played", ours.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_logger_gets_the_averages(played):
    """As a trainer calls the callback; the training step calls a part of the module, not the module."""
    module = nn.Module()
    module.net = Net()
    callback = played.GradientNormsCallback(BLOCKS)
    trainer = SimpleNamespace(log_every_n_steps=2, loggers=[Logger(), Logger()], global_step=0)
    callback.on_train_start(trainer, module)
    for i in range(5):
        callback.on_train_batch_start(trainer, module, data(i), i)
        module.net(data(i)).square().sum().backward()
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, module, None, data(i), i)
        with torch.no_grad():
            module.net(data(99))  # validation
    callback.on_train_end(trainer, module)
    for logger in trainer.loggers:
        assert [step for step, _ in logger.logged] == [2, 4, 5]
        for (_, found), batches in zip(logger.logged, ([0, 1], [2, 3], [4]), strict=True):
            assert found == pytest.approx(expected(batches), rel=1e-5)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert callback.probe.ratios().shape == (3,)


def test_training_that_fails_leaves_no_hook(played):
    module = nn.Module()
    module.net = Net()
    callback = played.GradientNormsCallback(BLOCKS)
    callback.on_train_start(SimpleNamespace(), module)
    callback.on_exception(SimpleNamespace(), module, KeyboardInterrupt())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_without_lightning(monkeypatch):
    monkeypatch.setattr(ours, "Base", object)
    with pytest.raises(ImportError, match="pip install lightning"):
        ours.GradientNormsCallback()


@pytest.mark.slow
def test_with_lightning(tmp_path):
    pl = pytest.importorskip("lightning.pytorch")

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def training_step(self, batch, index):
            return self.net(batch).square().sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    logger = pl.loggers.CSVLogger(tmp_path)
    logged = []
    log_metrics = logger.log_metrics
    logger.log_metrics = lambda metrics, step=None: (logged.append((step, metrics)), log_metrics(metrics, step))
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=logger, log_every_n_steps=2, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[ours.GradientNormsCallback()],
    )  # fmt: skip
    loader = torch.utils.data.DataLoader([data(i) for i in range(4)], batch_size=None)
    trainer.fit(Module(), loader)
    ratios = [(step, metrics) for step, metrics in logged if any(key.startswith("grad_ratio") for key in metrics)]
    assert [step for step, _ in ratios] == [2, 4]
    for (_, found), batches in zip(ratios, ([0, 1], [2, 3]), strict=True):
        found = {key: value for key, value in found.items() if key.startswith("grad_ratio")}
        # By default the repeated modules of the LightningModule are watched, here with the same names.
        assert found == pytest.approx(expected(batches), rel=1e-5)
