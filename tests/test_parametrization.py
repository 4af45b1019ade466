"""Kernels that are norm-preserving by construction: exact for every shape, trainable, and at home in torch."""

import copy
import itertools
import math

import cases
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize, prune

from paperlib import NormPreserving, delta_orthogonal, orthogonal, project, spread, target
from paperlib.projection import rank

DOUBLE = torch.float64


def conv(c, d, k, stride=1, dtype=DOUBLE, **options):
    """A circular convolution that `orthogonal` took over, with parameters far from its start."""
    kh, kw = (k, k) if isinstance(k, int) else k
    padding = "same" if stride == 1 else ((kh - 1) // 2, (kw - 1) // 2)
    relu, scale = options.pop("relu", False), options.pop("scale", 1.0)
    options = {"padding": padding, "padding_mode": "circular", "bias": False} | options
    layer = nn.Conv2d(c, d, k, stride, dtype=dtype, **options)
    layer = orthogonal(layer, relu=relu, scale=scale)
    with torch.no_grad():
        for i, p in enumerate(layer.parameters()):
            p.copy_(cases.kernel(*p.shape, seed=i))
    return layer


def singular_values(layer, size):
    """All of them, from unit vectors pushed through the layer itself; ``size`` is (h, w) at its output."""
    (h, w), s = size, layer.stride[0]
    n = layer.in_channels * h * w * s * s
    images = layer(torch.eye(n, dtype=DOUBLE).reshape(n, layer.in_channels, h * s, w * s))
    assert images.shape[2:] == size
    return torch.linalg.svdvals(images.flatten(1).detach())


def distance(layer, size, sigma=None):
    """The largest relative distance of a singular value from the target, or from 0 beyond the rank."""
    groups, s = layer.groups, layer.stride[0]
    shape = (layer.out_channels // groups, *layer.weight.shape[1:])
    sigma = sigma or target(shape, s)
    found = singular_values(layer, size)
    ones = groups * rank(shape, s) * math.prod(size)
    expected = torch.zeros_like(found)
    expected[:ones] = sigma
    return float((found - expected).abs().max() / sigma)


CHANNELS = ((1, 2), (2, 1), (2, 2), (3, 3), (3, 4), (4, 3), (1, 6), (6, 1), (1, 8), (2, 8), (8, 2))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_every_singular_value_is_the_target(k, stride):
    for c, d in CHANNELS:
        assert distance(conv(c, d, k, stride), (3, 3) if stride > 1 else (5, 5)) < 1e-12, (c, d)


@settings(max_examples=40, deadline=None)
@given(
    **cases.up_to(c=6, d=8, groups=2, s=3, h=3, w=3),
    k=st.sampled_from([(1, 3), (2, 1), (3, 2), (4, 3), (1, 5), (5, 2)]),
)
def test_rectangles_groups_and_maps_of_any_size(c, d, k, groups, s, h, w, seed):
    if c * d * min(k[0], s) * min(k[1], s) == 1:
        c = 2
    torch.manual_seed(seed)
    layer = conv(groups * c, groups * d, k, s, groups=groups, padding=0)
    # Padded by hand: torch refuses a circular border wider than the map, the kernel's taps may go around it twice.
    border = nn.CircularPad2d(0)
    h, w = h + max(k), w + max(k)
    before = [(n - 1) // 2 for n in k]
    border.padding = (before[1], max(0, k[1] - s - before[1]), before[0], max(0, k[0] - s - before[0]))
    n = groups * c * h * w * s * s
    images = layer(border(torch.eye(n, dtype=DOUBLE).reshape(n, groups * c, h * s, w * s)))
    found = torch.linalg.svdvals(images.flatten(1).detach())
    ones = groups * rank((d, c, *k), s) * h * w
    sigma = target((d, c, *k), s)
    assert (found[:ones] / sigma - 1).abs().max() < 1e-12
    assert not len(found[ones:]) or found[ones:].max() < 1e-12 * sigma


@pytest.mark.parametrize("dilation", [2, 3])
def test_dilated(dilation):
    assert distance(conv(3, 3, 3, dilation=dilation), (7, 5)) < 1e-12


def test_a_map_that_is_smaller_than_the_kernel():
    assert spread(conv(4, 4, 5).weight, (2, 3)) == pytest.approx((1, 1), abs=1e-12)


SHAPES = ((8, 8, 3, 1), (6, 16, 3, 1), (16, 6, 3, 1), (8, 16, 3, 2), (3, 32, 7, 2), (4, 32, 3, 2), (8, 32, 1, 2))


@pytest.mark.parametrize(("c", "d", "k", "stride"), [*SHAPES, (64, 64, 3, 1)])
def test_float32_is_as_exact_as_it_can_be(c, d, k, stride):
    weight = conv(c, d, k, stride, torch.float32).weight
    assert weight.dtype == torch.float32
    assert spread(weight.double(), 9, stride) == pytest.approx((1, 1), abs=1e-6)


def test_where_the_projection_stalls_it_is_exact():
    """VGG's layers keep the number of channels: some of their singular values stay near zero when projected."""
    he = cases.he(32, 32, 3)
    low, high = spread(project(he, 8, passes=50), 8)
    assert low < 0.3
    assert high > 1.03
    assert spread(conv(32, 32, 3).weight, 8) == pytest.approx((1, 1), abs=1e-12)


def test_zero_padding_only_shrinks():
    layer = conv(3, 3, 3, padding_mode="zeros")
    found = singular_values(layer, (5, 5)) / target((3, 3, 3, 3))
    assert found.max() <= 1 + 1e-12
    assert found.min() < 0.9


@pytest.mark.parametrize(("relu", "scale"), [(True, 1.0), (False, 0.5)])
def test_the_target_is_the_papers_times_the_scale(relu, scale):
    layer = conv(3, 8, 3, relu=relu, scale=scale)
    assert distance(layer, (4, 4), scale * target((8, 3, 3, 3), relu=relu)) < 1e-12


@pytest.mark.parametrize("fill", [0.0, 1.0, 1e-30, 1e30])
def test_no_parameter_leaves_the_set(fill):
    layer = conv(3, 4, 3)
    with torch.no_grad():
        for p in layer.parameters():
            p.fill_(fill)
    assert distance(layer, (5, 5)) < 1e-12


def test_parameters_that_are_not_finite_show():
    layer = conv(3, 4, 3)
    with torch.no_grad():
        layer.parametrizations.weight.original1.fill_(math.nan)
    assert layer.weight.isnan().any()


@pytest.mark.parametrize(("c", "d", "k", "stride"), SHAPES)
def test_it_starts_delta_orthogonal(c, d, k, stride):
    weight = orthogonal(nn.Conv2d(c, d, k, stride, dtype=DOUBLE)).weight
    middle = delta_orthogonal(weight.shape, stride, dtype=DOUBLE)[0, 0] != 0
    if (k - stride) % 2 == 0 or k <= stride:
        assert weight[..., ~middle].abs().sum() < 1e-12
    weight.square().sum().backward()


def test_an_odd_difference_of_size_and_stride_has_two_middles():
    rows = orthogonal(nn.Conv2d(4, 4, 4, dtype=DOUBLE)).weight.abs().sum((0, 1, 3))
    assert [bool(x > 1e-6) for x in rows] == [False, True, True, False]


def test_the_start_is_random_and_can_be_repeated():
    def start(seed):
        torch.manual_seed(seed)
        return orthogonal(nn.Conv2d(3, 3, 3)).weight

    assert torch.equal(start(0), start(0))
    assert not torch.allclose(start(0), start(1))


@pytest.mark.parametrize("n", [2, 5, 6])
def test_every_rotation_can_be_reached(n):
    """Its Schur form has rotations of planes, and each is two reflections."""
    rotation = torch.linalg.qr(cases.kernel(1, 1, n, n)[0, 0])[0]
    rotation[0] *= torch.linalg.det(rotation).sign()
    form, q = (torch.from_numpy(x) for x in scipy.linalg.schur(rotation.numpy(), output="real"))
    # Planes first, then the entries -1 and 1 of the diagonal, two of which are a plane, too.
    alone = [i for i in range(n) if all(abs(form[i, j]) < 1e-9 and abs(form[j, i]) < 1e-9 for j in range(n) if j != i)]
    order = [i for i in range(n) if i not in alone] + sorted(alone, key=lambda i: float(form[i, i]))
    second = q[:, order][:, 1 : n // 2 * 2 : 2]
    first = rotation @ (torch.eye(n, dtype=DOUBLE) - 2 * second @ second.T)
    layer = orthogonal(nn.Conv2d(n, n, 1, dtype=DOUBLE))
    with torch.no_grad():
        values, vectors = torch.linalg.eigh(first)
        layer.parametrizations.weight.original0[0] = torch.stack([vectors[:, values < 0], second])
    assert (layer.weight[:, :, 0, 0] - rotation).abs().max() < 1e-12


# -- training ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("c", "d", "k", "stride"), [(3, 3, 3, 1), (2, 4, 2, 1), (4, 2, 3, 1), (1, 9, 3, 2), (2, 3, 3, 2), (5, 3, 1, 1)]
)
def test_gradients(c, d, k, stride):
    kernel = conv(c, d, k, stride).parametrizations.weight[0]
    parameters = tuple(cases.kernel(*p.shape).requires_grad_() for p in conv(c, d, k, stride).parameters())
    assert torch.autograd.gradcheck(kernel, parameters)
    assert torch.autograd.gradgradcheck(kernel, parameters)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.5, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.03),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
}


def network(dtype=DOUBLE):
    """Two layers of equal width, one of them strided, and one that widens by a grouped kernel."""
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, 2, padding=1, padding_mode="circular"),
        nn.Tanh(),
        nn.Conv2d(4, 8, 3, padding=1, groups=2, padding_mode="circular"),
    )
    return nn.Sequential(*(orthogonal(m) if isinstance(m, nn.Conv2d) else m for m in layers)).to(dtype)


