"""One run: its record, its resumption bit by bit, its ends (finished, diverged, interrupted), its faults."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
import torch.nn.functional as F
from tiny import RUN, data_of, tiny
from worker import Poison

from paperlib import checkpoints, cifar, fused, records, training
from paperlib.augmentation import normalise
from paperlib.config import RunConfig
from paperlib.errors import CheckpointError, ConfigError, PaperlibError, RecordError
from paperlib.events import FOLDER
from paperlib.probes import GradientNorms
from paperlib.processes import World
from paperlib.projection import spread
from paperlib.store import files, provenance
from paperlib.training import benchmark_step, steps, train, trained_network
from paperlib.training import run as running
from paperlib.training.run import Run


def folder_of(config, root):
    return config.resolve().folder(root)


def weights(folder):
    return checkpoints.read(folder, "cpu")


def same_run(a, b):
    """Weights, optimiser, and all tables of two finished runs, bit for bit."""
    assert a.epochs.equals(b.epochs)
    assert a.blocks.equals(b.blocks)
    assert a.initial.equals(b.initial)
    assert a.projections == b.projections
    one, two = weights(a.folder), weights(b.folder)
    assert one["model"].keys() == two["model"].keys()
    assert all(torch.equal(v, two["model"][k]) for k, v in one["model"].items())
    first, second = (w["optimizer"]["state"] for w in (one, two))
    assert all(torch.equal(v["momentum_buffer"], second[k]["momentum_buffer"]) for k, v in first.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One run that was never interrupted, for each kind that has state of its own."""
    made = {}

    def get(**changes):
        key = json.dumps(changes, sort_keys=True)
        if key not in made:
            made[key] = train(tiny(**changes), root=tmp_path_factory.mktemp("whole"), quiet=True)
        return made[key]

    return get


def test_the_record(whole):
    r = whole()
    assert r.status == "finished"
    assert list(r.epochs.epoch) == [1, 2, 3]
    assert list(r.epochs.lr) == pytest.approx([0.1, 0.1, 0.01])
    assert r.epochs[["train_loss", "test_loss", "grad_norm"]].gt(0).all().all()
    assert r.epochs[["train_error", "test_error"]].apply(lambda x: x.between(0, 100)).all().all()
    assert len(r.blocks) == 9
    assert (r.blocks.steps == 4).all()
    assert r.final["test_error"] == r.epochs.test_error.iloc[-1]
    assert r.config.device == "cpu"
    assert r.data.source == "sample"
    assert r.left_out.startswith("This run used 3 of 300 epochs")
    assert len(r.epoch_seconds) == 3
    assert r.spent.keys() == {"initial", "data", "step", "probe", "projection", "evaluation"}
    assert min(r.spent.values()) >= 0
    assert r.projections is None
    assert r == records.read(r.folder)
    assert not (r.folder / "progress.json").exists()


def test_the_ratios_before_the_first_update(whole):
    """They are those of the untrained network on the first epoch's batches, and measuring them changes nothing."""
    r = whole()
    config = r.config
    assert list(r.initial.name) == list(r.blocks.name[:3])
    assert (r.initial.steps == 4).all() and (r.initial.lost == 0).all()
    assert (r.initial.log_ratio_sd > 0).all()
    model, data = steps.make_network(config), data_of(config)
    run = Run(config, "", r.folder, data)
    images, labels = next(run.batches.of(1))
    with GradientNorms(model) as probe:
        F.cross_entropy(steps.logits(model, images, config), labels).backward()
    first = probe.ratios().double().log()
    assert (first - torch.tensor(r.initial.log_ratio)).abs().max() < 6 * r.initial.log_ratio_sd.max()
    x = model.stem(images) if hasattr(model, "stem") else images
    assert r.initial.variance[0] == pytest.approx(x.var(dim=(0, 2, 3)).mean().item(), rel=0.3)
    fresh = run.model.state_dict()
    before = {name: value.clone() for name, value in fresh.items()}
    run.measure_initial()
    assert run.state.initial[0]["log_ratio"] == r.initial.log_ratio[0]
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    assert all(p.grad is None for p in run.model.parameters())
    assert whole(probe_every=0).initial.empty


