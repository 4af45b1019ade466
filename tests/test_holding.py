"""NormPreserving in networks: any optimiser, compiled, distributed, in mixed precision; what it refuses and leaves."""

import copy
import math
import pickle
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations, parametrize, prune

from paperlib import models, projection, published
from paperlib.errors import ProjectionError
from paperlib.holding import Exact
from paperlib.probes import GradientNorms
from paperlib.projection import NormPreserving, spread, target

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw, foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "adamw, fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.01, max_iter=2),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 24, 1, stride=2), nn.Flatten()
    )


HELD = [("0", 8), ("3", 4)]


def loss(model):
    return model(torch.randn(4, 3, 8, 8)).square().mean()


def step(model, optimizer):
    def closure():
        optimizer.zero_grad()
        value = loss(model)
        value.backward()
        return value

    optimizer.step(closure)


def distance(held):
    rows = held.describe()
    return max(max(1 - r["lowest"], r["highest"] - 1) for r in rows)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("every", [1, 2, 3])
def test_any_optimiser_is_followed(name, every):
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    with NormPreserving(model, every, HELD).attach(optimizer) as held:
        for i in range(1, 2 * every + 1):
            step(model, optimizer)
            assert (distance(held) < 1e-5) == (i % every == 0)
    assert held.steps == 2 * every
    step(model, optimizer)
    assert held.steps == 2 * every  # detached
    assert distance(held) > 1e-5


def test_attached_twice_projects_once_and_resumes_where_it_was():
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    held = NormPreserving(model, 2, HELD).attach(optimizer)
    held.attach(optimizer)
    step(model, optimizer)
    assert held.steps == 1
    again = NormPreserving(model, 2, HELD)
    again.load_state_dict(held.state_dict())
    held.detach()
    again.attach(optimizer)
    step(model, optimizer)
    assert distance(again) < 1e-5
    third = NormPreserving(model, 2, HELD)
    third.load_state_dict(again.state_dict())
    assert third.counts() == again.counts() == {"done": len(HELD), "refused": 0}


def test_a_skipped_step_does_not_count():
    """As a gradient scaler does it that found an overflow."""
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    scaler = torch.amp.GradScaler("cpu")
    with NormPreserving(model, 1, HELD).attach(optimizer) as held:
        for bad in (False, True):
            optimizer.zero_grad()
            scaler.scale(loss(model) * (math.inf if bad else 1)).backward()
            scaler.step(optimizer)
            scaler.update()
        assert held.steps == 1


def test_export_is_a_plain_projected_copy():
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    held = NormPreserving(model, 2, HELD).attach(optimizer)
    for _ in range(3):
        step(model, optimizer)
    before = copy.deepcopy(model.state_dict())
    plain = held.export()
    assert type(plain) is type(model)
    assert plain.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert distance(NormPreserving(plain, 2, HELD)) < 1e-5 < distance(held)
    loss(plain).backward()


@pytest.mark.parametrize("when", ["before", "after"])
def test_compiled(when):
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    if when == "before":
        model.compile(backend="aot_eager")
    held = NormPreserving(model, 1, HELD).attach(optimizer)
    if when == "after":
        model.compile(backend="aot_eager")
    for _ in range(2):
        step(model, optimizer)
    assert distance(held) < 1e-5


def test_mixed_precision_and_recomputed_activations():
    model = models.build("procresnet", 11)
    model.checkpoint_activations = True
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    with NormPreserving(model, 1).attach(optimizer) as held:
        with torch.autocast("cpu", torch.bfloat16):
            value = model(torch.randn(4, 3, 32, 32)).square().mean()
        value.backward()
        optimizer.step()
    assert [max(1 - r["lowest"], r["highest"] - 1) < 1e-5 for r in held.describe()] == [False, True, True]


def test_bfloat16_weights_are_held_as_well_as_they_can_be():
    model = network().to(torch.bfloat16)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    with NormPreserving(model, 1, HELD).attach(optimizer) as held:
        model(torch.randn(4, 3, 8, 8).bfloat16()).square().mean().backward()
        optimizer.step()
    assert distance(held) < 0.01


