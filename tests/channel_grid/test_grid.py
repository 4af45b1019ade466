"""A channel grid's parameters and its record."""

import json
import os
import shlex
from types import SimpleNamespace

import joblib
import pytest
import tiny
import torch

from paperlib import __main__ as command
from paperlib.channel_grid import MIDDLE_VARIANTS, GridConfig, read, run
from paperlib.errors import ConfigError, RecordError
from paperlib.store import results_root
from paperlib.store.stored import sealed


# -- parameters --------------------------------------------------------------------------------------------------
def test_presets():
    smoke, desk, paper = (GridConfig(preset=p, device="cpu").resolve() for p in ("smoke", "desk", "paper"))
    assert desk.in_channels == desk.out_channels == (2, 4, 8, 16, 32)
    assert paper.in_channels == paper.out_channels == (2, 4, 8, 16, 32)
    assert desk.seeds == paper.seeds == 10
    assert desk.stages == (0, 25, 50, 100)
    assert [s / 391 for s in paper.stages] == [0, 1, 2, 5, 10]  # epochs
    assert (smoke.source, desk.source) == ("sample", "auto")
    assert len(desk.cells()) == len(paper.cells()) == 25
    assert desk.resolve() == desk and desk.variants == MIDDLE_VARIANTS
    assert paper.variants == ("conv-relu", "free")


@pytest.mark.parametrize("value", ["2 4 8", "8,2, 4", [2, 8, 4], (4, 8, 2, 2), ["2", 4, 8]])
def test_lists_in_many_forms(value):
    assert GridConfig(in_channels=value).in_channels == (2, 4, 8)


def test_one_number_is_a_list_of_one():
    assert GridConfig(in_channels=3, stages="7", variants="free").resolve().cells()[0][0] == 3
    assert GridConfig(variants="free conv").variants == ("conv", "free")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seed": 1}, "unknown parameter 'seed': did you mean 'seeds'"),
        ({"in_channels": "2 x"}, "in_channels must be a list of whole numbers, such as '2 4 8', not '2 x'"),
        ({"in_channels": ""}, "must be a list of whole numbers"),
        ({"in_channels": 2.5}, "must be a list of whole numbers"),
        ({"in_channels": True}, "must be a list of whole numbers"),
        ({"out_channels": "0 2"}, "out_channels must be at least 1, not 0"),
        ({"stages": [-1]}, "stages must be at least 0, not -1"),
        ({"variants": "conv-relu fre"}, "variant 'fre' is unknown: choose one of conv-relu, conv"),
        ({"variants": []}, "variants must name some of conv-relu"),
        ({"variants": True}, "variants must name some of conv-relu"),
        ({"variants": 5}, "variant 5 is unknown"),
        ({"in_channels": [1, True]}, "in_channels must be a list of whole numbers"),
        (
            {"preset": "smoke", "batch_size": 5000},
            "batch_size 5000 is more than there is: sample has 1000 training images",
        ),
        ({"seeds": 0}, "seeds must be at least 1, not 0"),
        ({"lr": float("nan")}, "lr must be"),
        ({"lr": -1.0}, "lr must be greater than 0"),
        ({"preset": "big"}, "preset 'big' is unknown"),
        ({"workers": 0}, "workers must be at least 1"),
    ],
)
def test_impossible_parameters_are_refused_in_a_sentence(values, said):
    with pytest.raises(ConfigError, match=said) as e:
        GridConfig(**values).resolve()
    assert "\n" not in str(e.value)


def test_folders_and_commands_name_what_differs_from_the_preset(tmp_path):
    plain = GridConfig(preset="desk", device="cpu").resolve()
    assert plain.folder("r").as_posix() == "r/channel_grid/desk"
    assert plain.command() == "python -m paperlib grid -p preset desk"
    assert GridConfig(preset="desk", device="cpu", seeds=10, stages="0 25 50 100").resolve().folder(
        "r"
    ) == plain.folder("r")
    other = GridConfig(preset="desk", device="cpu", in_channels="2 4", lr=0.1, variants="free conv-relu").resolve()
    assert other.folder("r").name.startswith("desk-") and other.digest() != plain.digest()
    words = other.command()
    assert words == (
        "python -m paperlib grid -p preset desk -p in_channels '2 4' -p variants 'conv-relu free' -p lr 0.1"
    )
    # More processes are the same grid.
    assert GridConfig(preset="desk", device="cpu", workers=7).resolve().digest() == plain.digest()
    assert GridConfig(preset="desk", device="cpu", workers=7).resolve().folder("r") == plain.folder("r")