def test_no_more_than_eight_batches_are_taken_for_the_ratios_before_the_first_update(tmp_path):
    config = tiny(epochs=1, batch_size=4).resolve()
    run = Run(config, "", tmp_path, data_of(config))
    run.measure_initial()
    assert run.batches.steps == 10
    assert {row["steps"] for row in run.state.initial} == {8}


def test_the_training_error_without_augmentation(whole):
    """It is that of the final weights on as many training images as there are test images."""
    r = whole()
    data, n = data_of(r.config), r.config.test_images
    model = trained_network(r).eval()
    x = normalise(data.train_images[:n], data.mean, data.std).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        wrong = (steps.logits(model, x, r.config).argmax(1) != data.train_labels[:n]).float().mean().item()
    assert r.epochs.clean_train_error.iloc[-1] == pytest.approx(100 * wrong)
    assert r.final["clean_gap_max"] == (r.epochs.test_error - r.epochs.clean_train_error).max()


def test_projections_are_counted(whole):
    r = whole(arch="procresnet")
    assert (r.projections.done, r.projections.refused) == (3 * (12 // 2), 0)  # three kernels, every second of 12 steps
    assert r.spent["projection"] > 0


def test_the_same_run_twice_and_another_seed(whole, tmp_path):
    again = train(tiny(), root=tmp_path, quiet=True)
    same_run(whole(), again)
    other = train(tiny(seed=1, epochs=1), root=tmp_path, quiet=True)
    assert other.epochs.train_loss[0] != again.epochs.train_loss[0]


def test_the_users_random_stream_and_settings_are_left_alone(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    threads = torch.get_num_threads()
    train(tiny(epochs=1, threads=1), root=tmp_path, quiet=True)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_finished_run_is_not_repeated(whole, monkeypatch):
    r = whole()
    monkeypatch.setattr(training, "Run", None)
    assert train(tiny(), root=r.folder.parents[3], quiet=True) == r


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"arch": "procresnet", "probe_every": 3},
        {"probe_every": 0, "augment": False},
        {"arch": "procresnet", "hold_at": "0.5 1 2"},
        {"arch": "procresnet", "projector": "fixed"},
    ],
)
@pytest.mark.parametrize("after", [1, 2])
def test_killed_between_epochs(whole, tmp_path, monkeypatch, changes, after):
    """As if the process had died right after an epoch's checkpoint."""
    save = Run.save

    def die(self):
        save(self)
        if self.state.epoch == after + 1:
            raise Stop

    with monkeypatch.context() as m:
        m.setattr(Run, "save", die)
        with pytest.raises(Stop):
            train(tiny(**changes), root=tmp_path, quiet=True)
    resumed = train(tiny(**changes), root=tmp_path, quiet=True)
    assert len(resumed.provenance.sessions) == 2
    same_run(whole(**changes), resumed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [2, 5])
def test_signals_stop_within_an_epoch(whole, tmp_path, monkeypatch, number, at):
    """Ctrl-C and SIGTERM finish the step, save, and leave; the run goes on in the middle of the epoch."""
    changes = {"arch": "procresnet", "probe_every": 3}
    step, count = Run.step, iter(range(1, 100))

    def interrupted(self, *args):
        if next(count) == at:
            os.kill(os.getpid(), number)
        return step(self, *args)

    with monkeypatch.context() as m:
        m.setattr(Run, "step", interrupted)
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as e:
            train(tiny(**changes), root=tmp_path, quiet=True)
    if number == signal.SIGTERM:
        assert e.value.code == 143
    folder = folder_of(tiny(**changes), tmp_path)
    assert weights(folder)["state"]["step"] == (at - 1) % 4 + 1
    assert not (folder / records.Record.FILE).exists()
    same_run(whole(**changes), train(tiny(**changes), root=tmp_path, quiet=True))


def test_kill_minus_nine(whole, tmp_path):
    """A process killed without a chance to react, at a random moment, several times."""
    code = (
        "from paperlib.training import *; import sys; "
        f"train(RunConfig(**{RUN!r}, threads={torch.get_num_threads()}), root=sys.argv[1], quiet=True)"
    )
    checkpoint = folder_of(tiny(), tmp_path) / checkpoints.FILE
    killed = []
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        deadline = time.monotonic() + 120
        while process.poll() is None:
            assert time.monotonic() < deadline, process.kill()
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns > before:
                process.kill()
            time.sleep(0.005)
        killed.append(process.wait())
    # The first one had two more epochs to go.  The second may have been done before it was seen.
    assert killed[0] == -signal.SIGKILL
    assert killed[1] in (-signal.SIGKILL, 0)
    same_run(whole(), train(tiny(), root=tmp_path, quiet=True))


