# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Use it in your own network
#
# A few lines around your training loop show how every {term}`block` of your network changes the norm of the gradient, hold the convolutions on the gradient's shortest path, or make them {term}`norm-preserving` exactly. They also say when that does nothing.
#
# The training in this page is short and its networks are small, so that you can change everything and run it again. What training the paper's own networks shows, so far in short runs, is in [chapter 5](05_results.ipynb).
#
# :::{card} About this chapter
# :class-card: chapter-card
#
# - **Shows:** the library in a network of your own: watch it, hold it, before and after, and a model with attention
# - **Claims:** none; it is a guide, and what it measures is on small networks
# - **Needs:** two CPU cores, 2 GB of memory; besides `paperlib` only torch, torchvision, pandas and matplotlib
# - **Fetches:** nothing; the images are the CIFAR-10 sample that comes with the library
# - **Takes:** about half a minute, in full ([measured](reproducibility.ipynb))
# - **Run it:** `papermill notebooks/06_your_network.ipynb out.ipynb`
# :::

# %% tags=["remove-cell"]
import importlib.util

if importlib.util.find_spec("paperlib") is None:
    raise ModuleNotFoundError(
        "paperlib, the library of this book, is not installed here: "
        "say `pip install norm-preservation` (once it is on the Python "
        "Package Index), or `make run` in a checkout of the book's "
        "repository, which creates an environment with it, `.venv`."
    )

# %% tags=["parameters"]
seeds = 3
steps = 30

# %% tags=["hide-input"]
from paperlib.studies import your_network as studies

studies.Choice.from_namespace()

# %matplotlib inline
import warnings

import pandas as pd
import torch
import torch.nn.functional as F
import torchvision
from IPython.display import HTML, Markdown
from torch import nn

from paperlib import (
    GradientNorms,
    NormPreserving,
    cifar,
    operator_norm,
    orthogonal,
    singular_values,
    spread,
)
from paperlib.figures import your_network as draw
from paperlib.spectrum import operator_norm_bound
from paperlib.studies.tables import fitted
from paperlib.trunk import explain_trunk

# %% tags=["hide-input"]
data = cifar.load("cifar10", "sample")
pixels = data.train_images / 255
images = (pixels - data.mean[:, None, None]) / data.std[:, None, None]
labels = data.train_labels
small = studies.small_images(data)

# %% tags=["hide-input"]
# Two experiments of this page, whose figures and tables come later.
layers, losses = studies.before_and_after(
    small, labels, range(seeds), steps=steps
)
summary = studies.summary(layers, losses)
scaled = studies.ratios_by_scale(small[:64], labels[:64], [0.5, 1, 2])

# %% tags=["remove-input", "nbval-ignore-output"]
Markdown(studies.found(layers, summary, scaled))

# %% [markdown]
# ## In short
#
# | you want to | write |
# |---|---|
# | see where gradients vanish or explode | `with GradientNorms(model) as probe:` around the loop, then `print(probe)` |
# | hold the convolutions on the shortest path of the gradient | `with NormPreserving(model, example=images).attach(optimizer):` around the loop |
# | make one layer norm-preserving exactly, for any shape | `orthogonal(layer)`, with `relu=True` if a ReLU follows, before the optimiser is made |
# | know the singular values of a layer | `singular_values(layer, input_size=32)` |
#
# The code below goes on from what the folded cells at the top of the page make: the imports, `images` (the CIFAR sample, normalised), their `labels`, and `small`, the same images made smaller.

# %% [markdown]
# ## Watch
#
# `GradientNorms` finds the blocks of most networks by itself: modules of one type that follow one another. It changes nothing in the computation. Here is a ResNet of torchvision, with random weights:

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
resnet = torchvision.models.resnet18(num_classes=10)
with GradientNorms(resnet) as probe:
    F.cross_entropy(resnet(images[:16]), labels[:16]).backward()
print(probe)