def loss(model, dtype=DOUBLE):
    """Off a fixed random goal."""
    return (model(cases.kernel(6, 4, 6).to(dtype)) - cases.kernel(6, 8, 3, seed=1).to(dtype)).square().mean()


def farthest(model):
    layers = [m.double() for m in copy.deepcopy(model) if isinstance(m, nn.Conv2d)]
    for m in layers:
        m.bias = None
    return max(distance(m, (4, 4)) for m in layers)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps_lower_the_loss_and_stay_exact(name):
    model = network()
    optimizer, before = OPTIMIZERS[name](model.parameters()), loss(model).item()
    for _ in range(20):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
        assert farthest(model) < 1e-12
    assert loss(model).item() < 0.95 * before


def test_the_trunk_s_other_kernels_can_be_held_beside_it():
    layers = nn.Sequential(orthogonal(nn.Conv2d(3, 3, 3)), nn.Conv2d(3, 8, 1))
    assert [name for name, *_ in NormPreserving(layers, convs=[("1", 4)]).convs] == ["1"]
    with pytest.raises(ValueError, match="cannot be held"):
        NormPreserving(layers, convs=[("0", 4)])


# -- at home in torch ----------------------------------------------------------------------------------------------
def test_state_dict():
    torch.manual_seed(1)
    one, two = orthogonal(nn.Conv2d(4, 8, 3)), orthogonal(nn.Conv2d(4, 8, 3))
    assert not torch.equal(one.weight, two.weight)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.weight, two.weight)


