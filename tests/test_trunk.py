"""The convolutions that the gradient cannot get around, why each is one or not, and that looking changes nothing."""

import random
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from paperlib import models
from paperlib.trunk import explain_trunk, trunk_convs

IMAGE = torch.zeros(2, 3, 32, 32)
SKIP = "a path without convolutions leads around it"
LONGER = "a path with fewer convolutions leads around it"
EQUAL = "a parallel path has as few convolutions, and to choose one of them would be arbitrary"
APART = "no gradient from an output to the image passes through it"
NOT_CALLED = "it is not called in evaluation mode"


def names(model, image=IMAGE):
    return [t.name for t in trunk_convs(model, image)]


def reasons(model, image=IMAGE):
    """Of the convolutions that are not on the trunk, by name."""
    return {e.name: e.reason for e in explain_trunk(model, image) if not e.on_trunk}


def all_convs(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]


class Net(nn.Module):
    """Some layers, and a function of them and the inputs."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)


def large(build, **options):
    """A network whose weights have no values: they are not needed, and take time to make."""
    with torch.device("meta"):
        return build(**options), torch.zeros(2, 3, 64, 64)


def conv(c, d, k=1, stride=1):
    return nn.Conv2d(c, d, k, stride, k // 2)


# -- networks that everybody knows -------------------------------------------------------------------------------
def test_the_papers_networks():
    assert [(t.name, t.size) for t in trunk_convs(models.build("procresnet", 20), IMAGE)] == [
        ("chain.transition1", (32, 32)),
        ("chain.transition2", (16, 16)),
        ("chain.transition3", (8, 8)),
    ]
    shortcuts = [f"chain.stage{i}_block1.shortcut" for i in (1, 2, 3)]
    assert names(models.build("resnet", 20)) == ["stem", *shortcuts]
    plain = models.build("plain", 20)
    assert names(plain) == all_convs(plain)


def test_resnets():
    transitions = ["conv1"] + [f"layer{i}.0.downsample.0" for i in (2, 3, 4)]
    model, image = large(torchvision.models.resnet18)
    assert names(model, image) == transitions
    assert reasons(model, image) == {
        name: LONGER if name.startswith(("layer2.0", "layer3.0", "layer4.0")) else SKIP
        for name in all_convs(model)
        if name not in transitions
    }
    assert names(*large(torchvision.models.resnet50)) == ["conv1", *(f"layer{i}.0.downsample.0" for i in (1, 2, 3, 4))]


def test_a_feature_pyramid():
    """Each of its levels has a loss, which reaches the image through the level's own two convolutions."""
    model, image = large(resnet_fpn_backbone, backbone_name="resnet18", weights=None)
    expected = {"body.conv1"} | {f"body.layer{i}.0.downsample.0" for i in (2, 3, 4)}
    expected |= {f"fpn.{part}_blocks.{i}.0" for part in ("inner", "layer") for i in range(4)}
    assert set(names(model, image)) == expected
    rest = reasons(model, image)
    assert len(rest) == 28 - 12
    assert rest["body.layer2.0.conv1"] == LONGER
    assert rest["body.layer2.1.conv1"] == SKIP


def test_googlenet():
    model, image = large(torchvision.models.googlenet, init_weights=False, aux_logits=True)
    assert names(model, image) == ["conv1.conv", "conv2.conv", "conv3.conv"]
    rest = reasons(model, image)
    assert rest.pop("aux1.conv.conv") == rest.pop("aux2.conv.conv") == NOT_CALLED
    assert rest == {
        name: EQUAL if name.split(".")[1] in ("branch1", "branch4") else LONGER
        for name in all_convs(model)
        if name.startswith("inception")
    }


def test_densenet():
    model, image = large(torchvision.models.densenet121)
    assert names(model, image) == ["features.conv0"] + [f"features.transition{i}.conv" for i in (1, 2, 3)]
    assert set(reasons(model, image).values()) == {SKIP}


def test_vgg():
    model, image = large(torchvision.models.vgg11)
    assert names(model, image) == all_convs(model)