# %% [markdown]
# A {term}`ratio` is the norm of the gradient at a block's output over the one at its input. At 1 the block keeps it. Above 1 the gradient shrinks on its way back through the block,
# below 1 it grows. Ratios multiply over the blocks, which is why {numref}`fig-your-resnet` has a logarithmic scale. The numbers are also there as rows (`probe.table()`), as a tensor (`probe.ratios()`), and as averages over the
# steps (`probe.averages()`).

# %% tags=["nbval-ignore-output"] mystnb={"figure": {"caption": "The gradient-norm ratio of each block of a ResNet-18 with random weights: `probe.plot()`.", "name": "fig-your-resnet"}, "image": {"alt": "Eight points, one for each block, on a logarithmic axis around a line at 1."}}
ax = probe.plot()

# %% [markdown]
# A vision transformer is watched in the same way. The first attempt finds a surprise, and the last column says what it is:

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
vit = torchvision.models.VisionTransformer(
    image_size=32,
    patch_size=4,
    num_layers=6,
    num_heads=4,
    hidden_dim=64,
    mlp_dim=128,
    num_classes=10,
)
optimizer = torch.optim.SGD(vit.parameters(), lr=0.1)
with GradientNorms(vit) as probe:
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(vit(images[:16]), labels[:16]).backward()
        optimizer.step()
        print(probe)

# %% [markdown]
# torchvision starts the last linear layer of this network at zero, so that nothing reaches the other layers in the first step. From the second one on there are ratios. (Why the first of them is so small is an
# [exercise](your-network-exercises).)
#
# **A block's own path.** A residual block hands the gradient on by its skip, whatever its inner part does. To see the inner part alone, name it, and ask for `input_gradient="vjp"`: the gradient that comes back
# through this module and through no other path. (`"total"`, the default, is the paper's: the gradient over all paths.) Here is a network with attention in residual blocks:


# %%
class Attend(nn.Module):
    """A residual block: attention, and a skip past it."""

    def __init__(self, width, heads=4):
        super().__init__()
        self.attention = nn.MultiheadAttention(
            width, heads, batch_first=True
        )

    def forward(self, x):
        return x + self.attention(x, x, x, need_weights=False)[0]


torch.manual_seed(0)
blocks = [Attend(32) for _ in range(4)]
model = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(512, 10))
tokens = torch.randn(8, 16, 32)
inner = [block.attention for block in blocks]
with (
    GradientNorms(model) as whole,
    GradientNorms(model, inner, input_gradient="vjp") as own,
):
    F.cross_entropy(model(tokens), labels[:8]).backward()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The part of the gradient's norm that each of four attention layers sends back (δ), and the ratio of its block, which lies between 1/(1 + δ) and 1/(1 − δ).", "name": "tab-attention"}}
delta = 1 / own.ratios()
pd.DataFrame(
    {
        "1 / (1 + δ)": 1 / (1 + delta),
        "block's ratio": whole.ratios(),
        "1 / (1 − δ)": 1 / (1 - delta),
        "δ": delta,
    },
    index=own.names,
).round(2)

# %% [markdown]
# The last column of {numref}`tab-attention`, one over the ratio of the attention alone, is how much of the gradient's norm the attention sends back. For the gradient $g$ that arrives at the block it is $\lVert (J-I)^\top g \rVert / \lVert g \rVert$, where $J$ is the block's derivative. It takes the place of the paper's $\delta$: by the triangle inequality
# the ratio of the whole block lies between the first and the third column. So the default tells *how* a block changes the gradient, and `"vjp"` *which part* of the block could change it. Attention gets its input three times, as query, key and value; all three paths count.
#
# **In a real loop.** A forward pass without a backward pass, such as validation, is no step and does no harm. With gradient accumulation each part of the batch is a step of its own:

