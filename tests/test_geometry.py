"""Every layer against the matrix that it is: unit vectors pushed through the layer itself, and dense linear algebra."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import structural_rank
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from paperlib import spectrum
from paperlib.geometry import convolution
from paperlib.projection import project, spread, target
from paperlib.spectrum import operator_norm, operator_norm_bound, singular_values

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def matrix(layer, *sides):
    """``(outputs, inputs)``: the layer called on unit vectors, minus what it makes of zero."""
    shape = (layer.in_channels, *sides) if sides else (layer.in_features,)
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    basis = torch.eye(zero.numel(), dtype=torch.float64).reshape(-1, *shape)
    with torch.no_grad():
        return (layer(basis) - layer(zero)).flatten(1).T


def agrees(layer, *sides, circular=None):
    """All that is said of a layer, against its own matrix."""
    size = {"input_size": sides} if sides else {}
    exact = torch.linalg.svdvals(matrix(layer, *sides))
    scale = max(exact[0].item(), 1e-3)
    ours = singular_values(layer, **size).detach()
    assert torch.allclose(ours.flatten().sort(descending=True).values, exact, rtol=0, atol=1e-10 * scale)
    assert operator_norm(layer, **size).item() == pytest.approx(exact[0].item(), rel=1e-10)
    assert operator_norm_bound(layer, **size).item() >= exact[0].item() * (1 - 1e-12)
    assert circular is None or convolution(layer, sides or None).is_circular() == circular


def of(kind, *arguments, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(*arguments, dtype=torch.float64, **options)


@pytest.mark.parametrize(("axes", "sides"), [(1, (5, 6, 12)), (2, (5, 6, 9)), (3, (3, 4))])
def test_circular_layers_are_exact(axes, sides):
    every = itertools.product(sides, (1, 2, 3), (1, 2, 3), (1, 2, 3, 4), (1, 2))
    for n, k, stride, dilation, groups in every:
        p, odd = divmod(dilation * (k - 1), 2)
        if odd or p > n or n % stride:
            continue
        options = {"stride": stride, "padding": p, "dilation": dilation, "groups": groups, "padding_mode": "circular"}
        layer = of(CONV[axes], 2, 4, k, **options)
        agrees(layer, *[n] * axes, circular=True)


MODES = ("zeros", "reflect", "replicate", "circular")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_layers_of_any_geometry(axes, mode):
    for k, stride, dilation, padding, groups, n in itertools.product(
        (1, 3, 4), (1, 2), (1, 2), (0, 1, 2), (1, 2), (5, 6) if axes < 3 else (4, 5)
    ):
        if n + 2 * padding < dilation * (k - 1) + 1 or (axes == 3 and (k == 4 or padding == 2)):
            continue
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "padding_mode": mode}
        agrees(of(CONV[axes], 2, 4 if groups == 2 else 3, k, **options), *[n] * axes)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_two_dimensional_layer(data):
    """Also with tuples, words for the padding, and more inputs than outputs."""
    draw = data.draw
    pair = lambda least, most: draw(st.tuples(st.integers(least, most), st.integers(least, most)))  # noqa: E731
    groups, kernel, dilation, sides = draw(st.integers(1, 3)), pair(1, 4), pair(1, 3), pair(3, 7)
    padding = draw(st.sampled_from(["same", "valid", None]))
    stride = (1, 1) if padding == "same" else pair(1, 3)
    options = {
        "padding": padding or pair(0, 2),
        "stride": stride,
        "dilation": dilation,
        "groups": groups,
        "padding_mode": draw(st.sampled_from(MODES)),
    }
    layer = of(nn.Conv2d, groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3)), kernel, **options)
    try:
        layer(torch.zeros(1, layer.in_channels, *sides, dtype=torch.float64))
    except RuntimeError:
        with pytest.raises(ValueError, match="does not fit the layer"):
            singular_values(layer, input_size=sides)
        return
    agrees(layer, *sides)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_transposed_layers(axes):
    for k, stride, dilation, padding, more, groups, n in itertools.product(
        (1, 2, 3), (1, 2, 3), (1, 2), (0, 1), (0, 1), (1, 2), (3, 4) if axes < 3 else (3,)
    ):
        if more >= max(stride, dilation) or (n - 1) * stride - 2 * padding + dilation * (k - 1) + more + 1 < 1:
            continue
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        agrees(of(TRANSPOSED[axes], 2, 4, k, output_padding=more, **options), *[n] * axes)
    # No two taps meet and nothing lies over the edge: this is the adjoint of a circular convolution.
    agrees(of(TRANSPOSED[axes], 3, 2, 2, stride=2), *[3] * axes, circular=True)


def test_a_linear_layer():
    layer = of(nn.Linear, 5, 7)
    agrees(layer, circular=True)
    assert singular_values(layer).shape == (5,)
    assert spread(project(layer).reshape(7, 5, 1, 1), 1) == pytest.approx((1, 1))


@pytest.mark.parametrize("size", [13, 16])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"padding": 3, "dilation": 3, "padding_mode": "reflect"},
        {"padding": 0, "stride": 2},
        {"padding": 1, "groups": 4, "padding_mode": "replicate"},
    ],
)
@pytest.mark.parametrize(("c", "d"), [(4, 8), (8, 4)])
def test_the_iteration_on_larger_layers(c, d, options, size):
    layer = of(nn.Conv2d, c, d, 3, **options)
    exact = torch.linalg.matrix_norm(matrix(layer, size, size), 2).item()
    found = operator_norm(layer, input_size=size).item()
    assert exact * (1 - 1e-9) <= found <= exact * (1 + 1e-13)
    assert found <= operator_norm_bound(layer, input_size=size).item()


@pytest.mark.parametrize("kind", ["even", "equal", "smooth"])
def test_the_iteration_finds_the_largest_of_values_that_lie_close_together(kind):
    """Symmetric kernels, equal groups and smooth ones have their largest values in clusters."""
    layer = of(nn.Conv2d, 4, 4, 3, padding=1, groups=4 if kind == "equal" else 1, bias=False)
    with torch.no_grad():
        w = layer.weight
        if kind == "even":
            w.copy_(w + w.flip(2) + w.flip(3) + w.flip(2, 3))
        elif kind == "equal":
            w.copy_(w[:1].expand_as(w))
        else:
            w.fill_(1.0)
    exact = torch.linalg.matrix_norm(matrix(layer, 14, 14), 2).item()
    assert operator_norm(layer, input_size=14).item() == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(
    "layer",
    [
        of(nn.Conv2d, 2, 3, 3, padding=1, padding_mode="reflect"),
        of(nn.Conv1d, 4, 4, 3, groups=2, padding=1, padding_mode="circular"),
        of(nn.ConvTranspose2d, 2, 3, 3, stride=2),
        of(nn.Linear, 4, 3),
    ],
)
def test_gradients_reach_the_layers_weight(layer):
    size = {} if isinstance(layer, nn.Linear) else {"input_size": 4}

    def norm(weight):
        found = copy.deepcopy(layer)
        del found.weight
        found.weight = weight
        return operator_norm(found, **size)

    assert torch.autograd.gradcheck(norm, layer.weight.detach().clone().requires_grad_())


def test_the_gradient_of_the_iteration_is_that_of_the_matrix():
    layer = of(nn.Conv2d, 8, 8, 3, padding=1)
    sides = (9, 9)
    operator_norm(layer, input_size=sides).backward()
    ours, layer.weight.grad = layer.weight.grad, None
    basis = torch.eye(8 * 81, dtype=torch.float64).reshape(-1, 8, *sides)
    torch.linalg.matrix_norm((layer(basis) - layer.bias[:, None, None]).flatten(1), 2).backward()
    assert torch.allclose(ours, layer.weight.grad, atol=1e-4 * ours.norm().item())


# -- where the weight comes from -----------------------------------------------------------------------------------
class _Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "wrapped",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        lambda layer: parametrize.register_parametrization(layer, "weight", _Halved()) or layer,
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        lambda layer: prune.random_unstructured(layer, "weight", 0.5),
        torch.compile,
    ],
)
def test_parametrised_layers_have_their_current_weight(wrapped):
    layer = wrapped(of(nn.Conv2d, 2, 3, 3, padding=1))
    state = copy.deepcopy(layer.state_dict())
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(1.5)  # an older weight_norm makes its weight anew only when it is called
    ours = operator_norm(layer, input_size=4)
    assert layer.training
    same = [torch.equal(v, state[k] * 1.5) for k, v in layer.named_parameters()]
    assert all(same) and all(torch.equal(v, state[k]) for k, v in layer.named_buffers())
    inner = getattr(layer, "_orig_mod", layer).eval()
    assert ours.item() == pytest.approx(torch.linalg.matrix_norm(matrix(inner, 4, 4), 2).item(), rel=1e-12)
    ours.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


# -- bare weights that say more ------------------------------------------------------------------------------------
def test_a_bare_weight_with_groups_and_dilation():
    layer = of(nn.Conv2d, 4, 4, 3, groups=4, dilation=2, padding=2, bias=False)
    bare = {"groups": 4, "dilation": 2}
    assert operator_norm(layer.weight, 6, "zeros", **bare).item() == pytest.approx(
        operator_norm(layer, input_size=6).item(), rel=1e-12
    )
    layer.padding_mode = "circular"
    assert torch.equal(singular_values(layer.weight, 6, **bare), singular_values(layer, input_size=6))
    assert spread(layer.weight, 6, **bare) == spread(layer, input_size=6)
    assert torch.equal(project(layer.weight, 6, **bare), project(layer, input_size=6))
    # Without groups it is a map of one channel.
    assert singular_values(layer.weight, 6).shape == (6, 6, 1)


def test_a_layer_may_be_taken_as_circular_if_asked():
    layer = of(nn.Conv2d, 3, 4, 3, padding=1, stride=2)
    approximation = singular_values(layer, input_size=8, padding="circular")
    assert torch.equal(approximation, singular_values(layer.weight, 4, 2))
    assert operator_norm(layer, input_size=8, padding="circular") == approximation.max()
    with pytest.raises(ValueError, match="needs an input that the stride divides"):
        singular_values(layer, input_size=9, padding="circular")


# -- the projection ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (of(nn.Conv1d, 3, 24, 3, padding=1, padding_mode="circular"), 8),
        (of(nn.Conv3d, 2, 32, 2, padding=1, dilation=2, padding_mode="circular"), 4),
        (of(nn.Conv2d, 4, 32, 3, groups=2, padding=2, dilation=2, padding_mode="circular"), (6, 9)),
        (of(nn.Conv2d, 6, 6, (2, 1), stride=(2, 1)), (6, 5)),
        (of(nn.Conv2d, 2, 9, 3, stride=3, dilation=2, padding=2, padding_mode="circular"), 9),
        (of(nn.ConvTranspose2d, 8, 5, 2, stride=2), 3),
        (of(nn.ConvTranspose1d, 2, 8, 2, stride=2, groups=2), 4),
        (of(nn.Linear, 6, 4), None),
    ],
)
@pytest.mark.parametrize("relu", [False, True])
def test_projected_layers_keep_the_norm(layer, size, relu):
    sides = {} if size is None else {"input_size": size}
    kernel = project(layer, passes=60, relu=relu, **sides)
    assert kernel.shape == layer.weight.shape
    held = copy.deepcopy(layer)
    held.weight = nn.Parameter(kernel)
    assert spread(held, relu=relu, **sides) == pytest.approx((1, 1), abs=0.02)
    # An isotropic gradient keeps its squared norm on average, or half of it behind a ReLU.
    values = singular_values(held, **sides)
    outputs = matrix(held, *(convolution(held, size).input_shape[1:])).shape[0]
    assert values.square().sum().item() / outputs == pytest.approx(2 if relu else 1, rel=0.02)


def test_a_projection_reads_only_the_frequencies_of_the_dilated_map():
    """One pass sets every singular value that the map has, before the crop: 1 tap in each phase is exact."""
    plain, dilated = of(nn.Conv2d, 3, 8, 3, padding=1), of(nn.Conv2d, 3, 8, 3, padding=2, dilation=2)
    assert torch.equal(plain.weight, dilated.weight)
    assert torch.allclose(project(plain, input_size=4), project(dilated, input_size=8), atol=1e-12)
    assert torch.allclose(project(plain, input_size=7), project(dilated, input_size=7), atol=1e-12)


def test_spread_of_a_layer_with_a_border():
    """It is that of the layer as it is, without what is zero for every kernel."""
    layer = of(nn.Conv2d, 2, 6, 3, stride=2)
    exact = torch.linalg.svdvals(matrix(layer, 6, 6))  # 2x2 outputs, of 5x5 pixels that are read
    assert spread(layer, input_size=6) == pytest.approx(
        tuple((x / target(layer.weight.shape, 2)).item() for x in (exact[-1], exact[0]))
    )
    skips = of(nn.Conv2d, 2, 6, 1, stride=2, padding=1)
    exact = torch.linalg.svdvals(matrix(skips, 5, 5))  # 4x4 outputs, of which 2x2 read a pixel
    assert (exact[8:] < 1e-12).all()
    low, high = spread(skips, input_size=5)
    assert (low, high) == pytest.approx(tuple((exact[[7, 0]] / target(skips.weight.shape, 2)).tolist()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("sides", "options"),
    [((2, 3, 2), {}), ((4, 3, 2), {"padding": 1}), ((8, 4, 3), {"padding": 2, "padding_mode": "circular"}),
     ((8, 6, 2), {"padding": 2, "padding_mode": "reflect"}), ((8, 4, 2), {"padding": 2, "padding_mode": "replicate"})],
)  # fmt: skip
def test_spread_leaves_out_what_is_zero_for_almost_every_kernel(sides, options, dtype):
    """Also where the pattern of the zeros alone would allow a larger rank."""
    layer = of(nn.Conv2d, *sides, **options)
    exact = torch.linalg.svdvals(matrix(layer, 6, 6))
    rank = int((exact > 1e-12 * exact[0]).sum())
    assert exact[rank - 1] > 1e-4 * exact[0]
    pattern = matrix(layer, 6, 6).abs() > 0
    assert structural_rank(csr_matrix(pattern.numpy())) > rank
    sigma = target(layer.weight.shape)
    assert spread(layer.to(dtype), input_size=6) == pytest.approx(
        (exact[rank - 1].item() / sigma, exact[0].item() / sigma), rel=1e-9 if dtype == torch.float64 else 1e-2
    )


def test_spread_of_a_kernel_that_lost_its_rank_is_zero_all_the_same():
    layer = of(nn.Conv2d, 4, 4, 3, padding=1)
    with torch.no_grad():
        layer.weight[1] = layer.weight[0]
    assert spread(layer, input_size=6)[0] < 1e-12


# -- number formats ------------------------------------------------------------------------------------------------
def everything(weight, layer):
    return [
        singular_values(weight, 6),
        operator_norm(weight, 6, "zeros"),
        operator_norm_bound(weight, 6),
        spectrum.dense(weight, 3),
        spectrum.transfer_matrices(weight, 4).abs(),
        project(weight, 6),
        torch.tensor(spread(weight, 6)),
        singular_values(layer, input_size=6),
        operator_norm(layer, input_size=11),
        torch.tensor(spread(layer, input_size=6)),
        project(layer, input_size=6),
    ]


@pytest.mark.parametrize("context", [torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode()])
def test_autocast_and_inference_mode_change_nothing(context):
    layer = of(nn.Conv2d, 3, 4, 3, padding=1).float()
    weight = layer.weight.detach().clone()
    layer = parametrizations.spectral_norm(layer)
    expected = everything(weight, layer)
    with context:
        found = everything(weight, layer)
    for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype
        assert torch.allclose(a, b, atol=1e-5)  # autocast would be 1e-2 off


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_shorter_formats_are_computed_in_float32(dtype):
    layer = of(nn.Conv2d, 3, 4, 3, padding=1).to(dtype)
    exact = torch.linalg.svdvals(matrix(copy.deepcopy(layer).double(), 6, 6))
    ours = singular_values(layer, input_size=6)
    assert ours.dtype == operator_norm(layer, input_size=6).dtype == torch.float32
    assert torch.allclose(ours.double(), exact, atol=1e-5)
    assert operator_norm(layer, input_size=6).item() == pytest.approx(exact[0].item(), rel=1e-6)


def test_a_layer_made_in_inference_mode_works_outside_of_it():
    with torch.inference_mode():
        layer = of(nn.Conv2d, 8, 8, 3, padding=1)
    exact = torch.linalg.matrix_norm(matrix(layer, 6, 6), 2).item()
    assert operator_norm(layer, input_size=6).item() == pytest.approx(exact, rel=1e-9)


# -- what is refused -----------------------------------------------------------------------------------------------
class _Standardised(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) / 2


CONV3 = nn.Conv2d(3, 4, 3)
ONES = torch.ones(3, 2, 3, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: singular_values(CONV3, 8), "a layer is given with input_size="),
        (lambda: singular_values(CONV3), "Conv2d needs input_size="),
        (lambda: singular_values(CONV3, input_size=(8, 8, 8)), "input_size must be the side of the input"),
        (lambda: singular_values(CONV3, input_size=2), "does not fit the layer"),
        (lambda: singular_values(CONV3, input_size=8, stride=1), "a layer has its own"),
        (lambda: singular_values(CONV3, input_size=8, groups=3), "a layer has its own"),
        (lambda: operator_norm(CONV3, input_size=8, padding="zeros"), "a layer has its own"),
        (lambda: singular_values(ONES, input_size=8), "a bare weight is given with size"),
        (lambda: singular_values(ONES), "a bare weight is given with size"),
        (lambda: singular_values(ONES, 8, groups=2), "groups must divide the 3 output channels"),
        (lambda: singular_values(ONES, 8, dilation=0), "dilation"),
        (lambda: singular_values(nn.Linear(3, 2), input_size=3), "must be left out for a Linear"),
        (lambda: singular_values(nn.LazyConv2d(3, 3), input_size=3), "has no weight yet"),
        (lambda: singular_values(_Standardised(3, 4, 3), input_size=8), "a forward pass of its own"),
        (lambda: singular_values(nn.ReLU(), input_size=8), "not ReLU"),
        (lambda: operator_norm(nn.Conv2d(3, 4, 3, device="meta"), input_size=8), "meta device"),
        (
            lambda: singular_values(nn.Conv2d(64, 64, 3, padding=1), input_size=32),
            "65536 by 65536 entries is too large",
        ),
        (lambda: singular_values(ONES.to("meta"), 8), "meta device"),
        (lambda: singular_values(ONES.to_sparse(), 8), "stored as torch.sparse_coo"),
        (lambda: singular_values(ONES.to(torch.float8_e4m3fn), 8), "float8_e4m3fn"),
        (lambda: singular_values(torch.quantize_per_tensor(ONES, 0.1, 0, torch.qint8), 8), "quantised"),
        (lambda: singular_values(torch.nested.nested_tensor([ONES, ONES]), 8), "nested"),
        (lambda: project(torch.nested.nested_tensor([ONES, ONES]), 8), "nested"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()
