"""Ratios in the logs of Hugging Face's Trainer: with the package where it is installed, and with a stand-in."""

import importlib.util
import math
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from paperlib.callbacks import transformers as ours
from paperlib.probes import GradientNorms


class Layer(nn.Module):
    """As a transformer's: keyword arguments in, a tuple out."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, hidden_states, mask=None):
        return hidden_states + self.linear(hidden_states), None


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(4, 4)
        self.h = nn.ModuleList(Layer() for _ in range(3))

    def forward(self, x=None):
        x = self.stem(x)
        for layer in self.h:
            x = layer(hidden_states=x)[0]
        return {"loss": x.square().mean()}


def data(i):
    return torch.randn(4, generator=torch.Generator().manual_seed(i))


def expected(batches):
    net, total = Net(), 0.0
    with GradientNorms(net) as probe:
        for i in batches:
            net(x=data(i)[None])["loss"].backward()
            total = total + probe.ratios().double().log()
    return {f"grad_ratio/h.{j}": math.exp(x) for j, x in enumerate(total / len(batches))}


@pytest.fixture
def played(monkeypatch):
    """This module as it is loaded where transformers is installed."""
    stand_in = ModuleType("transformers")
    stand_in.TrainerCallback = type("TrainerCallback", (), {})
    monkeypatch.setitem(sys.modules, "transformers", stand_in)
    spec = importlib.util.spec_from_file_location("played", ours.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Trainer:
    """As much as the callback sees of one: to log takes back the wish to log."""

    def __init__(self):
        self.control, self.logged = SimpleNamespace(should_log=False), []

    def log(self, values):
        self.logged.append(values)
        self.control.should_log = False


def test_the_trainer_logs_the_averages(played):
    net, trainer = Net(), Trainer()
    callback = played.GradientNormsCallback(trainer)
    for _ in range(2):  # a second training begins anew, also if the first one was cut off
        callback.on_train_begin(None, None, trainer.control, model=net)
        for i in range(4):
            net(x=data(i)[None])["loss"].backward()
            trainer.control.should_log = i % 2 == 1
            callback.on_step_end(None, None, trainer.control)
            assert trainer.control.should_log == (i % 2 == 1)  # the trainer's own values are still to come
    callback.on_train_end(None, None, trainer.control)
    for found, batches in zip(trainer.logged, ([0, 1], [2, 3]) * 2, strict=True):
        assert found == pytest.approx(expected(batches), rel=1e-5)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_once_an_epoch(played):
    net, trainer = Net(), Trainer()
    callback = played.GradientNormsCallback(trainer)
    callback.on_train_begin(None, None, trainer.control, model=net)
    net(x=data(0)[None])["loss"].backward()
    trainer.control.should_log = True
    callback.on_epoch_end(None, None, trainer.control)
    assert trainer.logged == [pytest.approx(expected([0]), rel=1e-5)]


def test_bad_input(played, monkeypatch):
    with pytest.raises(TypeError, match="trainer must be the Trainer .* not list"):
        played.GradientNormsCallback([])
    monkeypatch.setattr(ours, "Base", object)
    with pytest.raises(ImportError, match="pip install transformers"):
        ours.GradientNormsCallback(Trainer())


@pytest.mark.slow
def test_with_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=4, per_device_train_batch_size=1, logging_steps=2, learning_rate=0.0,
        report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(Net(), arguments, train_dataset=[{"x": data(i)} for i in range(4)])
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(range(4))
    trainer.add_callback(ours.GradientNormsCallback(trainer))
    trainer.train()
    found = [row for row in trainer.state.log_history if "grad_ratio/h.0" in row]
    assert [row["step"] for row in found] == [2, 4]
    assert [row["step"] for row in trainer.state.log_history if "loss" in row] == [2, 4]
    for row, batches in zip(found, ([0, 1], [2, 3]), strict=True):
        values = {key: value for key, value in row.items() if key.startswith("grad_ratio")}
        assert values == pytest.approx(expected(batches), rel=1e-5)