def _train(rank: int, path: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}/meet", rank=rank, world_size=2)
    model = DistributedDataParallel(network())
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    torch.manual_seed(rank)  # other images on each
    with NormPreserving(model, 2, HELD).attach(optimizer) as held:
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.randn(4, 3, 8, 8)).square().mean().backward()
            optimizer.step()
    torch.save({"weights": model.module.state_dict(), "off": distance(held)}, f"{path}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_distributed(tmp_path):
    multiprocessing.spawn(_train, (str(tmp_path),), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name in ("0.weight", "3.weight"):
        assert torch.equal(one["weights"][name], two["weights"][name])
    assert one["off"] < 1e-5


@pytest.mark.parametrize("fill", [math.nan, 0.0])
def test_a_kernel_that_cannot_be_projected_is_named_and_left(fill):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    held = NormPreserving(model, 1, HELD).attach(optimizer)
    with torch.no_grad():
        model[0].weight.fill_(fill)
    before = model[0].weight.clone()
    with pytest.raises(ProjectionError, match="kernel of 0 could not be projected") as raised:
        optimizer.step()
    assert raised.value.names == ["0"]
    assert torch.equal(model[0].weight.nan_to_num(7), before.nan_to_num(7))
    assert spread(model[3].weight, 4, 2) == pytest.approx((1, 1), abs=1e-5)  # the other one is done
    with torch.no_grad():
        model[0].weight.normal_()
    optimizer.step()  # mended: goes on
    assert distance(held) < 1e-5
    assert held.counts() == {"done": 3, "refused": 1}
    again = NormPreserving(model, 1, HELD)
    again.load_state_dict(held.state_dict())
    assert again.counts() == held.counts()
    assert held.seconds > 0


def test_a_torchvision_network_from_an_example():
    model = torchvision.models.resnet18(num_classes=10)
    with pytest.warns(UserWarning, match="a normalisation directly after each of them cancels the scale: equal"):
        held = NormPreserving(model, example=torch.zeros(2, 3, 64, 64))
    assert [t.name for t in held.convs] == ["conv1"] + [f"layer{i}.0.downsample.0" for i in (2, 3, 4)]
    others = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and m not in [t.conv for t in held.convs]]
    assert [name for name, _ in held.passed_over] == others
    assert held.normalised == [t.name for t in held.convs]
    said = str(held).splitlines()
    assert said[0] == "NormPreserving(ResNet, every=2) holds 4 of 20 convolutions:"
    shown = "layer2.0.downsample.0 64->128 1x1/2 8x8 1.414 "
    assert said[3].startswith("  ") and " ".join(said[3].split()).startswith(shown)
    assert len({len(line) for line in said[1:6]}) == 1 and len(said[1]) < 73  # a book's column
    assert "cancels the scale" in said[6]
    assert said[7:] == [
        "  passed over: each of 10 convolutions: a path without convolutions leads around it",
        "  passed over: each of 6 convolutions: a path with fewer convolutions leads around it",
    ]
    held.project()
    assert all(line.endswith("1.00 to 1.00") for line in str(held).splitlines()[3:6])
    assert all(r["lowest"] == pytest.approx(1, abs=1e-5) == r["highest"] for r in held.describe()[1:])


def test_behind_a_procresnet_s_transitions_a_skip_carries_the_scale_on():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held = NormPreserving(models.build("procresnet", 11), example=torch.zeros(1, 3, 32, 32))
    assert len(held.convs) == 3 and held.normalised == []


def test_what_cannot_be_held_is_passed_over_and_said():
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 8, 3, dilation=2), nn.Conv2d(8, 6, 1), nn.Flatten()
    )
    held = NormPreserving(model, example=torch.zeros(1, 4, 16, 16))
    assert [t.name for t in held.convs] == ["2"]
    assert held.passed_over == [("0", "it has 2 groups"), ("1", "it is dilated: (2, 2)")]
    assert "passed over: 0: it has 2 groups" in str(held)