@pytest.mark.parametrize("build", [torchvision.models.mobilenet_v2, torchvision.models.efficientnet_b0])
def test_mobile_networks(build):
    """Blocks with a skip are free, and so is squeeze-and-excitation; the rest is a chain."""
    model, image = large(build)
    blocks = [m for m in model.features.modules() if hasattr(m, "use_res_connect")]
    gates = [m for m in model.modules() if isinstance(m, torchvision.ops.SqueezeExcitation)]
    free = {id(c) for m in [b for b in blocks if b.use_res_connect] + gates for c in m.modules()}
    expected = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and id(m) not in free]
    assert names(model, image) == expected
    assert len(expected) == 22
    assert set(reasons(model, image).values()) == {SKIP}


def test_a_vision_transformer():
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
    model, image = large(torchvision.models.VisionTransformer, image_size=64, patch_size=16, **sizes)
    assert [(t.name, t.size) for t in trunk_convs(model, image)] == [("conv_proj", (4, 4))]
    with pytest.raises(ValueError, match="cannot be run on the example of shape .*Wrong image height"):
        trunk_convs(model, image[..., :32, :32])


# -- branches ----------------------------------------------------------------------------------------------------
def branches(function, **layers):
    """A block between two convolutions."""
    return Net(lambda m, x: m.last(function(m, m.first(x))), first=conv(3, 4), **layers, last=nn.LazyConv2d(2, 1))


def unet(m, x):
    bottom = F.interpolate(m.low2(m.low1(F.max_pool2d(x, 2))), scale_factor=2)
    return m.up2(m.up1(torch.cat([x, bottom], 1)))