# %%
with GradientNorms(vit) as probe:
    for part in range(2):
        some = slice(8 * part, 8 * part + 8)
        F.cross_entropy(vit(images[some]), labels[some]).backward()
        with torch.no_grad():
            vit(images[100:108])
    steps_seen = [row["steps"] for row in probe.averages()]
print(steps_seen)

# %% [markdown]
# * *Mixed precision*: a gradient scaler multiplies the loss, and with it every norm. Ratios do not change; for true norms give the scaler to the probe, `GradientNorms(model, scale=scaler)`.
# * *`torch.compile`*: give the probe the compiled model. It stays one graph, and is compiled anew when the probe comes and goes.
# * *`DistributedDataParallel`*: give the probe the wrapped model, in every process; each sees the gradients of its own part of the batch.

# %%
scaler = torch.amp.GradScaler("cpu", init_scale=1024)
with (
    GradientNorms(vit) as plain,
    GradientNorms(vit, scale=scaler) as told,
):
    loss = F.cross_entropy(vit(images[:16]), labels[:16])
    scaler.scale(loss).backward()
factor = (plain.norms() / told.norms()).mean()
print(f"norms of the one over norms of the other: {factor:.0f}")
difference = (plain.ratios() - told.ratios()).abs().max()
print(f"largest difference of the ratios: {difference:.0e}")

# %% [markdown]
# ## Hold
#
# `NormPreserving` brings the kernels of some convolutions back to their target after every second step of the optimiser. An example batch is enough for it to find which ones: those that every path with the fewest convolutions goes through. Printing it tells what it
# will do.

# %% tags=["nbval-ignore-output"]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of the normalisations
    held = NormPreserving(resnet, every=2, example=images[:2])
print(held)

# %% [markdown]
# Then it is attached to the optimiser. The model stays what it is, with the same modules and the same state dict.

# %% tags=["nbval-ignore-output"]
optimizer = torch.optim.SGD(resnet.parameters(), lr=0.05)
with held.attach(optimizer), GradientNorms(resnet) as probe:
    for step in range(4):
        some = slice(16 * step, 16 * step + 16)
        optimizer.zero_grad()
        F.cross_entropy(resnet(images[some]), labels[some]).backward()
        optimizer.step()
print(held)

# %% [markdown]
# The three 1 × 1 convolutions are exact: from the smallest to the largest, their singular values over the target (`now / target`) are `1.00 to 1.00`. The first convolution is not, because its kernel has several taps, and one projection of such a kernel is not exact. It comes nearer with each projection.
# `start="projected"` brings it there at once, as {numref}`tab-projected` shows:

# %% tags=["nbval-ignore-output"] mystnb={"figure": {"caption": "The smallest and the largest singular value of each held convolution, over its target, after the projected start.", "name": "tab-projected"}}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    held = NormPreserving(resnet, example=images[:2], start="projected")
ranges = pd.DataFrame(held.describe()).set_index("name")
ranges = ranges[["target", "lowest", "highest"]].round(2)
ranges.columns = ["target", "lowest / target", "highest / target"]
ranges.rename_axis("convolution")

# %% [markdown]
# **Why the others are passed over.** Most of them have an identity skip around them. The rest stand in the branch of a transition, and around these leads the skip with its one convolution, which is held instead. Either way the gradient comes back whatever they do. `explain_trunk` gives the reason for every layer:

# %%
for layer in explain_trunk(resnet, images[:2])[:8]:
    print(f"{layer.name:21} {layer.on_trunk!s:5} {layer.reason}")

# %% [markdown]
# **Choosing them yourself.** In a U-Net each level on the way down is handed to the way up, too. So a path leads around everything but the first and the last layers:

# %%
torch.manual_seed(0)
unet = studies.UNet()
print(NormPreserving(unet, example=images[:2]))

# %% [markdown]
# This choice is right for the gradient, and may not be what you want. `NormPreserving` does not look for ReLUs: where one follows, say `relu=True`. To hold others, name them, each with the side of its output. (`held.describe()` and `explain_trunk` tell the sides.)