def test_divergence_is_a_result(tmp_path):
    """A rate that blows a plain network up: the run ends cleanly, says where, and is a record like any other."""
    r = train(tiny(arch="plain", lr=1e30, precision="float32"), root=tmp_path, quiet=True)
    assert r.status == "diverged"
    assert r.divergence.epoch >= 1
    assert r.divergence.block
    assert r.divergence.what in ("loss", "gradient")
    assert r == records.read(r.folder)
    assert train(tiny(arch="plain", lr=1e30, precision="float32"), root=tmp_path, quiet=True) == r


@pytest.mark.parametrize("where", ["stage2_block1", "stage3_block1"])
def test_divergence_names_the_block_that_went_first(tmp_path, monkeypatch, where):
    make = steps.make_network

    def broken(config):
        model = make(config)
        torch.nn.init.constant_(model.chain[where].conv3.weight, float("inf"))
        return model

    monkeypatch.setattr(steps, "make_network", broken)
    r = train(tiny(), root=tmp_path, quiet=True)
    assert (r.divergence.block, r.divergence.epoch, r.divergence.step) == (where, 1, 1)
    assert r.final == {}
    assert math.isnan(r.epochs.test_error.iloc[-1])


def test_divergence_in_the_gradient_alone(tmp_path, monkeypatch):
    make = steps.make_network

    def broken(config):
        model = make(config)
        model.chain["stage2_block1"].register_forward_pre_hook(lambda m, args: (Poison.apply(args[0]),))
        return model

    monkeypatch.setattr(steps, "make_network", broken)
    r = train(tiny(), root=tmp_path, quiet=True)
    assert r.divergence.what == "gradient"
    # The gradient is whole at the input of the poisoned block as its hook saw it, and bad from the block before on.
    assert r.divergence.block in ("stage1_block1", "stage2_block1")


@pytest.mark.parametrize("processes", [1, 2])
def test_fused_kernels_are_used_where_the_record_says_so(tmp_path, monkeypatch, processes):
    monkeypatch.setattr(fused, "available", lambda device: True)
    world = World()
    world.size = processes
    config = tiny().resolve()
    run = Run(config, "", tmp_path, data_of(config), world)
    run.device = torch.device("cuda")
    used = {block.module.fused for block in run.model.blocks}
    assert used == {run.shortcuts()["fused"] == "yes"} == {processes == 1}


def test_damaged_checkpoints_are_refused(whole, tmp_path):
    source = whole().folder / checkpoints.FILE
    folder = folder_of(tiny(), tmp_path)
    folder.mkdir(parents=True)
    good = source.read_bytes()
    for bad in (good[:1000], b"", good[:-1], good[:5000] + b"x" + good[5001:]):
        (folder / checkpoints.FILE).write_bytes(bad)
        with pytest.raises(CheckpointError, match="damaged: delete it"):
            train(tiny(), root=tmp_path, quiet=True)
        assert (folder / checkpoints.FILE).read_bytes() == bad
        assert not (folder / records.Record.FILE).exists()


def test_a_checkpoint_or_record_of_another_run_is_refused(whole, tmp_path):
    other = folder_of(tiny(lr=0.05), tmp_path)
    other.mkdir(parents=True)
    (other / checkpoints.FILE).write_bytes((whole().folder / checkpoints.FILE).read_bytes())
    with pytest.raises(CheckpointError, match=r"belongs to another run \(lr 0.1 instead of 0.05\)"):
        train(tiny(lr=0.05), root=tmp_path, quiet=True)
    records.save(records.read(whole().folder), other)
    with pytest.raises(RecordError, match=r"another run \(lr 0.1 instead of 0.05\)"):
        train(tiny(lr=0.05), root=tmp_path, quiet=True)