def test_a_copy_stands_alone():
    layer = conv(3, 3, 3)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin.weight, layer.weight)
    with torch.no_grad():
        twin.parametrizations.weight.original0.neg_().add_(1)
    assert not torch.allclose(twin.weight, layer.weight)
    assert distance(twin, (4, 4)) < 1e-12


def test_removed_it_leaves_the_weight():
    layer = conv(3, 5, 3, 2)
    weight = layer.weight.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Conv2d
    assert isinstance(layer.weight, nn.Parameter)
    assert torch.equal(layer.weight, weight)
    assert layer.weight.is_contiguous()


def test_cached_it_is_computed_once():
    layer = conv(3, 3, 3)
    with parametrize.cached():
        assert layer.weight is layer.weight
        both = layer.weight.sum() + (2 * layer.weight).sum()
    once = torch.autograd.grad(layer.weight.sum(), list(layer.parameters()))
    for a, b in zip(torch.autograd.grad(both, list(layer.parameters())), once, strict=True):
        assert torch.allclose(a, 3 * b)


@pytest.mark.slow
def test_compiled():
    model = network()
    loss(model).backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    loss(compiled).backward()
    for p, grad in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, grad, atol=1e-12)


def test_under_autocast_it_is_computed_as_ever():
    model = network(torch.float32)
    before = model[0].weight
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model[0].weight, before)
        loss(model, torch.float32).backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.any() for p in model.parameters())