@pytest.mark.parametrize(
    ("conv", "size", "said"),
    [
        (nn.Conv2d(16, 32, 1, groups=4), 8, "4 groups"),
        (nn.ConvTranspose2d(16, 32, 1), 8, "not a Conv2d"),
        (nn.Linear(4, 4), 8, "not a Conv2d"),
        (nn.LazyConv2d(4, 1), 8, "it is lazy"),
        (nn.Conv2d(4, 4, 1, device="meta"), 8, "meta device"),
        (nn.Conv2d(4, 4, 1, stride=(1, 2)), 8, "stride differs"),
        (nn.Conv2d(4, 4, 3, dilation=2), 8, "dilated"),
        (nn.Conv2d(4, 4, 3), 8.0, "size must be"),
        (nn.Conv2d(4, 4, 3), 0, "size must be"),
    ],
)
def test_what_cannot_be_held_is_refused_at_once(conv, size, said):
    with pytest.raises(ValueError, match=said):
        NormPreserving(nn.Sequential(conv), convs=[(conv, size)])


def test_a_kernel_made_in_inference_mode_cannot_be_held():
    with torch.inference_mode():
        model = nn.Sequential(nn.Conv2d(4, 8, 1))
    with pytest.raises(ValueError, match=r"0 cannot be held: its weight was made in torch\.inference_mode"):
        NormPreserving(model, convs=[("0", 8)])


def test_a_functional_call_is_another_network_and_leaves_the_held_one_as_it_is():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten())
    held = NormPreserving(model, convs=[("0", 4)], start="projected")
    given = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    before, images = model[0].weight.detach().clone(), torch.randn(2, 3, 4, 4)
    with held.attach(torch.optim.SGD(model.parameters(), lr=0.1)):
        out = torch.func.functional_call(model, given, images)
    assert torch.equal(out, torch.nn.functional.conv2d(images, given["0.weight"], given["0.bias"]).flatten(1))
    assert torch.equal(model[0].weight, before) and held.steps == 0


def test_frozen_kernels_are_left_alone_and_said():
    model = torchvision.models.resnet18(num_classes=10).requires_grad_(False)
    model.layer4.requires_grad_(True)
    before = copy.deepcopy(model.state_dict())
    held = NormPreserving(model, every=1, example=torch.zeros(1, 3, 64, 64))
    assert [t.name for t in held.convs] == ["layer4.0.downsample.0"]
    frozen = ["conv1", "layer2.0.downsample.0", "layer3.0.downsample.0"]
    assert [name for name, why in held.passed_over if "frozen" in why] == frozen
    assert f"passed over: each of {', '.join(frozen)}: it is frozen" in str(held)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.0)
    with held.attach(optimizer):
        optimizer.step()
    changed = [k for k, v in model.state_dict().items() if not torch.equal(v, before[k])]
    assert changed == ["layer4.0.downsample.0.weight"]
    with pytest.raises(ValueError, match="conv1 cannot be held: it is frozen"):
        NormPreserving(model, convs=[("conv1", 32)])


def test_an_optimiser_that_trains_only_some_of_the_kernels_is_refused():
    model = network()
    held = NormPreserving(model, convs=HELD)
    with pytest.raises(ValueError, match="does not train the held kernel of 3:"):
        held.attach(torch.optim.SGD(model[0].parameters(), lr=0.1))