# %%
convs = [("down.0.0", 16), ("down.1.0", 8)]
print(NormPreserving(unet, convs=convs, relu=True))

# %% [markdown]
# `relu=True` says that a ReLU follows directly. It takes half of the gradient's energy, and the target is larger by $\sqrt 2$.
#
# One more kind is passed over: convolutions of several taps with as many output as input channels, as in a VGG. Their projections stall on the way to the target. Such a kernel has to begin there (`start="delta-orthogonal"`), or to be
# made [exactly](your-network-exactly).

# %% [markdown]
# ## Before and after
#
# What does it do? Take a plain network of ten convolutions, each with a ReLU, without normalisation and without skips (`studies.plain_network()`): here the norm matters, since nothing corrects it. It is trained in four ways, on the same batches of the
# CIFAR sample, with images of half the size. They differ in one line each; {numref}`fig-before-after` and {numref}`tab-before-after` have what comes of it:
#
# * *free, PyTorch's start*: nothing is done;
# * *free, He's start*: `nn.init.kaiming_normal_(conv.weight)` for each convolution;
# * *held*: `NormPreserving(model, example=images, relu=True, start="delta-orthogonal")`, attached to the optimiser;
# * *orthogonal*: `orthogonal(conv, relu=True)` for each convolution.

# %% tags=["nbval-ignore-output"] mystnb={"figure": {"caption": "The gradient-norm ratio of each layer of a plain network, in the first step and as the average of the last ten. Lines: geometric means over the seeds; bands: one standard deviation. At 1 the norm is kept.", "name": "fig-before-after"}, "image": {"alt": "Two panels. Before training the free network from PyTorch's start lies far above 1 at every layer and the three others lie near 1. After training its ratios are nearer to 1, but vary from layer to layer and from seed to seed."}}
# At the top of the page:
# layers, losses = studies.before_and_after(
#     small, labels, range(seeds), steps=steps
# )
draw.before_and_after(layers, "A plain network, free and held")

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"caption": "By what factor a layer changes the gradient's norm, up or down, on average, and the loss at the end: mean ± standard deviation over the seeds.", "name": "tab-before-after"}}
HTML(fitted(studies.written(summary), "before-after"))

# %% tags=["remove-input", "nbval-ignore-output"]
Markdown(studies.told(layers, summary, steps))

# %% [markdown]
# There are two things to take from it. A good start does most of the work: what holding adds is that the singular values stay where they began, however long the training is and whatever the optimiser does. And a kernel that is held is not yet a gradient that is held. The
# kernels of the last network are exact in every step, and its ratios are not: the target assumes that a ReLU takes half of the energy and that gradients have no preferred directions, which [chapter 3](03_channel_grid.ipynb) measures.

# %% [markdown]
# (your-network-normalised)=
# ## A batch normalisation after a held convolution cancels its scale
#
# This is the case to know, since most networks have it. A normalisation divides by the standard deviation of what it gets. A kernel that is twice as large gives an output with twice the standard deviation, and after the division nothing has
# changed, for the output as for the gradient. Take a convolution that is held at half of its target, at the target, and at twice its target (`scale=`), and measure the ratio of the block ({numref}`tab-scale`):

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"figure": {"caption": "The ratio of a block whose convolution is held at some multiples of its target, by what follows the convolution.", "name": "tab-scale"}}
# At the top of the page:
# scaled = studies.ratios_by_scale(small[:64], labels[:64], [0.5, 1, 2])
table = scaled.pivot(index="behind", columns="scale", values="ratio")
table = table.loc[list(studies.BEHIND)]
table.round(3).add_prefix("× ").rename_axis(
    index="after the convolution", columns=None
)

