"""Parameters: every bad one gets one clear sentence; presets, names and folders are what they say."""

import shlex

import pytest
import torch

from paperlib import config as configuration
from paperlib.__main__ import _value
from paperlib.config import ResolvedRun, RunConfig
from paperlib.errors import ConfigError
from paperlib.records import read_all
from paperlib.store import results_root


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"depth": 21}, "20 and 29"),
        ({"depth": 0}, "11 and 20"),
        ({"depth": "abc"}, "depth must be a whole number, not 'abc'"),
        ({"depth": 20.0}, "whole number"),
        ({"depth": True}, "whole number"),
        ({"arch": "resnext"}, "'plain', 'resnet' or 'procresnet'"),
        ({"dataset": "cifar11"}, "'cifar10' or 'cifar100'"),
        ({"epochs": -1}, "epochs must be at least 1, not -1"),
        ({"epochs": 2.5}, "whole number"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"dpeth": 164}, "unknown parameter 'dpeth': did you mean 'depth'?"),
        ({"xyz": 1}, "the parameters are preset, arch"),
        ({"lr": 0}, "greater than 0"),
        ({"lr": float("nan")}, "finite"),
        ({"lr": "fast"}, "a number"),
        ({"lr": "0.5"}, "a number"),
        ({"lr": True}, "a number"),
        ({"weight_decay": False}, "a number"),
        ({"threads": 1_000_000}, "threads must be at most 1024"),
        ({"momentum": 1.0}, "less than 1"),
        ({"seed": -1}, "at least 0"),
        ({"augment": "yes"}, "True or False"),
        ({"preset": "huge"}, "'smoke', 'desk' or 'paper'"),
        ({"precision": "int8"}, "precision 'int8' is unknown"),
        ({"depth": 21, "epochs": 0}, "; "),
    ],
)
def test_bad_values(values, said):
    with pytest.raises(ConfigError) as e:
        RunConfig(**values)
    assert said in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"device": "tpu"}, "auto, cpu, cuda or cuda:N"),
        ({"device": "cpu:1"}, "unknown"),
        ({"device": "cuda:99"}, "not there"),
        ({"preset": "smoke", "train_images": 5_000}, "sample has 1000"),
        ({"preset": "desk", "test_images": 10_010}, "cifar10 has 10000"),
        ({"preset": "desk", "train_images": 1_234}, "multiple of the 10 classes"),
        ({"preset": "smoke", "dataset": "cifar100"}, "no embedded sample of cifar100"),
        ({"source": "npm", "dataset": "cifar100"}, "npm source has no cifar100"),
    ],
)
def test_bad_choices(values, said):
    with pytest.raises(ConfigError, match=said):
        RunConfig(**values).resolve()


def test_bad_preset_in_the_environment(monkeypatch):
    monkeypatch.setenv("PAPERLIB_PRESET", "dsek")
    with pytest.raises(ConfigError, match="PAPERLIB_PRESET"):
        RunConfig().resolve()
    assert RunConfig(preset="desk").resolve().preset == "desk"  # an explicit preset needs no variable


def test_frozen_and_idempotent():
    c = RunConfig(preset="desk", depth=20)
    with pytest.raises(ValueError, match="frozen"):
        c.depth = 29
    r = c.resolve()
    assert r is r.resolve()
    assert c.resolve() == r
    with pytest.raises(ValueError, match="frozen"):
        r.depth = 29
    assert None not in r.model_dump().values()
    assert "auto" not in {r.preset, r.device, r.precision, r.memory_format}


def test_auto_preset(monkeypatch):
    monkeypatch.delenv("PAPERLIB_PRESET")
    assert RunConfig(device="cpu").resolve().preset == "desk"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(configuration, "_fast_bfloat16", lambda device: True)
    monkeypatch.setattr(configuration, "_needs_checkpoints", lambda *a: False)
    assert RunConfig().resolve().preset == "paper"
    monkeypatch.setenv("PAPERLIB_PRESET", "smoke")
    assert RunConfig().resolve().preset == "smoke"