def test_foreign_content_under_a_right_checksum_is_refused(tmp_path):
    import hashlib
    import io

    folder = folder_of(tiny(), tmp_path)
    folder.mkdir(parents=True)
    for foreign in ({"a": 1}, [1, 2]):
        buffer = io.BytesIO()
        torch.save(foreign, buffer)
        payload = buffer.getvalue()
        (folder / checkpoints.FILE).write_bytes(hashlib.sha256(payload).digest() + payload)
        with pytest.raises(CheckpointError, match="not a checkpoint of this library"):
            train(tiny(), root=tmp_path, quiet=True)


def test_long_epochs_are_saved_on_the_way_and_scraps_are_removed(whole, tmp_path, monkeypatch):
    folder = folder_of(tiny(), tmp_path)
    folder.mkdir(parents=True)
    (folder / ".checkpoint.pt.scrap.tmp").write_text("half-written")
    saved, save = [], Run.save
    monkeypatch.setattr(running, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(Run, "save", lambda self: (saved.append(self.state.step), save(self)))
    same_run(whole(), train(tiny(), root=tmp_path, quiet=True))
    assert saved == [1, 2, 3, 4, 0] * 3
    assert not (folder / ".checkpoint.pt.scrap.tmp").exists()


def test_an_interrupted_run_says_that_it_can_go_on(tmp_path, monkeypatch, capsys):
    step = Run.step
    monkeypatch.setattr(Run, "step", lambda self, *a: (os.kill(os.getpid(), signal.SIGINT), step(self, *a))[1])
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), root=tmp_path)
    assert "run it again to go on" in capsys.readouterr().err


def test_a_checkpoint_cannot_run_code(tmp_path):
    import hashlib
    import io

    class Evil:
        def __reduce__(self):
            return (os.system, ("touch " + str(tmp_path / "pwned"),))

    buffer = io.BytesIO()
    torch.save(Evil(), buffer)
    folder = folder_of(tiny(), tmp_path)
    folder.mkdir(parents=True)
    payload = buffer.getvalue()
    (folder / checkpoints.FILE).write_bytes(hashlib.sha256(payload).digest() + payload)
    with pytest.raises(CheckpointError, match="damaged"):
        train(tiny(), root=tmp_path, quiet=True)
    assert not (tmp_path / "pwned").exists()


def test_a_full_disk_at_a_checkpoint(tmp_path, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(files.os, "fsync", full)
        with pytest.raises(CheckpointError, match="No space left on device.*PAPERLIB_RUNS"):
            train(tiny(epochs=1), root=tmp_path, quiet=True)
    folder = folder_of(tiny(epochs=1), tmp_path)
    assert [p.name for p in folder.iterdir() if p.name not in (".lock", FOLDER)] == []
    assert train(tiny(epochs=1), root=tmp_path, quiet=True).status == "finished"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PaperlibError, match="cannot be written.*PAPERLIB_RUNS"):
        train(tiny(), root=tmp_path / "file", quiet=True)


def test_two_processes_do_not_train_the_same_run(tmp_path, monkeypatch):
    started, finish = threading.Event(), threading.Event()
    go = Run.go

    def slow(self, quiet):
        started.set()
        finish.wait(60)
        return go(self, quiet)

    monkeypatch.setattr(Run, "go", slow)
    first = threading.Thread(target=lambda: train(tiny(epochs=1), root=tmp_path, quiet=True))
    first.start()
    started.wait(60)
    with pytest.raises(PaperlibError, match="another process"):
        train(tiny(epochs=1), root=tmp_path, quiet=True)
    finish.set()
    first.join()
    assert records.read(folder_of(tiny(epochs=1), tmp_path)).status == "finished"


def test_data_faults_reach_the_user_as_they_are(tmp_path, monkeypatch):
    def missing(*args, **kwargs):
        raise PaperlibError("no data")

    monkeypatch.setattr(cifar, "load", missing)
    with pytest.raises(PaperlibError, match="no data"):
        train(tiny(), root=tmp_path, quiet=True)


def test_precision_and_format_reach_the_network(tmp_path):
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        for memory_format in ("contiguous", "channels_last"):
            step = benchmark_step("resnet", 11, torch.zeros(4, 3, 32, 32), torch.zeros(4, dtype=torch.long),
                                  precision=precision, memory_format=memory_format)  # fmt: skip
            seen = []
            step.model.chain["stage1_block1"].conv2.register_forward_hook(lambda m, i, o, seen=seen: seen.append(o))
            step()
            assert seen[0].dtype == dtype
            last = seen[0].is_contiguous(memory_format=torch.channels_last)
            assert last == (memory_format == "channels_last")