def test_bfloat16_is_exact_to_its_rounding():
    model = network(torch.bfloat16)
    loss(model, torch.bfloat16).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert model[0].weight.dtype == torch.bfloat16
    for i, stride in ((0, 1), (2, 2)):
        assert spread(model[i].weight.double(), 6, stride) == pytest.approx((1, 1), abs=0.01)
    assert farthest(model.double()) < 1e-12  # nothing but the weight's rounding was lost


def test_a_functional_call_and_its_gradients_for_each_image():
    layer = conv(3, 4, 3)
    images = cases.kernel(5, 3, 4)

    def value(parameters, image):
        return torch.func.functional_call(layer, parameters, (image[None],)).square().sum()

    found = torch.func.vmap(torch.func.grad(value), (None, 0))(dict(layer.named_parameters()), images)
    expected = torch.autograd.grad(layer(images).square().sum(), list(layer.parameters()))
    for a, b in zip(found.values(), expected, strict=True):
        assert torch.allclose(a.sum(0), b, atol=1e-10)


def test_frozen():
    layer = nn.Conv2d(3, 3, 3)
    layer.weight.requires_grad_(False)
    assert not orthogonal(layer).weight.requires_grad


def _train(rank: int, path: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}/meet", rank=rank, world_size=2)
    inner = network()
    torch.manual_seed(rank)  # other starts and images on each
    inner.append(orthogonal(nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular", dtype=DOUBLE)))
    model = DistributedDataParallel(inner)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 4, 8, 8, dtype=DOUBLE)).square().mean().backward()
        optimizer.step()
    torch.save({"weights": [m.weight.detach() for m in inner[::2]], "off": farthest(inner)}, f"{path}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_distributed(tmp_path):
    multiprocessing.spawn(_train, (str(tmp_path),), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(map(torch.equal, one["weights"], two["weights"]))
    assert one["off"] < 1e-12


@pytest.mark.cuda
def test_on_cuda_as_on_the_cpu():
    layer = conv(3, 4, 3, dtype=torch.float32)
    found = copy.deepcopy(layer).cuda().weight
    assert found.is_cuda
    assert torch.allclose(found.cpu(), layer.weight, atol=1e-6)


# -- what it refuses -----------------------------------------------------------------------------------------------
def _normalised():
    return nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3))