# %% tags=["remove-input", "nbval-ignore-output"]
nothing, normed, skipped = (
    table.loc[behind] for behind in studies.BEHIND
)
Markdown(
    "With nothing after the convolution but the ReLU, four times "
    f"the scale divides the ratio by {nothing[0.5] / nothing[2]:.1f}. "
    "With a batch normalisation it divides it by "
    f"{normed[0.5] / normed[2]:.3f}. With a normalisation and a skip "
    f"past it, by {skipped[0.5] / skipped[2]:.1f}.\n\n"
    f"That the ratio is {normed[1]:.3f} with a batch normalisation, "
    "and not 1, comes from the block's input. The normalisation "
    "divides the gradient by the standard deviation of the "
    "convolution's output, which is small where the input is small. "
    "The ratio is proportional to the size of the input."
)

# %% [markdown]
# So in a torchvision ResNet, where all four held convolutions have a batch normalisation right after them, holding does not set the norm of the gradient. What it does there is to make all singular values equal, so that no direction is favoured. The
# library says so (`held.normalised`), by a warning and in what it prints:

# %%
print(held.normalised)

# %% [markdown]
# **What it does to training.** The loss of such a network does not depend on the scale: $E(aW) = E(W)$. Differentiating with respect to $W$ gives $a\,E'(aW) = E'(W)$, so the gradient at the kernel is divided by $a$, while the gradient at the convolution's input stays the same. A step of gradient descent
# with the learning rate $\eta$ leads from $aW$ to $a\,(W - \tfrac{\eta}{a^2}\,E'(W))$. So the scale at which the kernel is held is nothing but its learning rate, $\eta/a^2$ in the place of $\eta$. If that is so, then a kernel held at $a$ and trained with $a^2\eta$ must go through the very same training, whatever $a$ is. In
# {numref}`tab-scale-training` the networks of {numref}`tab-scale` are trained on the same batches, and the kernel is held all the time:

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"figure": {"caption": "Trainings by gradient descent with a convolution held at some multiples of its target: the norm of the gradient at its kernel and the loss in the first step, the mean loss and the block's mean ratio in the last ten.", "name": "tab-scale-training"}}
trained = studies.trained_by_scale(small, labels, [0.5, 1, 2], steps)
trainings = studies.trained_summary(trained)
heads = {
    "behind": "after the convolution",
    "rate": "its learning rate",
    "gradient": "gradient, first step",
    "first_loss": "loss, first step",
    "loss": "loss, last 10",
    "ratio": "ratio, last 10",
}
written = trainings.map("{:.3f}".format).reset_index()
HTML(fitted(written.rename(columns=heads), "scaled", index=False))

# %% tags=["remove-input", "nbval-ignore-output"]
by_step = trained.groupby(["behind", "rate", "step"]).loss
apart = (
    (by_step.max() - by_step.min()).groupby(["behind", "rate"]).max()
)
normed = apart[studies.BEHIND[1]]
same, squared = studies.RATES
Markdown(
    "With the normalisation the three scales begin with the same loss, "
    "and the gradient at the kernel is divided by the scale. With one "
    "learning rate for all, their losses then part, by up to "
    f"{normed[same]:.2f}. With the rate times the "
    "square of the scale they differ in no step by more than "
    f"{normed[squared]:.0e}, which comes from rounding "
    "and from the small number that a normalisation adds to the "
    "variance. Without a normalisation the scales differ from the "
    "first step on, in the loss and in the ratio."
)

# %% [markdown]
# What is held in front of a normalisation is therefore the *shape* of the spectrum, all singular values equal, and the kernel's learning rate, but neither the size of what goes forward nor that of the gradient. In evaluation mode the normalisation divides by stored averages. These were collected
# at the scale of the training, which they cancel in the same way. A scale that is changed afterwards does count, since the averages do not know of it.
#
# The paper's transitions are built differently. The convolution's output takes two paths: into the next residual block, which begins with a normalisation, and along that block's skip past it. The skip carries the scale on, to the next block and
# up to the last normalisation in front of the classifier. If your network has normalisations, check `held.normalised` first. If it lists all that is held, and the norm is what you want, spend your time elsewhere.