def test_a_step_is_sgd_with_momentum_and_weight_decay():
    """Against torch's plain, unfused optimiser on the same network."""
    torch.manual_seed(0)
    x, y = torch.rand(8, 3, 32, 32), torch.arange(8)
    step = benchmark_step("resnet", 11, x, y, precision="float32")
    import copy

    model = copy.deepcopy(step.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, foreach=False, fused=False)
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x.contiguous(memory_format=torch.channels_last)), y)
        loss.backward()
        optimizer.step()
        assert step() == pytest.approx(loss.item(), rel=1e-5)


def test_depth_1001_takes_a_step():
    """Recomputing activations; two images, to keep the test short (batch 128 is benchmarks/memory.py)."""
    config = RunConfig(preset="smoke", depth=1001, checkpoint_activations=True).resolve()
    model = steps.make_network(config)
    optimizer = steps.make_optimizer(config, model)
    before = model.fc.weight.detach().clone()
    loss, _, norm, finite = steps.backward(model, optimizer, torch.randn(2, 3, 32, 32), torch.tensor([1, 2]), config)
    optimizer.step()
    assert finite
    assert norm > 0
    assert math.isfinite(loss)
    assert not torch.equal(model.fc.weight, before)


def test_a_procresnet_that_blows_up_is_a_divergence(tmp_path):
    """Its projection fails first: a kernel that is not finite or has lost its rank."""
    config = tiny(arch="procresnet", lr=1e6, precision="float32")
    r = train(config, root=tmp_path, quiet=True)
    assert r.status == "diverged"
    assert r.divergence.block in {b.name for b in steps.make_network(config.resolve()).blocks} | {"head", "stem"}
    assert r == records.read(r.folder)


def test_a_record_with_a_loss_that_is_not_finite_reads_back(tmp_path):
    config = tiny(epochs=1, train_images=50, batch_size=128, lr=1e4, precision="float32")
    r = train(config, root=tmp_path, quiet=True)
    assert r == records.read(r.folder)
    assert train(config, root=tmp_path, quiet=True) == r


def test_a_large_finite_gradient_is_no_divergence():
    config = RunConfig(preset="smoke", depth=11, precision="float32").resolve()
    model = steps.make_network(config)
    optimizer = steps.make_optimizer(config, model)
    with torch.no_grad():
        model.fc.weight.mul_(1e25)
    loss, _, norm, finite = steps.backward(model, optimizer, torch.randn(4, 3, 32, 32), torch.arange(4), config)
    assert finite
    assert math.isfinite(loss)
    assert norm > 1e20


def test_the_trained_network_of_a_run(whole, tmp_path):
    record = whole()
    model, stored = trained_network(record), weights(record.folder)["model"]
    assert model.state_dict().keys() == stored.keys()
    assert all(torch.equal(v, stored[k]) for k, v in model.state_dict().items())
    # Its own figures: the last epoch's test error, from the weights alone.
    c = record.config
    data = data_of(c)
    with torch.no_grad():
        logits = model.eval()(normalise(data.test_images, data.mean, data.std))
    error = 100 * (logits.argmax(1) != data.test_labels).double().mean().item()
    assert error == pytest.approx(record.final["test_error"], abs=2.1)  # one image, should the activations be bfloat16
    moved = records.read(records.save(record.model_copy(), tmp_path / "elsewhere"))
    with pytest.raises(CheckpointError, match="weights are not there.*papermill"):
        trained_network(moved)


def test_the_published_projector_trains_and_differs(whole, tmp_path):
    published = whole(arch="procresnet", projector="published")
    assert published.network == "procresnet-13-published"
    assert not published.epochs.equals(whole(arch="procresnet").epochs)
    first = trained_network(published).chain["transition1"].weight.square().sum((0, 1))
    assert (first[0, 0] / first.sum()).item() > 0.5  # the conjugation leaves the corner tap


def transitions(record):
    """The three kernels of a finished run, each with its smallest and largest singular value over the target."""
    model = trained_network(record)
    convs = model.transition_convs()
    return [conv.weight for conv, _ in convs], [spread(conv.weight, n, conv.stride[0]) for conv, n in convs]