BRANCHES = {
    "sum": (lambda m, x: m.a(x) + m.b(x), {"a": conv(4, 4), "b": conv(4, 4, 3)}, [], {"a": EQUAL, "b": EQUAL}),
    "RepVGG": (
        lambda m, x: m.a(x) + m.b(x) + m.identity(x),
        {"a": conv(4, 4, 3), "b": conv(4, 4), "identity": nn.BatchNorm2d(4)},
        [],
        {"a": SKIP, "b": SKIP},
    ),
    "Inception": (
        lambda m, x: torch.cat([m.a(x), m.b2(m.b1(x)), m.c(F.max_pool2d(x, 3, 1, 1))], 1),
        {"a": conv(4, 4), "b1": conv(4, 2), "b2": conv(2, 4, 3), "c": conv(4, 4)},
        [],
        {"a": EQUAL, "b1": LONGER, "b2": LONGER, "c": EQUAL},
    ),
    "dense": (lambda m, x: torch.cat([x, m.a(x)], 1), {"a": conv(4, 2, 3)}, [], {"a": SKIP}),
    "U-Net": (
        unet,
        {"low1": conv(4, 4), "low2": conv(4, 4), "up1": conv(8, 4), "up2": conv(4, 4)},
        ["up1", "up2"],
        {"low1": SKIP, "low2": SKIP},
    ),
    "skip convolution": (
        lambda m, x: m.a(x) + m.b2(m.b1(x)),
        {"a": conv(4, 4), "b1": conv(4, 4), "b2": conv(4, 4)},
        ["a"],
        {"b1": LONGER, "b2": LONGER},
    ),
    "equal inside the shorter branch": (
        lambda m, x: m.c(m.a(x) + m.b(x)) + m.d3(m.d2(m.d1(x))),
        {name: conv(4, 4) for name in ("a", "b", "c", "d1", "d2", "d3")},
        ["c"],
        {"a": EQUAL, "b": EQUAL, "d1": LONGER, "d2": LONGER, "d3": LONGER},
    ),
    "one kernel in both": (lambda m, x: m.a(x) + m.a(x.flip(3)), {"a": conv(4, 4)}, ["a"], {}),
    "linear": (
        lambda m, x: m.a(x) + m.b2(m.b1(x.mean((2, 3))))[..., None, None],
        {"a": conv(4, 4), "b1": nn.Linear(4, 4), "b2": nn.Linear(4, 4)},
        ["a"],
        {},
    ),
    "a function": (
        lambda m, x: m.a(x) + F.conv2d(x, torch.ones(4, 4, 1, 1)),
        {"a": conv(4, 4)},
        [],
        {"a": EQUAL},
    ),
    "transposed": (
        lambda m, x: m.b(m.a(x)) + F.interpolate(x, scale_factor=2),
        {"a": conv(4, 4), "b": nn.ConvTranspose2d(4, 4, 2, 2)},
        [],
        {"a": SKIP},
    ),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_branches(name):
    function, layers, on_trunk, rest = BRANCHES[name]
    model = branches(function, **layers)
    model(IMAGE)  # the last layer is lazy
    assert sorted(names(model)) == sorted(["first", *on_trunk, "last"])
    assert reasons(model) == rest


def random_network(seed):
    """Sums of earlier values, with or without a 1×1 convolution; for each value all paths, as tuples of names."""
    rng = random.Random(seed)
    model = Net(None)
    terms, paths = [], [{()}]
    for i in range(1, 7):
        row = [(j, f"conv{i}_{k}" if rng.random() < 0.5 else "") for k, j in enumerate(rng.choices(range(i), k=2))]
        terms.append(row)
        paths.append({(*path, name) if name else path for j, name in row for path in paths[j]})
        for _, name in row:
            if name:
                model.add_module(name, conv(1, 1))
    outputs = [-1, *rng.sample(range(1, 6), rng.randint(0, 2))]

    def forward(m, x):
        values = [x + 0]
        for row in terms:
            values.append(sum(m.get_submodule(name)(values[j]) if name else values[j] + 0 for j, name in row))
        return [values[i] for i in outputs]

    model.function = forward
    return model, [paths[i] for i in outputs]


def by_enumeration(name, paths):
    """What is true of a convolution for an output with these paths; the smaller, the nearer to the trunk."""
    fewest = min(map(len, paths))
    if all(name in path for path in paths):
        return 0, "no path leads around it"
    if all(name in path for path in paths if len(path) == fewest):
        return 1, "every path with the fewest convolutions goes through it"
    if any(name in path for path in paths if len(path) == fewest):
        return 2, EQUAL
    return (3, "leads around it") if any(name in path for path in paths) else (4, APART)


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_against_the_definition(seed):
    model, outputs = random_network(seed)
    found = {e.name: e for e in explain_trunk(model, torch.zeros(1, 1, 2, 2))}
    assert found.keys() == {name for name, _ in model.named_children()}
    for name, explanation in found.items():
        rank, reason = min(by_enumeration(name, paths) for paths in outputs)
        assert explanation.on_trunk == (rank < 2)
        assert explanation.reason.endswith(reason), name


# -- outputs and inputs ------------------------------------------------------------------------------------------
@dataclass
class Result:
    main: Any
    aux: Any


PACKINGS = (
    lambda main, aux: (main, aux),
    lambda main, aux: {"main": main, "aux": [aux, None, 3]},
    lambda main, aux: {"losses": ({"main": main}, [[aux]])},
    Result,
)


def with_head(pack, cut=False):
    """A residual network with an auxiliary head after its first stage."""

    def forward(m, x):
        x = m.stem(x)
        x = x + m.block1(x)
        aux = m.head(x.detach() if cut else x)
        x = m.down(x)
        return pack(m.fc(x + m.block2(x)), aux)

    layers = {"stem": conv(3, 4), "block1": conv(4, 4, 3), "down": conv(4, 8, 1, 2), "block2": conv(8, 8, 3)}
    return Net(forward, **layers, fc=conv(8, 2), head=conv(4, 2))


@pytest.mark.parametrize("pack", PACKINGS)
def test_an_auxiliary_head(pack):
    model = with_head(pack)
    assert names(model) == ["stem", "head", "down", "fc"]
    assert reasons(model) == {"block1": SKIP, "block2": SKIP}


def test_an_output_that_does_not_depend_on_the_image():
    cut = with_head(PACKINGS[0], cut=True)
    assert names(cut) == ["stem", "down", "fc"]
    assert reasons(cut) == {"block1": SKIP, "block2": SKIP, "head": APART}
    other = Net(lambda m, x: (m.a(x), m.b(torch.ones_like(x)), x, 3), a=conv(3, 4), b=conv(3, 4), c=conv(3, 4))
    assert names(other) == ["a"]
    assert reasons(other) == {"b": APART, "c": NOT_CALLED}


class Odd(nn.Module):
    """Control flow, a convolution used twice, frozen weights, and outputs in a dictionary."""

    def __init__(self, cut=False):
        super().__init__()
        self.first, self.twice, self.aside = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.cut = cut

    def forward(self, x):
        x = self.first(x)
        for _ in range(2):
            x = self.twice(x)
        if x.shape[0] > 1:
            x = x + self.aside(x)
        return {"out": [x.detach() if self.cut else x], "other": 3}


def test_any_forward():
    model = Odd().requires_grad_(False)
    with torch.inference_mode():
        assert [(t.name, t.size) for t in trunk_convs(model, IMAGE)] == [("first", (16, 16)), ("twice", (16, 16))]
        assert names(model, torch.zeros(2, 3, 32, 32)) == ["first", "twice"]
    with pytest.raises(ValueError, match="no differentiable path from the output of Odd.*convs="):
        trunk_convs(Odd(cut=True), IMAGE)


def test_the_largest_size_of_a_convolution_that_is_called_twice():
    model = Net(lambda m, x: m.a(F.avg_pool2d(m.a(x), 2)), a=conv(3, 3, 3))
    assert [(t.name, t.size) for t in trunk_convs(model, IMAGE)] == [("a", (32, 32))]


def test_several_arguments():
    """Each image has its own paths; what has not four dimensions is no image."""

    def forward(m, x, time, other=None):
        y = m.out(m.a(x) + m.t(time)[..., None, None])
        return y if other is None else y + m.b(other)

    model = Net(forward, a=conv(3, 4), t=nn.Linear(5, 4), out=conv(4, 2), b=conv(3, 2))
    time = torch.zeros(2, 5)
    assert names(model, (IMAGE, time)) == names(model, {"x": IMAGE, "time": time}) == ["a", "out"]
    assert names(model, (IMAGE, time, IMAGE)) == ["a", "out", "b"]
    for wrong in ((time,), {"x": time}, [IMAGE], IMAGE.long(), None):
        with pytest.raises(ValueError, match="example must be a floating-point tensor"):
            trunk_convs(model, wrong)


def test_an_example_without_images_is_described_in_one_line():
    """A language model's words: their dtype and shape, and not their numbers."""
    words = torch.ones(2, 8, dtype=torch.int64)
    with pytest.raises(ValueError, match="among them, not ") as raised:
        trunk_convs(nn.Embedding(10, 4), {"words": words, "more": (words, 3)})
    said = "a dict of (words: torch.int64 of shape (2, 8), more: a tuple of (torch.int64 of shape (2, 8), int 3))"
    assert str(raised.value).endswith(f"not {said}") and "\n" not in str(raised.value)


# -- the model is left alone, whatever it is wrapped in ----------------------------------------------------------
def test_the_model_is_left_as_it_was():
    model = torchvision.models.resnet18()
    model.layer1.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    trunk_convs(model, torch.randn(2, 3, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_compiled_and_wrapped():
    model = models.build("procresnet", 11)
    expected = names(model)
    model.compile(backend="aot_eager")
    assert names(model) == expected
    assert names(nn.DataParallel(models.build("procresnet", 11))) == expected
    assert names(torch.compile(models.build("procresnet", 11), backend="aot_eager")) == expected
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert names(models.build("procresnet", 11)) == expected
    part = nn.Sequential(conv(3, 4), torch.compile(nn.Sequential(conv(4, 4)), backend="aot_eager"))
    for name, found, _ in trunk_convs(part, IMAGE):
        assert part.get_submodule(name) is found
    assert len(names(part)) == 2


def test_distributed(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        assert names(DistributedDataParallel(Odd())) == ["first", "twice"]
    finally:
        distributed.destroy_process_group()


def test_lazy_layers():
    model = nn.Sequential(nn.LazyConv2d(4, 1), nn.LazyBatchNorm2d())
    with pytest.raises(ValueError, match=r"Sequential has lazy layers without weights \(0.weight\)"):
        trunk_convs(model, IMAGE)
    assert isinstance(model[0], nn.LazyConv2d)
    model(IMAGE)
    assert names(model) == ["0"]


def test_checkpointed_activations():
    def forward(m, x, reentrant):
        return m.last(checkpoint(m.inner, x, use_reentrant=reentrant))

    layers = {"inner": conv(3, 4), "last": conv(4, 4)}
    assert names(Net(lambda m, x: forward(m, x, False), **layers)) == ["inner", "last"]
    with pytest.raises(ValueError, match="Net hides a part of its graph.*use_reentrant=False"):
        trunk_convs(Net(lambda m, x: forward(m, x, True), **layers), IMAGE)