# %% [markdown]
# (your-network-exactly)=
# ## Exactly, for any shape
#
# `project` returns the nearest norm-preserving kernel, cropped to its few taps, and repeating it comes closer. Where a kernel of several taps has as many output as input channels it stalls far from the target. The same often happens with a stride $s$ where there are $s^2$ times as many output channels. `orthogonal` builds the kernel from
# free parameters that can be nothing but norm-preserving, for every number of channels, size and stride. {numref}`tab-exactly` has the range of the singular values over the target:

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The smallest to the largest singular value of a kernel over its target: as PyTorch makes it, projected, and orthogonal.", "name": "tab-exactly"}}
shapes = [
    (8, 16, 3, 1),
    (8, 8, 3, 1),
    (16, 16, 3, 1),
    (8, 8, 5, 1),
    (16, 64, 3, 2),
]
kernels = studies.square_kernels(shapes)
kernels["range"] = [
    f"{low:.2f} to {high:.2f}"
    for low, high in zip(kernels.lowest, kernels.highest, strict=True)
]
table = kernels.pivot(
    index="kernel", columns="treatment", values="range"
)
table = table.loc[kernels.kernel.unique(), kernels.treatment.unique()]
table.rename_axis(columns=None)

# %% [markdown]
# Any optimiser trains it, as long as it is made afterwards. Here a U-Net without normalisation learns to remove noise from images, with every layer orthogonal but the last, which has no ReLU and gives the pixels:

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
unet = studies.UNet()
convs = [
    layer
    for name, layer in unet.named_modules()
    if isinstance(layer, nn.Conv2d) and name != "last"
]
for conv in convs:
    orthogonal(conv, relu=True)
optimizer = torch.optim.Adam(unet.parameters(), lr=0.003)
watched = ["first", "down.0", "down.1", "middle", "up.0", "up.1"]
with GradientNorms(unet, watched, input_gradient="vjp") as probe:
    for step in range(30):
        clean = small[torch.randint(len(small), (32,))]
        noisy = clean + 0.5 * torch.randn_like(clean)
        optimizer.zero_grad()
        loss = F.mse_loss(unet(noisy), clean)
        loss.backward()
        optimizer.step()
        if step in (0, 29):
            print(f"step {step}: loss {loss.item():.2f}")
print(probe)

# %% [markdown]
# The blocks of a U-Net are no chain, since some outputs are used twice; hence `"vjp"`. After the training the singular values of every kernel are where they were in the beginning:

# %%
for conv in convs:
    low, high = spread(conv.weight, 8, conv.stride[0], relu=True)
    print(f"{low:.4f} to {high:.4f}")

# %% [markdown]
# The layer's old weight is discarded, because a trained kernel cannot be written in this form. So `orthogonal` is for training from the beginning. `torch.nn.utils.parametrize.remove_parametrizations(conv, "weight")` leaves an ordinary convolution afterwards.

# %% [markdown]
# ## The spectrum of any layer
#
# `singular_values`, `operator_norm` and `operator_norm_bound` take a layer as it is, with its padding, stride, dilation and groups, on an input of the given size. All are differentiable, so that they can be part of a loss. In {numref}`tab-dense` they stand beside a dense decomposition of the layer's Jacobian, which knows nothing of convolutions:

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The norm of layers of many kinds and its bound, beside a dense decomposition, and by how much the two differ.", "name": "tab-dense"}}
torch.manual_seed(0)
image = (8, 8, 8)
wraps = {"padding": 1, "padding_mode": "circular"}
examples = {
    "Conv1d, stride 2": (nn.Conv1d(8, 16, 3, 2, padding=1), (8, 32)),
    "Conv2d": (nn.Conv2d(8, 16, 3, padding=1), image),
    "Conv2d, circular": (nn.Conv2d(8, 16, 3, **wraps), image),
    "depthwise": (nn.Conv2d(8, 8, 3, padding=1, groups=8), image),
    "dilated": (
        nn.Conv2d(4, 8, 3, padding=2, dilation=2),
        (4, 10, 10),
    ),
    "transposed, stride 2": (
        nn.ConvTranspose2d(8, 4, 4, 2, padding=1),
        (8, 6, 6),
    ),
    "Linear": (nn.Linear(64, 32), (64,)),
}
double = {
    name: (layer.double(), shape)
    for name, (layer, shape) in examples.items()
}
beside = studies.beside_dense(double)
for column in ("dense", "norm", "bound"):
    beside[column] = beside[column].map("{:.4f}".format)