@pytest.mark.parametrize("how", ["prune", "weight_norm", "spectral_norm", "parametrized", "parametrized spectral_norm"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_kernels_that_are_made_anew_before_each_call_are_passed_over(how):
    model = torchvision.models.resnet18(num_classes=10)
    conv = model.layer2[0].downsample[0]
    if how == "prune":
        prune.l1_unstructured(conv, "weight", amount=0.3)
    elif how == "parametrized":
        parametrize.register_parametrization(conv, "weight", nn.Identity())
    elif how == "parametrized spectral_norm":
        parametrizations.spectral_norm(conv)
    else:
        getattr(torch.nn.utils, how)(conv)
    held = NormPreserving(model, example=torch.zeros(1, 3, 64, 64))
    assert [name for name, why in held.passed_over if "made anew" in why] == ["layer2.0.downsample.0"]
    assert "passed over: layer2.0.downsample.0: its weight is made anew" in str(held)
    with pytest.raises(ValueError, match="layer2.0.downsample.0 cannot be held: its weight is made anew"):
        NormPreserving(model, convs=[("layer2.0.downsample.0", 8)])


class Renamed(nn.Conv2d):
    pass


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Padded(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(nn.functional.pad(x, (1, 1)), weight, bias)


def test_a_subclass_is_held_if_it_is_the_same_map():
    model = nn.Sequential(Renamed(3, 4, 1), Doubled(4, 4, 1), Padded(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    model[3].forward = model[3].forward  # as a library does that wraps it
    parametrize.register_parametrization(model[4], "bias", nn.Identity())
    held = NormPreserving(model, 1, example=torch.zeros(1, 3, 8, 8))
    assert [t.name for t in held.convs] == ["0", "4"]
    assert [why.partition(",")[0] for _, why in held.passed_over] == [
        f"it is a {kind} with a forward of its own" for kind in ("Doubled", "Padded", "Conv2d")
    ]
    held.project()
    assert distance(held) < 1e-5


def test_a_kernel_of_two_convolutions_is_held_once():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    model[1].weight = model[0].weight
    held = NormPreserving(model, example=torch.zeros(1, 4, 8, 8))
    assert [t.name for t in held.convs] == ["0"]
    assert held.passed_over == [("1", "it shares the kernel of 0")]


def test_where_there_is_nothing_to_hold_the_reasons_are_given():
    """And what there is in the place of a Conv2d."""
    block = torchvision.models.resnet.BasicBlock(4, 4)
    meta = nn.Conv2d(3, 3, 1, device="meta")
    series = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Conv1d(4, 4, 3))
    for model, shape, said in (
        (series, (1, 3, 9), "each of 0, 1: it is a Conv1d, not a Conv"),
        (nn.Sequential(nn.Conv3d(3, 4, 3), nn.Linear(2, 2)), (1, 3, 4, 4, 4), "0: it is a Conv3d.*; 1: it is a Linear"),
        (nn.Sequential(nn.Flatten(), *(nn.Linear(4, 4) for _ in range(4))), (1, 1, 2, 2), "each of 4 layers: it is a"),
        (nn.Sequential(nn.ReLU()), (1, 3, 4, 4), "it has none"),
        (block, (1, 4, 8, 8), "each of conv1, conv2: a path without convolutions leads around it"),
        (nn.Sequential(meta), (1, 3, 4, 4), "0: its weight is on the meta device"),
    ):
        example = torch.zeros(shape, device=next((p.device for p in model.parameters()), "cpu"))
        with pytest.raises(ValueError, match=rf"no convolution that could be held \(.*{said}"):
            NormPreserving(model, example=example)


def test_wrapped_models_are_held_by_their_own_names(tmp_path):
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    example = torch.zeros(1, 3, 8, 8)
    compiled = torch.compile(model, backend="aot_eager")
    held = NormPreserving(compiled, 1, example=(example,)).attach(optimizer)
    assert [t.name for t in held.convs] == ["0", "3"]
    step(compiled, optimizer)
    assert distance(held) < 1e-5
    assert type(held.export()) is nn.Sequential
    held.detach()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        held = NormPreserving(DistributedDataParallel(model), 1, example={"input": example})
        assert [t.name for t in held.convs] == ["0", "3"]
    finally:
        torch.distributed.destroy_process_group()


def test_an_export_under_a_probe_is_plain(tmp_path):
    model = models.build("procresnet", 11)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    x = torch.randn(2, 3, 32, 32)
    with GradientNorms(model) as probe, NormPreserving(model).attach(optimizer) as held:
        model(x).square().mean().backward()
        before = probe.norms().clone()
        plain = held.export()
        (1000 * plain(x)).square().mean().backward()
        assert torch.equal(probe.norms(), before)
        assert probe.averages()[0]["steps"] == 1
    torch.save(plain, tmp_path / "plain.pt")


def test_an_example_that_does_not_fit_is_explained():
    model = torchvision.models.resnet18()
    for example, said in (
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "floating-point tensor.*uint8"),
        ((1, 3, 64, 64), "not a tuple of"),
        (torch.zeros(1, 4, 64, 64), r"cannot be run on the example of shape \(1, 4, 64, 64\)"),
    ):
        with pytest.raises(ValueError, match=said):
            NormPreserving(model, example=example)
    with pytest.raises(ValueError, match=r"no convolution that could be held \(0: it is dilated"):
        NormPreserving(nn.Sequential(nn.Conv2d(3, 3, 3, dilation=2)), example=torch.zeros(1, 3, 9, 9))


@pytest.mark.parametrize("state", [{}, {"steps": -5}, {"steps": 3.7}, {"steps": 1, "refused": -1}, None])
def test_a_state_that_is_none_is_refused(state):
    with pytest.raises(ValueError, match="state of NormPreserving"):
        NormPreserving(network(), 2, HELD).load_state_dict(state)


def test_convolutions_are_named_or_given_and_belong_to_the_model():
    model = nn.Sequential(nn.Conv2d(4, 8, (3, 1)))
    for item in (("0", 8), (model[0], (8, 8)), ("0", model[0], 8)):
        held = NormPreserving(model, convs=[item])
        assert (held.convs[0].name, held.convs[0].conv, held.convs[0].size) == ("0", model[0], (8, 8))
    for wrong, said in (
        ([model[0]], "pairs"),
        ([("1", 8)], "no submodule"),
        ([(nn.Conv2d(4, 8, 1), 8)], "not a submodule"),
        ([], "no stand-alone"),
        ([("0", 8), (model[0], 4)], "0 is listed twice"),
    ):
        with pytest.raises(ValueError, match=said):
            NormPreserving(model, convs=wrong)


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2"])
def test_every_is_a_whole_number(every):
    with pytest.raises(ValueError, match="every"):
        NormPreserving(network(), every, HELD)


def test_networks_and_optimisers_that_do_not_fit():
    with pytest.raises(ValueError, match="example batch.*convs="):
        NormPreserving(models.build("resnet", 11))
    with pytest.raises(ValueError, match="not both"):
        NormPreserving(network(), convs=HELD, example=torch.zeros(1, 3, 8, 8))
    held = NormPreserving(network(), convs=HELD)
    with pytest.raises(ValueError, match="trains none"):
        held.attach(torch.optim.SGD(network().parameters(), lr=0.1))
    with pytest.raises(ValueError, match="torch.optim.Optimizer"):
        held.attach(object())


def test_relu_and_targets():
    model = network()
    plain, relu = (NormPreserving(model, convs=HELD, relu=r).describe()[0] for r in (False, True))
    assert relu["target"] == pytest.approx(math.sqrt(2) * plain["target"]) == math.sqrt(2) * target((12, 3, 1, 1))


def test_the_projector_is_handed_in():
    model = models.build("procresnet", 11, project=False)
    assert isinstance(NormPreserving(model).projector, Exact)
    projector = published.Projector()
    held = NormPreserving(model, projector=projector)
    assert held.projector is projector
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    first = model.chain["transition1"].weight
    with held.attach(optimizer):
        for _ in range(4):
            model(torch.randn(4, 3, 32, 32)).square().mean().backward()
            optimizer.step()
    energy = first.detach().square().sum((0, 1))
    assert (energy[0, 0] / energy.sum()).item() > 0.9
    with pytest.raises(ValueError, match="not both"):
        NormPreserving(model, method="eigh", projector=projector)
    with pytest.raises(ValueError, match="choose one of eigh, newton-schulz"):
        NormPreserving(model, method="svd")


def test_an_export_is_projected_by_the_same_projector():
    class Halving:
        def __call__(self, weight, size, stride, relu):
            return weight / 2, torch.tensor(True)

        def due(self, step, every):
            return step == 3

    model = network()
    before = model[0].weight.detach().clone()
    held = NormPreserving(model, convs=HELD, projector=Halving())
    assert torch.equal(held.export()[0].weight, before / 2)
    for _ in range(4):
        held.step()
    assert torch.equal(model[0].weight, before / 2)


IN_EITHER_ORDER = """
import sys
for first in ("holding", "projection"):
    for name in ("holding", "projection"):
        sys.modules.pop(f"paperlib.{name}", None)
    __import__(f"paperlib.{first}")
    from paperlib.holding import NormPreserving
    from paperlib.projection import NormPreserving as exported
    assert exported is NormPreserving
"""


def test_the_name_is_exported_by_projection_too():
    subprocess.run([sys.executable, "-c", IN_EITHER_ORDER], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Norm'"):
        _ = projection.Norm


@pytest.mark.cuda
def test_the_hook_does_not_wait_for_the_device():
    model = models.build("procresnet", 11).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    held = NormPreserving(model, 1).attach(optimizer)
    model(torch.randn(4, 3, 32, 32, device="cuda")).square().mean().backward()
    optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            held.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    held.check()
    with torch.no_grad():
        model.chain["transition2"].weight.fill_(math.nan)
    held.step()
    with pytest.raises(ProjectionError, match="transition2"):
        held.check()


@pytest.mark.parametrize("projector", ["published", Exact, 3])
def test_a_projector_is_an_object_that_projects(projector):
    with pytest.raises(ValueError, match="projector must be an object such as Exact"):
        NormPreserving(nn.Sequential(nn.Conv2d(3, 8, 3)), convs=[("0", 8)], projector=projector)


# -- elsewhere than at the target ------------------------------------------------------------------------------------
@pytest.mark.parametrize(("scale", "factors"), [(0.5, (0.5, 0.5, 0.5)), ((2.0, 1.0, 0.25), (2.0, 1.0, 0.25))])
def test_kernels_are_held_at_a_multiple_of_the_target(scale, factors):
    model = models.build("procresnet", 11)
    held = NormPreserving(model, scale=scale)
    plain = copy.deepcopy(model)
    NormPreserving(plain).project()
    held.project()
    for (conv, _), (other, _), factor in zip(model.transition_convs(), plain.transition_convs(), factors, strict=True):
        torch.testing.assert_close(conv.weight, factor * other.weight)
    last = held.describe()[-1]
    assert last["target"] == pytest.approx(factors[-1] * math.sqrt(2))
    assert (last["lowest"], last["highest"]) == pytest.approx((1, 1), abs=1e-5)
    assert f" {last['target']:.3f}  1.00 to 1.00" in str(held).splitlines()[-1]
    again = [conv.weight for conv, _ in held.export().transition_convs()]
    torch.testing.assert_close(again[1:], [conv.weight for conv, _ in model.transition_convs()][1:])


@pytest.mark.parametrize("scale", [0, -1.0, math.inf, math.nan, True, "2", (1.0, 2.0), (1.0, 0.0, 1.0), None])
def test_a_scale_that_cannot_be_is_refused(scale):
    said = "scale must be a number above 0, or one for each of the 3 held convolutions, not "
    with pytest.raises(ValueError, match=said):
        NormPreserving(models.build("procresnet", 11), scale=scale)


def test_entering_it_without_an_optimiser_is_refused():
    held = NormPreserving(network(), 1, HELD)
    with pytest.raises(RuntimeError, match=r"attached to no optimiser.*held.attach\(optimizer\)"), held:
        pass


def test_a_kernel_that_is_frozen_meanwhile_stays_where_it_is_with_a_warning():
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    with NormPreserving(model, 1, HELD).attach(optimizer) as held:
        step(model, optimizer)
        model[3].weight.requires_grad_(False)
        model[3].weight.mul_(2.0)
        before = model[3].weight.clone()
        with pytest.warns(UserWarning, match="3 is frozen now: it is left as it is"):
            step(model, optimizer)
        step(model, optimizer)  # and is said once
        assert torch.equal(model[3].weight, before)
        model[3].weight.requires_grad_(True)
        step(model, optimizer)
        assert distance(held) < 1e-5


def test_frozen_kernels_are_neither_counted_nor_exported_otherwise_than_they_are():
    model = network()
    held = NormPreserving(model, 1, HELD, scale=(2.0, 0.5))
    model[0].weight.requires_grad_(False)
    held.project()
    assert held.counts() == {"done": 1, "refused": 0}
    before = model[0].weight.clone()
    with torch.no_grad():
        model[3].weight.mul_(3.0)
    plain = held.export()
    assert torch.equal(plain[0].weight, before)
    assert spread(plain[3].weight, 4, 2) == pytest.approx((0.5, 0.5), abs=1e-5)
    model[3].weight.requires_grad_(False)
    held.project()
    assert held.counts() == {"done": 1, "refused": 0}
    assert torch.equal(held.export()[3].weight, model[3].weight)


def test_a_captured_projection_is_not_replayed_for_a_kernel_that_was_just_frozen():
    model = network()
    held = NormPreserving(model, 1, HELD)
    held._graph = SimpleNamespace(replay=lambda: pytest.fail("it would project the frozen kernel, too"))
    model[3].weight.requires_grad_(False)
    held.project()
    assert held.counts()["done"] == 1


def replaced(model):
    model[3] = nn.Conv2d(12, 24, 1, stride=2)


def removed(model):
    del model[3]


def pruned(model):
    prune.l1_unstructured(model[3], "weight", 0.5)


def another_weight(model):
    model[3].weight = nn.Parameter(model[3].weight.detach().clone())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (replaced, "convolution was replaced"),
        (removed, "convolution was replaced"),
        (pruned, "made anew before each call"),
        (another_weight, "the optimiser does not train the new one"),
    ],
)
def test_what_is_no_longer_held_is_noticed_at_the_next_step(change, said):
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    held = NormPreserving(model, 1, HELD).attach(optimizer)
    change(model)
    with pytest.raises(ProjectionError, match=f"3 is no longer held: .*{said}") as e:
        step(nn.Sequential(model, nn.Flatten()), optimizer)
    held.detach()
    assert e.value.names == ["3"]


def test_a_new_weight_that_is_trained_is_held():
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    with NormPreserving(model, 1, HELD).attach(optimizer) as held:
        another_weight(model)
        optimizer.add_param_group({"params": [model[3].weight]})
        step(model, optimizer)
        assert distance(held) < 1e-5


def test_a_kernel_is_held_by_one_object_at_a_time():
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    first = NormPreserving(model, 1, HELD).attach(optimizer)
    part = NormPreserving(model, 1, HELD[:1], scale=2.0)
    with pytest.raises(
        ValueError, match=r"0: held by another NormPreserving, which holds more than that: .*detach\(\)"
    ):
        part.attach(optimizer)
    second = NormPreserving(model, 1, HELD, scale=2.0)
    with pytest.warns(UserWarning, match="0, 3: held by another NormPreserving until now, which is detached"):
        second.attach(optimizer)
    step(model, optimizer)
    assert (first.steps, second.steps, part.steps) == (0, 1, 0)
    assert distance(second) < 1e-5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second.detach()
        part.attach(optimizer).attach(optimizer)  # of its own it takes nothing over


def test_two_convolutions_of_one_kernel_are_refused():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    model[1].weight = model[0].weight
    with pytest.raises(ValueError, match="0 and 1 share one kernel"):
        NormPreserving(model, convs=[("0", 8), ("1", 8)])


def square():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())


@pytest.mark.parametrize("start", [None, "projected"])
def test_a_kernel_whose_projections_stall_is_refused_where_it_is(start):
    with pytest.raises(ValueError, match="0 cannot be held from where it is: its projections stall"):
        NormPreserving(square(), convs=[("0", 8)], start=start)
    with pytest.raises(ValueError, match="no convolution that could be held.*delta-orthogonal"):
        NormPreserving(square(), example=torch.zeros(1, 8, 8, 8), start=start)
    mixed = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *square())
    held = NormPreserving(mixed, example=torch.zeros(1, 3, 8, 8), start=start)
    assert [t.name for t in held.convs] == ["0"] and [name for name, _ in held.passed_over] == ["1", "3"]