REFUSED = {
    "layer must be an nn.Conv2d, not Linear": lambda: orthogonal(nn.Linear(3, 3)),
    "layer must be an nn.Conv2d, not ConvTranspose2d": lambda: orthogonal(nn.ConvTranspose2d(3, 3, 3)),
    "no shape yet": lambda: orthogonal(nn.LazyConv2d(3, 3)),
    "no parameter 'wieght'": lambda: orthogonal(nn.Conv2d(3, 3, 3), "wieght"),
    "shape \\(d, c, kh, kw\\), not torch.float32 of \\(3,\\)": lambda: orthogonal(nn.Conv2d(3, 3, 3), "bias"),
    "real floating-point": lambda: orthogonal(nn.Conv2d(3, 3, 3, dtype=torch.complex64)),
    "made anew before each call already": lambda: orthogonal(_normalised()),
    "made anew before each call already: ": lambda: orthogonal(orthogonal(nn.Conv2d(3, 3, 3))),
    "weight is made anew": lambda: orthogonal(prune.l1_unstructured(nn.Conv2d(3, 3, 3), "weight", amount=0.5)),
    "differs in the two directions": lambda: orthogonal(nn.Conv2d(3, 3, 3, stride=(1, 2))),
    "with a dilation": lambda: orthogonal(nn.Conv2d(3, 3, 3, stride=2, dilation=2)),
    "nothing of it could be trained": lambda: orthogonal(nn.Conv2d(8, 8, 3, groups=8)),
    "scale must be a number above 0, not -1": lambda: orthogonal(nn.Conv2d(3, 3, 3), scale=-1),
    "scale must be a number above 0, not nan": lambda: orthogonal(nn.Conv2d(3, 3, 3), scale=math.nan),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_bad_input_gets_a_sentence(sentence):
    with pytest.raises(ValueError, match=sentence) as raised:
        REFUSED[sentence]()
    assert "\n" not in str(raised.value)


def test_a_refused_layer_is_left_as_it_was():
    layer = nn.Conv2d(3, 3, 3, stride=(1, 2))
    with pytest.raises(ValueError, match="differs"):
        orthogonal(layer)
    assert type(layer) is nn.Conv2d
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


def test_a_kernel_cannot_be_assigned():
    layer = orthogonal(nn.Conv2d(3, 3, 3))
    before = layer.weight
    with pytest.raises(ValueError, match="cannot be assigned"):
        layer.weight = torch.randn(3, 3, 3, 3)
    assert torch.equal(layer.weight, before)


def test_the_layer_says_what_it_is():
    assert "stride=2, groups=2, singular values=2" in repr(orthogonal(nn.Conv2d(2, 8, 1, 2, groups=2)))


@pytest.mark.parametrize(("c", "d", "k", "stride", "block"), [(1, 8, 3, 1, 1), (3, 8, 3, 1, 1), (1, 12, 5, 2, 4)])
def test_many_outputs_are_not_all_mixed_from_one_block_of_taps(c, d, k, stride, block):
    """They could be: p·c channels of any norm-preserving kernel, mixed by one matrix, would keep the norm as well."""
    assert torch.linalg.matrix_rank(conv(c, d, k, stride).weight.flatten(1)) == min(d, c * k * k) > block * c


def test_strides_that_never_fill_the_outputs_are_covered():
    """Both sides of d = p·c, at every number of phases."""
    for d, s in itertools.product((3, 4, 5, 8, 9, 10), (2, 3)):
        assert distance(conv(1, d, s + 1, s), (3, 3)) < 1e-12


def test_a_layer_with_a_forward_pass_of_its_own_is_refused():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)

    with pytest.raises(ValueError, match="Standardised has a forward pass of its own"):
        orthogonal(Standardised(3, 8, 1))
    assert orthogonal(type("Named", (nn.Conv2d,), {})(3, 8, 1)).weight.shape == (8, 3, 1, 1)


@pytest.mark.parametrize("how", [{"scale": 2.0}, {"relu": True}])
def test_the_state_holds_the_singular_values(how):
    one, two = orthogonal(nn.Conv2d(3, 5, 3), **how), orthogonal(nn.Conv2d(3, 5, 3))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.weight, two.weight)