beside["difference"] = [
    "below 1e-9" if x < 1e-9 else f"{x:.0e}"
    for x in beside["difference"]
]
heads = {"values": "singular values", "dense": "norm, dense"}
HTML(fitted(beside.rename(columns=heads), "dense", index=False))

# %% [markdown]
# The last column is the largest difference found, among all singular values and the norm, relative to the norm. The bound needs no iteration and is never below the norm. A dense decomposition is possible for small inputs only; `operator_norm` has no such limit:

# %% tags=["nbval-ignore-output"]
conv = nn.Conv2d(32, 32, 3, padding=1)
print(f"norm {operator_norm(conv, input_size=28):.4f}")
print(f"bound {operator_norm_bound(conv, input_size=28):.4f}")

# %% [markdown]
# A layer that wraps around has its singular values frequency by frequency, whatever the size. For one that pads with zeros `padding="circular"` asks for this approximation:

# %%
print(singular_values(conv, input_size=28, padding="circular").shape)

# %% [markdown]
# ## In a trainer
#
# Where the loop is not yours, a callback logs the ratios to whatever the trainer logs to, as `grad_ratio/<block>`. These lines are not run here, since Lightning and transformers are extras that this book does without:
#
# ```python
# from lightning.pytorch import Trainer
# from paperlib.callbacks.lightning import GradientNormsCallback
#
# trainer = Trainer(callbacks=[GradientNormsCallback()])
# ```
#
# ```python
# from transformers import Trainer
# from paperlib.callbacks.transformers import GradientNormsCallback
#
# trainer = Trainer(model=model, args=args, train_dataset=dataset)
# trainer.add_callback(GradientNormsCallback(trainer))
# ```
#
# `GradientNormsCallback` takes what `GradientNorms` takes: `blocks`, `every`, `input_gradient`, `scale`, `tensor`. In a loop of your own, TensorBoard gets the same scalars:
#
# ```python
# from paperlib.callbacks import scalars
# from torch.utils.tensorboard import SummaryWriter
#
# writer = SummaryWriter()
# for name, value in scalars(probe).items():  # averages since the last call
#     writer.add_scalar(name, value, step)
# ```
#
# `NormPreserving` needs no callback: `held.attach(optimizer)` follows the optimiser, whoever calls it. In Lightning the place for it is `configure_optimizers`.