def test_the_papers_protocol():
    c = RunConfig(preset="paper").resolve()
    assert (c.epochs, c.train_images, c.test_images, c.batch_size) == (300, 50_000, 10_000, 128)
    assert (c.lr, c.momentum, c.weight_decay) == (0.1, 0.9, 1e-4)
    assert [c.lr_at(e) for e in (1, 150, 151, 225, 226, 300)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    flat = RunConfig(preset="paper", schedule="constant").resolve()
    assert flat.epochs == 100
    assert {flat.lr_at(e) for e in range(1, 101)} == {0.1}


def test_what_departs_from_the_protocol_is_said_and_bfloat16_is_no_smaller_scale():
    exact = RunConfig(preset="paper", precision="float32").resolve()
    assert exact.full_scale() and exact.left_out() == ""
    rough = RunConfig(preset="paper", precision="bfloat16").resolve()
    assert rough.full_scale()
    assert rough.left_out() == "This run has the paper's scale, but used bfloat16 activations instead of float32."
    short = RunConfig(preset="paper", precision="bfloat16", epochs=10).resolve()
    assert not short.full_scale()
    assert short.left_out() == (
        "This run used 10 of 300 epochs, bfloat16 activations instead of float32: it is not at the paper's scale."
    )
    assert short.left_out(several=True) == (
        "These runs used 10 of 300 epochs, bfloat16 activations instead of float32: they are not at the paper's scale."
    )
    assert rough.left_out(several=True).startswith("These runs have the paper's scale, but used bfloat16")


def test_desk_has_many_short_epochs_at_a_constant_rate_the_same_at_every_depth_and_precision():
    sizes = {
        (c.epochs, c.train_images, c.test_images)
        for depth in (20, 83, 164)
        for precision in ("float32", "bfloat16")
        for c in [RunConfig(preset="desk", depth=depth, precision=precision, schedule="constant").resolve()]
    }
    assert len(sizes) == 1
    assert sizes.pop()[0] >= 20


def test_desk_shrinks_with_the_network_and_says_so():
    passes = []
    for depth in (20, 83, 164, 1001):
        c = RunConfig(preset="desk", depth=depth, precision="bfloat16").resolve()
        passes.append(c.epochs * c.train_images)
        assert f"{c.train_images:,} of 50,000 training images" in c.left_out()
    assert passes == sorted(passes, reverse=True)
    slow = RunConfig(preset="desk", precision="float32").resolve()
    assert slow.train_images < RunConfig(preset="desk", precision="bfloat16").resolve().train_images


def test_folders():
    def where(**values):
        return RunConfig(**{"device": "cpu", "precision": "bfloat16"} | values).resolve().folder("r").as_posix()

    assert where(preset="desk") == "r/desk/cifar10/resnet-164/seed0"
    assert where(preset="desk", arch="procresnet", seed=3) == "r/desk/cifar10/procresnet-166/seed3"
    names = {
        where(preset="desk"),
        where(preset="desk", erase_relu=True),
        where(preset="desk", arch="procresnet", project=False),
        where(preset="desk", lr=0.05),
        where(preset="desk", epochs=3),
        where(preset="paper"),
        where(preset="paper", schedule="constant"),
    }
    assert len(names) == 7
    assert where(preset="desk", threads=1) == where(preset="desk")
    assert where(preset="desk", lr=0.1) == where(preset="desk")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("preset", ["smoke", "desk", "paper"])
def test_a_run_has_one_name_on_every_machine_and_two_runs_never_share_one(preset, device, monkeypatch):
    """A sweep's head names the runs, and other machines make them; records are moved."""
    named = {}
    for fast in (True, False):
        monkeypatch.setattr(configuration, "_fast_bfloat16", lambda device, fast=fast: fast)
        for precision in ("auto", "float32", "bfloat16"):
            run = RunConfig(preset=preset, depth=20, precision=precision, checkpoint_activations=False)
            run = run.resolve_on(device)
            named.setdefault(run.place(), set()).add(run.digest())
            assert run.place().parts[0] == preset if run.precision == "bfloat16" else run.place().parts[0] != preset
    assert len(named) == 2 and all(len(digests) == 1 for digests in named.values())


def test_digest_tells_runs_apart():
    one = RunConfig(preset="smoke").resolve()
    for same in ({"lr": 0.1}, {"threads": 1, "checkpoint_activations": True}):
        assert one.digest() == RunConfig(preset="smoke", **same).resolve().digest()
    for change in ({"lr": 0.05}, {"seed": 1}, {"precision": "float32"}, {"memory_format": "contiguous"}, {"depth": 20}):
        other = RunConfig(preset="smoke", **change).resolve()
        assert (one.digest() != other.digest()) == (other != one)


def test_command_makes_the_same_run():
    c = RunConfig(preset="smoke", depth=20, arch="plain", lr=0.05, augment=False).resolve()
    words = c.command().split(" -p ")[1:]
    again = RunConfig(**{k: eval(v, {}, {v: v}) for k, v in (w.split() for w in words)}).resolve()
    assert again.digest() == c.digest()


def test_namespace_of_a_notebook():
    import json

    values = {
        "depth": 20,
        "arch": "plain",
        "_private": 1,
        "json": json,
        "RunConfig": RunConfig,
        "In": [],
        "quit": print,
    }
    assert RunConfig.from_namespace(values) == RunConfig(depth=20, arch="plain")
    with pytest.raises(ConfigError, match="dpeth"):
        RunConfig.from_namespace({"depth": 20, "dpeth": 164})


def test_a_smoke_run_can_have_another_data_set_if_its_source_is_named():
    c = RunConfig(preset="smoke", dataset="cifar100", source="torchvision", device="cpu").resolve()
    assert c.folder("r").parts[2:4] == ("cifar100", "resnet-164")


def test_what_has_no_meaning_does_not_tell_runs_apart():
    one = RunConfig(preset="desk", device="cpu").resolve()
    for same in (
        {"project": False},
        {"project_every": 5},
        {"source": "npm"},
        {"source": "torchvision"},
        {"threads": 1},
    ):
        other = RunConfig(preset="desk", device="cpu", **same).resolve()
        assert (other.digest(), other.folder("r")) == (one.digest(), one.folder("r")), same
    few = {"preset": "desk", "device": "cpu", "train_images": 300, "test_images": 100}
    sample, real = (RunConfig(**few, source=source).resolve() for source in ("sample", None))
    assert sample.folder("r") != real.folder("r")


def test_the_command_makes_the_same_run_on_a_machine_that_would_choose_otherwise(monkeypatch):
    monkeypatch.setattr(configuration, "_fast_bfloat16", lambda device: True)
    c = RunConfig(preset="desk", device="cpu").resolve()
    words = [w.split() for w in c.command().split(" -p ")[1:]]
    digest = c.digest()
    monkeypatch.setattr(configuration, "_fast_bfloat16", lambda device: False)
    again = RunConfig(**{k: int(v) if v.isdigit() else v for k, v in words}).resolve()
    assert again.digest() == digest
    assert RunConfig(preset="desk", device="cpu").resolve().digest() != digest


def test_the_command_names_threads_and_device_that_the_machine_would_not_choose(monkeypatch):
    threads = torch.get_num_threads()
    assert "-p threads" not in RunConfig(preset="smoke").resolve().command()
    assert f"-p threads {threads + 1}" in RunConfig(preset="smoke", threads=threads + 1).resolve().command()
    assert "-p device cpu" in RunConfig(preset="smoke", device="cpu").resolve().command()


def test_other_protocols_are_named():
    said = RunConfig(preset="paper", lr=1.0, augment=False).resolve().left_out()
    assert "lr 1.0 instead of 0.1" in said
    assert "augment False instead of True" in said


def test_the_published_projector_names_a_run_of_its_own():
    exact, published = (
        RunConfig(preset="desk", arch="procresnet", projector=p, precision="bfloat16").resolve()
        for p in ("exact", "published")
    )
    assert published.network == "procresnet-166-published"
    assert published.digest() != exact.digest()
    assert published.folder("r").parts[:2] == ("r", "desk")
    # Without a projection there is nothing to do differently.
    for other in ({"arch": "resnet"}, {"arch": "procresnet", "project": False}):
        assert RunConfig(preset="desk", projector="published", **other).resolve().projector == "exact"


def test_committed_runs_lie_where_their_parameters_say():
    records = read_all(results_root())
    assert len(records) >= 5
    for record in records:
        assert record.folder.parts[-4:] == record.config.place().parts
        assert all(session.commit and not session.dirty for session in record.provenance.sessions)


def test_a_run_is_resolved_once(tmp_path, monkeypatch):
    """At the door, and for what the preset alone would be; however many epochs there are."""
    from paperlib.training import train

    counts = []
    resolve = RunConfig.resolve
    for epochs in (1, 4):
        calls = []
        monkeypatch.setattr(RunConfig, "resolve", lambda self, calls=calls: calls.append(1) or resolve(self))
        config = RunConfig(
            preset="smoke", depth=11, epochs=epochs, train_images=20, test_images=10, batch_size=20, seed=epochs
        )
        train(config, root=tmp_path, quiet=True)
        counts.append(len(calls))
    assert counts[0] == counts[1] <= 3


def test_a_record_of_another_machine_knows_its_folder_and_command():
    """A CUDA run, read where there is no CUDA."""
    values = dict(RunConfig(preset="paper", device="cpu").resolve()) | {"device": "cuda", "precision": "bfloat16"}
    run = ResolvedRun(**values)
    assert run.folder("r").as_posix() == "r/paper/cifar10/resnet-164/seed0"
    assert "-p device cuda" in run.command()
    with pytest.raises(ConfigError, match="not there"):
        RunConfig(device="cuda").resolve()
    # Asked for its folder, it is the same configuration as before, and a copy has a folder of its own.
    assert ResolvedRun(**dict(run)) == run
    assert run.model_copy(update={"lr": 0.5}).folder("r") != run.folder("r")


def test_the_command_names_a_source_that_the_preset_would_not_choose():
    run = RunConfig(preset="smoke", dataset="cifar100", source="auto", device="cpu").resolve()
    assert "-p source auto" in run.command()
    assert "-p source" not in RunConfig(preset="smoke", device="cpu").resolve().command()


# -- what the transitions are held at ------------------------------------------------------------------------------
def held(**values):
    return RunConfig(
        **{"preset": "desk", "arch": "procresnet", "depth": 20, "device": "cpu", "precision": "bfloat16"} | values
    ).resolve()


@pytest.mark.parametrize("other", [{"arch": "resnet"}, {"project": False}, {"projector": "published"}])
def test_only_held_transitions_are_held_elsewhere(other):
    with pytest.raises(ConfigError, match=r"hold_at 0.5 1 1 needs transitions that are held by the projection: give"):
        held(hold_at="0.5 1 1", **other)


def test_each_way_of_holding_has_a_name_and_a_folder_of_its_own():
    ways = {
        "procresnet-22": {},
        "procresnet-22-noproject": {"project": False},
        "procresnet-22-published": {"projector": "published"},
        "procresnet-22-fixed": {"projector": "fixed"},
        "procresnet-22-at0.5": {"hold_at": 0.5},
        "procresnet-22-at2": {"hold_at": 2},
        "procresnet-22-at2-1-1": {"hold_at": "2 1 1"},
        "procresnet-22-at1-2-1": {"hold_at": [1, 2, 1]},
        "procresnet-22-at0.1234567": {"hold_at": 0.1234567},
        "procresnet-22-at0.12345671": {"hold_at": 0.12345671},
        "procresnet-22-fixed-at2": {"projector": "fixed", "hold_at": 2},
    }
    runs = [held(**values) for values in ways.values()]
    assert [run.network for run in runs] == list(ways)
    assert [run.place().as_posix() for run in runs] == [f"desk/cifar10/{name}/seed0" for name in ways]
    assert len({run.digest() for run in runs}) == len(runs)
    assert held(hold_at="1 1 1").digest() == held().digest()
    # Where nothing is projected, it makes no difference how often.
    assert held(projector="fixed", project_every=8).digest() == held(projector="fixed").digest()


@pytest.mark.parametrize("given", [{"hold_at": 0.5}, {"hold_at": "0.5 1 1"}, {"projector": "fixed", "hold_at": 2}])
def test_the_command_makes_the_run_with_its_transitions_held_there_again(given):
    run = held(**given)
    words = shlex.split(run.command())
    options = {words[i + 1]: _value(words[i + 2]) for i, word in enumerate(words) if word == "-p"}
    assert RunConfig(**options).resolve().digest() == run.digest()


def test_what_the_transitions_are_held_at_is_a_departure_from_the_protocol():
    said = held(preset="paper", precision="float32", hold_at="0.5 1 1").left_out()
    assert said.startswith("This run used transitions held at 0.5, 1, 1 times the norm-preserving target: ")
    fixed = held(preset="paper", precision="float32", projector="fixed")
    assert fixed.left_out().startswith("This run used transitions that are not trained: ")
    assert not fixed.full_scale()
    assert held(preset="paper", precision="float32").left_out() == ""