def test_transitions_are_held_at_a_multiple_of_the_target(whole):
    record = whole(arch="procresnet", hold_at="0.5 1 2")
    assert record.network == "procresnet-13-at0.5-1-2"
    assert records.read(record.folder).config.hold_at == (0.5, 1.0, 2.0)
    _, values = transitions(record)  # the last step was followed by a projection
    assert values[0] == pytest.approx((0.5, 0.5), rel=0.25)  # the crop of a 3x3 kernel
    assert values[1] == pytest.approx((1, 1), abs=1e-4) and values[2] == pytest.approx((2, 2), abs=1e-4)
    start = steps.make_network(record.config).transition_convs()[2][0].weight
    other = steps.make_network(whole(arch="procresnet").config).transition_convs()[2][0].weight
    assert torch.equal(start, 2 * other)


def test_fixed_transitions_are_set_once_and_not_trained(whole):
    record = whole(arch="procresnet", projector="fixed")
    assert record.network == "procresnet-13-fixed"
    kernels, values = transitions(record)
    start = [conv.weight for conv, _ in steps.make_network(record.config).transition_convs()]
    assert all(torch.equal(a, b) for a, b in zip(kernels, start, strict=True))
    assert all(value == pytest.approx((1, 1), abs=1e-3) for value in values)
    free = whole(arch="procresnet")
    assert record.parameters == free.parameters - sum(kernel.numel() for kernel in kernels)
    assert record.projections is None and len(record.blocks) == len(free.blocks)
    assert (record.blocks.lost == 0).all()


def test_every_session_of_a_resumed_run_is_on_record(tmp_path, monkeypatch):
    """Begun at one commit with one number of threads, finished at another with another."""
    save = Run.save

    def die(self):
        save(self)
        raise Stop

    with monkeypatch.context() as m:
        m.setattr(Run, "save", die)
        m.setattr(provenance, "git_state", lambda: ("a" * 40, True))
        with pytest.raises(Stop):
            train(tiny(threads=1), root=tmp_path, quiet=True)
    monkeypatch.setattr(provenance, "git_state", lambda: ("b" * 40, False))
    with pytest.warns(UserWarning, match="started with 1 threads and goes on with 2: .*errors will not be"):
        record = train(tiny(threads=2), root=tmp_path, quiet=True)
    first, second = record.provenance.sessions
    assert (first.commit, first.dirty, first.threads) == ("a" * 40, True, 1)
    assert (second.commit, second.dirty, second.threads) == ("b" * 40, False, 2)
    assert first.seconds > 0 and second.seconds > 0 and first.started <= second.started
    assert record.provenance.short_commit == "aaaaaaaa+, bbbbbbbb"
    assert records.read(record.folder) == record


def test_the_command_of_a_record_names_its_threads(tmp_path):
    other = 1 if torch.get_num_threads() > 1 else 2
    record = train(tiny(threads=other), root=tmp_path, quiet=True)
    assert f"-p threads {other}" in record.provenance.command
    assert record.provenance.threads == other


def test_a_checkpoint_from_before_a_parameter_existed_is_of_the_same_run(whole, tmp_path):
    """What it lacks has its default; records are compared in the same way."""
    folder = train(tiny(), root=tmp_path, quiet=True).folder
    content = weights(folder)
    del content["config"]["project_every"]
    checkpoints.write(folder, content)
    (folder / records.Record.FILE).unlink()
    same_run(whole(), train(tiny(), root=tmp_path, quiet=True))


def test_a_checkpoint_of_another_run_has_not_these_weights(tmp_path):
    one, two = (train(tiny(epochs=1, seed=seed), root=tmp_path, quiet=True) for seed in (0, 1))
    (one.folder / checkpoints.FILE).write_bytes((two.folder / checkpoints.FILE).read_bytes())
    with pytest.raises(CheckpointError, match=r"belongs to another run \(seed 1 instead of 0\)"):
        trained_network(one)


@pytest.mark.parametrize("wrong", [{"depth": 20}, "smoke"])
def test_a_run_is_a_run(wrong):
    with pytest.raises(ConfigError, match="a RunConfig is needed, not .*: write RunConfig"):
        train(wrong)