def test_a_square_kernel_that_arrives_can_start_projected():
    """With a stride some of them do; whether they will is seen only by projecting."""
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 32, 3, stride=2, padding=1)
    with pytest.raises(ValueError, match="its projections stall"):
        NormPreserving(conv, convs=[(conv, 8)])
    assert distance(NormPreserving(conv, convs=[(conv, 8)], start="projected")) < 0.02


def test_a_start_by_projection_does_not_change_a_kernel_that_stalls():
    mixed = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *square())
    before = mixed[1].weight.clone()
    held = NormPreserving(mixed, example=torch.zeros(1, 3, 8, 8), start="projected")
    assert [t.name for t in held.convs] == ["0"] and torch.equal(mixed[1].weight, before)
    with pytest.raises(ValueError, match="0 cannot be held from where it is: its projections stall"):
        NormPreserving(square(), convs=[("0", 8)], start="projected")


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_it_can_start_delta_orthogonal_and_stays_there(scale):
    model = square()
    held = NormPreserving(model, 1, example=torch.zeros(1, 8, 8, 8), start="delta-orthogonal", scale=scale)
    assert distance(held) < 1e-5
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with held.attach(optimizer):
        for _ in range(20):
            optimizer.zero_grad()
            (model(torch.randn(4, 8, 8, 8)) - 1).square().mean().backward()
            optimizer.step()
    assert distance(held) < 0.05
    again = NormPreserving(model, 1, convs=[("0", 8), ("2", 8)], scale=scale)  # where it is, it can be held
    assert len(again.convs) == 2


