"""TensorBoard's event files: the epochs of a run, once each, also of a resumed one; and none without tensorboard."""

import builtins
import math

import pytest
from tiny import tiny

from paperlib.events import FOLDER, Events
from paperlib.training import train

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder):
    """{name: [(epoch, value), ...]} as TensorBoard shows them."""
    found = accumulator.EventAccumulator(str(folder / FOLDER))
    found.Reload()
    return {name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_a_runs_epochs_are_there(tmp_path):
    record = train(tiny(), root=tmp_path, quiet=True)
    found = read(record.folder)
    for name in ("train_loss", "test_error", "clean_train_error", "lr"):
        assert [epoch for epoch, _ in found[name]] == [1, 2, 3]
        assert [value for _, value in found[name]] == pytest.approx(list(record.epochs[name]), rel=1e-6)
    first = record.blocks[record.blocks.block == 1]
    values = [value for _, value in found[f"ratio/{first.name.iloc[0]}"]]
    assert values == pytest.approx([math.exp(x) for x in first.log_ratio], rel=1e-6)


def test_what_a_killed_session_wrote_of_unfinished_epochs_is_not_shown(tmp_path):
    for loss, epochs, start in ((9.0, (1, 2, 3), 1), (1.0, (2, 3), 2)):
        with Events(tmp_path, start) as events:
            for epoch in epochs:
                events.write({"epoch": epoch, "train_loss": loss}, [])
    assert read(tmp_path)["train_loss"] == [(1, 9.0), (2, 1.0), (3, 1.0)]


def test_without_tensorboard_nothing_is_written(tmp_path, monkeypatch):
    whole = builtins.__import__

    def refuse(name, *rest, **more):
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return whole(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with Events(tmp_path, 1) as events:
        events.write({"epoch": 1, "train_loss": 1.0}, [])
    assert not list(tmp_path.iterdir())


def test_without_a_folder_nothing_is_written():
    with Events(None, 1) as events:
        events.write({"epoch": 1, "train_loss": 1.0}, [])


def test_a_folder_that_cannot_be_written_ends_no_run(tmp_path):
    (tmp_path / FOLDER).write_text("in the way")
    with Events(tmp_path, 1) as events:
        events.write({"epoch": 1, "train_loss": 1.0}, [])