# %% [markdown]
# (your-network-exercises)=
# ## Exercises
#
# The code of the solutions goes on from the cells above.
#
# **1. Products.** The ratios of blocks that follow one another multiply to one number. Which? Check it on the ResNet of this page. Why does it not hold for the attention layers above with `"vjp"`?
#
# :::{admonition} Solution
# :class: dropdown
# Each block's output is the next one's input, so that in the product all norms but two cancel: what is left is the norm at the last block's output over the norm at the first block's input.
#
# ```python
# with GradientNorms(resnet) as probe:
#     F.cross_entropy(resnet(images[:16]), labels[:16]).backward()
# norms = probe.norms()
# assert torch.isclose(probe.ratios().prod(), norms[-1, 1] / norms[0, 0], rtol=1e-4)
# ```
#
# With `"vjp"` the numerator of one block and the denominator of the next are different gradients, at different places: between two attention layers the skip's part is added.
# :::
#
# **2. Targets.** All non-zero singular values are to be $\sigma$ with $\sigma^2 = d/r$, where $r$ is the rank of the map at one frequency ([chapter 2](02_projection.ipynb) says how a stride changes it). A ReLU doubles $\sigma^2$. Find $\sigma$ for a 3 × 3 convolution from 16 to 16 channels with stride 2 and a ReLU, and for a 1 × 1
# convolution from 16 to 64 channels with stride 2 without one.
#
# :::{admonition} Solution
# :class: dropdown
# A stride $s$ reads $s^2$ phases of the image as further channels, if the kernel has taps for them. The 3 × 3 kernel has: $r = \min(16, 4 \cdot 16) = 16$ and $\sigma^2 = 2 \cdot 16/16 = 2$. The 1 × 1 kernel reads one phase: $r = \min(64, 16) = 16$ and
# $\sigma^2 = 64/16 = 4$.
#
# ```python
# from paperlib import target
#
# assert round(target((16, 16, 3, 3), stride=2, relu=True) ** 2, 9) == 2
# assert round(target((64, 16, 1, 1), stride=2) ** 2, 9) == 4
# ```
# :::
#
# **3. Adam, and weight decay.** A held convolution stands right before a batch normalisation. Under gradient descent the scale $a$ at which it is held divides its learning rate by $a^2$. By what does it divide it under Adam, whose steps do not depend on the size of the gradient? And what does weight decay do to such a kernel?
#
# :::{admonition} Solution
# :class: dropdown
# By $a$: a step of size $\eta$ in a direction $U$ leads from $aW$ to $a\,(W - \tfrac{\eta}{a}\,U)$. Weight decay, in SGD and AdamW, multiplies the kernel by a number a little below 1. A free kernel becomes smaller by it, and relative to the kernel the next steps become larger. A held kernel comes back to its scale with the next projection, which does not depend on the
# size of what it projects.
#
# ```python
# def step(scale):
#     torch.manual_seed(0)
#     first = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
#     model = nn.Sequential(*first, nn.Flatten(), nn.Linear(1568, 10))
#     with torch.no_grad():
#         model[0].weight.mul_(scale)
#     optimizer = torch.optim.Adam(model.parameters(), lr=0.01 * scale)
#     F.cross_entropy(model(small[:32]), labels[:32]).backward()
#     optimizer.step()
#     return model[0].weight.detach() / scale
#
#
# from paperlib import project
#
# kernel = step(1.0)
# assert torch.allclose(kernel, step(2.0), atol=1e-4)
# assert torch.allclose(project(0.9 * kernel, 8), project(kernel, 8), atol=1e-6)
# ```
# :::
#
# **4. The first layer of the vision transformer.** Its ratio is far below 1: on its way back the gradient becomes many times larger there. At which token, and why?
#
# :::{admonition} Solution
# :class: dropdown
# At the class token, the only one that the classifier reads. It begins at zero, and to it a position embedding of standard deviation 0.02 is added. The layer normalisation of the first layer divides it by this small number, and the gradient, too. Patches
# have a standard deviation near 1, so that nothing of the kind happens to them. A larger start of the class token brings the ratio near 1:
#
# ```python
# with GradientNorms(vit) as probe:
#     F.cross_entropy(vit(images[:16]), labels[:16]).backward()
# before = probe.ratios()[0].item()
# nn.init.normal_(vit.class_token)
# with GradientNorms(vit) as probe:
#     F.cross_entropy(vit(images[:16]), labels[:16]).backward()
# after = probe.ratios()[0].item()
# assert before < 0.3 and 0.5 < after < 2
# ```
# :::
#
# ## What follows
#
# The [scorecard](00_scorecard.ipynb) has every claim of the paper with its verdict, and the library's own pages describe each function with its shapes and errors. If your network is of a kind that this page does not have, [which networks work](../book/compatibility.md) lists those that were tried.