def test_it_can_start_projected():
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1))
    held = NormPreserving(model, convs=[("0", 8)], start="projected")
    assert distance(held) < 0.01
    near = distance(NormPreserving(model, convs=[("0", 8)], start="projected", relu=True))
    assert near < 0.01
    with pytest.raises(ValueError, match="start 'random' is unknown"):
        NormPreserving(model, convs=[("0", 8)], start="random")


def test_more_passes_come_nearer():
    found = {}
    for passes in (1, 10):
        torch.manual_seed(0)
        held = NormPreserving(nn.Sequential(nn.Conv2d(3, 16, 3)), convs=[("0", 8)], passes=passes)
        held.project()
        found[passes] = distance(held)
    assert found[10] < 0.3 * found[1]
    with pytest.raises(ValueError, match="either a projector or its method and passes"):
        NormPreserving(network(), convs=HELD, projector=Exact(), passes=2)


def test_one_printed_line_has_what_describe_has_within_its_digits():
    held = NormPreserving(network(), convs=HELD, scale=2.0)
    for line, row in zip(str(held).splitlines()[2:], held.describe(), strict=True):
        assert line.endswith(f" {row['lowest']:.2f} to {row['highest']:.2f}")


@pytest.mark.parametrize("convs", [0, "0", nn.Conv2d(1, 1, 1)])
def test_convs_that_are_no_list_are_refused(convs):
    with pytest.raises(ValueError, match="convs must be a list of pairs"):
        NormPreserving(network(), convs=convs)