def test_the_command_makes_the_same_grid():
    """Read as the shell and the command line read it."""
    grid = GridConfig(preset="smoke", in_channels="2 8 16", stages=[0, 3], lr=0.5, seeds=3, device="cpu").resolve()
    words = shlex.split(grid.command())[4:]
    values = {name: command._value(value) for name, value in zip(words[1::3], words[2::3], strict=True)}
    assert GridConfig(**values).resolve().digest() == grid.digest()


# -- records -----------------------------------------------------------------------------------------------------
COMMITTED = sorted((results_root() / "channel_grid").iterdir())


def test_the_head_is_part_of_a_grid():
    mean, linear = (GridConfig(preset="desk", device="cpu", **head).resolve() for head in ({}, {"head": "linear"}))
    assert mean.digest() != linear.digest() and linear.command().endswith("-p head linear")
    assert read(mean.folder(results_root())).config.digest() == mean.digest()
    with pytest.raises(ConfigError, match="head 'max' is unknown"):
        GridConfig(head="max")


def test_the_description_says_what_was_run(record):
    told = record.describe()
    assert (
        "Preset **smoke**: 1 × 2 pairs" in told
        and "2 variants, 1 seed (0); 2 steps of 64 images (cifar10, sample)" in told
    )
    assert record.provenance.command in told and record.provenance.short_commit in told


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda p: p.name)
def test_committed_grids_are_whole_clean_and_of_the_parameters_they_say(folder):
    record = read(folder)
    assert all(session.commit and not session.dirty for session in record.provenance.sessions)
    assert record.data.source in ("torchvision", "npm")
    c, table = record.config, record.measurements
    if record.provenance.device.type == GridConfig().resolve().device.split(":")[0]:
        assert c.folder(results_root()) == folder
        assert c.command() == record.provenance.command
    assert len(table) == len(c.cells()) * len(c.variants) * c.seeds * len(c.stages)
    assert not table.duplicated(["c", "d", "variant", "seed", "step"]).any()


def test_the_desk_grid_is_committed():
    assert GridConfig(preset="desk", device="cpu").resolve().folder(results_root()) in COMMITTED


# -- what goes wrong ---------------------------------------------------------------------------------------------
def test_damaged_records_are_refused(tmp_path):
    config = GridConfig(**tiny.GRID | {"stages": "0", "out_channels": 2}).resolve()
    with pytest.raises(RecordError, match=r"there is no grid at .*grid\.json is missing"):
        read(tmp_path)
    run(config, root=tmp_path, quiet=True)
    folder = config.folder(tmp_path)
    summary, (table,) = folder / "grid.json", folder.glob("measurements-*.parquet")
    whole, content = summary.read_bytes(), table.read_bytes()
    for damaged in (b"{", b"[]", b"\xff", whole.replace(b'"lr"', b'"rate"')):
        summary.write_bytes(damaged)
        with pytest.raises(RecordError, match="is not a readable grid .*; delete it and run it again"):
            run(config, root=tmp_path)
    summary.write_bytes(whole)
    table.write_bytes(content[:-1])
    with pytest.raises(RecordError, match="checksum is not the recorded one"):
        read(folder)
    table.unlink()
    with pytest.raises(RecordError, match=r"measurements-\w{8}\.parquet is missing"):
        read(folder)
    table.write_bytes(content)
    content = json.loads(whole)
    summary.write_text(json.dumps(sealed(content | {"config": content["config"] | {"lr": 0.5}})))
    with pytest.raises(RecordError, match=r"holds another grid \(lr 0.5 instead of 0.01\)"):
        run(config, root=tmp_path)


def test_another_kind_of_device_is_another_grid(monkeypatch):
    here = GridConfig(preset="desk").resolve().digest()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=7e9))
    monkeypatch.setattr(joblib, "cpu_count", lambda: 16)
    there, cpu = GridConfig(preset="desk").resolve(), GridConfig(preset="desk", device="cpu").resolve()
    assert there.workers == 2, "each is given 3 GB of the device"
    assert cpu.digest() == here != there.digest() and cpu.folder("r") != there.folder("r")
    assert cpu.command() == "python -m paperlib grid -p preset desk -p device cpu"
    assert GridConfig().resolve().preset in ("paper", os.environ.get("PAPERLIB_PRESET"))