def test_convs_may_be_a_mapping_and_a_triple_is_shown_as_it_is():
    model = network()
    by_name = NormPreserving(model, convs={"0": 8, model[3]: (4, 4)}).convs
    assert [held.name for held in by_name] == ["0", "3"] and by_name[0].size == (8, 8)
    with pytest.raises(ValueError, match=r"convs must hold pairs .* not \('0', 8, 8\)"):
        NormPreserving(model, convs=[("0", 8, 8)])


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="model must be a torch.nn.Module, not .Conv2d"):
        NormPreserving([nn.Conv2d(3, 8, 1)], example=torch.zeros(1, 3, 8, 8))


def test_a_context_within_its_own_does_not_end_it():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 1)
    held = NormPreserving(conv, convs=[(conv, 6)], every=1, start="projected")
    optimizer = torch.optim.SGD(conv.parameters(), lr=1.0)

    def step():
        optimizer.zero_grad()
        conv(torch.randn(2, 3, 6, 6)).square().mean().backward()
        optimizer.step()

    with held.attach(optimizer):
        with held.attach(optimizer):
            step()
        step()
        assert held.steps == 2
        assert spread(conv.weight, 6) == pytest.approx((1, 1), abs=1e-5)
    step()
    assert held.steps == 2


# -- copies ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_copy_is_attached_to_nothing_and_says_so(way):
    """torch copies no hooks with an optimiser."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(2, 3, 8, 8)
    held = NormPreserving(model, every=1, example=x, start="projected")
    with held.attach(optimizer):
        several = (model, optimizer, held)
        copied = copy.deepcopy(several) if way == "deepcopy" else pickle.loads(pickle.dumps(several))
        other, others, again = copied
        with pytest.raises(RuntimeError, match="attached to no optimiser"), again:
            pass
        with again.attach(others):
            other(x).square().mean().backward()
            others.step()
        assert (again.steps, held.steps) == (1, 0)
        assert spread(other[2].weight, 8) == pytest.approx((1, 1), abs=1e-5)
        model(x).square().mean().backward()
        optimizer.step()
        assert (again.steps, held.steps) == (1, 1)


def test_a_start_that_one_kernel_cannot_make_changes_none_and_names_it():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3))
    nn.init.zeros_(model[2].weight)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"^2 cannot start projected: .*rank-deficient.*delta-orthogonal"):
        NormPreserving(model, example=torch.randn(1, 3, 16, 16), start="projected")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
