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
# # One Conv-ReLU layer, for many numbers of channels
#
# [Chapter 2](02_projection.ipynb) built the projection and the value $\sigma$ at which it holds the singular values. That $\sigma$ rests on two assumptions: that the
# directions a convolution does not lose carry their share of the gradient's energy, and that a ReLU takes half of it. The paper tests both
# at once, in its Figure 2 {cite}`zaeemzadeh2020`: it trains small networks on CIFAR-10 and looks at the gradient on both sides of one convolution and its ReLU, for many numbers of input and output
# channels. It finds the ratio of the two norms moved close to 1, and one exception: very few input channels, and more output channels than that.
# This page makes the experiment again, with more ways to begin and to hold the kernel, and then looks at each assumption alone, to see what makes the
# exceptions.
#
# | | |
# |---|---|
# | **needs** | two CPU cores |
# | **fetches** | nothing to read the stored grid; CIFAR-10, 170 MB, once, to train one |
# | **takes** | seconds with the stored grid, or at `smoke`; about an hour to train the grid of `desk` on two cores. `paper` wants a GPU and has not been run; where there is one, `auto` is `paper`, and `-p preset desk` shows the stored grid |
#
# The grid is trained by one command, cell by cell, and an interrupted one goes on where it was. `stored = True` reads the committed one where it is the
# grid that these parameters describe; change any of them, and this page trains its own (`seeds` is how many: 0, 1, …):
#
# ```bash
# papermill notebooks/03_channel_grid.ipynb out.ipynb -p in_channels "2 8" -p out_channels "2 8 64" -p lr 0.1
# ```

# %% tags=["parameters"]
preset = "auto"
in_channels = None
out_channels = None
variants = None
seeds = None
stages = None
batch_size = None
lr = 0.01
momentum = 0.9
weight_decay = 0.0001
probe_images = None
head = "mean"
source = None
device = "auto"
workers = None
stored = True

# %%
from paperlib.channel_grid import VARIANTS, Cell, GridConfig, read, run, train_cell

config = GridConfig.from_namespace(globals()).resolve()

# %%
# %matplotlib inline
from IPython.display import Markdown

from paperlib import cifar, claims
from paperlib.figures import channel_grid as draw
from paperlib.store import results_root
from paperlib.studies import channel_grid as studies

# %% [markdown]
# ## The experiment
#
# Three 3 × 3 convolutions, $3 \to c$, $c \to d$ and $d \to 10$, with a ReLU behind the first two, no biases and no normalisation; the mean over the map gives the ten logits (`head = "linear"` puts a linear layer there instead; [it matters](the-head)). The
# layer in question is the one in the middle, $y = \mathrm{relu}(Wx)$, and the number is
#
# $$
# \frac{\lVert \partial E / \partial y \rVert}{\lVert \partial E / \partial x \rVert} ,
# $$ (eq-ratio)
#
# output over input, as everywhere in this book: above 1 the gradient shrinks on its way back. The norms are taken over a whole batch, the same images for all networks.
# A cell of the grid is one pair $(c, d)$. The first and the last kernel of a seed are the same in every variant; the variants differ in the middle one, in how it begins and in what it is held at after every second
# step. The paper leaves open how it initialised these networks, the learning rate, and the network's end; this page uses plain SGD at a constant rate, 0.01 (why not 0.1, see [below](the-rate)).

# %%
studies.variants()

# %% [markdown]
# `conv-relu` is the paper's value for a convolution with a ReLU behind it, `conv` the one for a convolution alone, `published` that of the authors'
# code (see [Reading the published code](02b_published.ipynb)), which is the same as `conv` unless $c > d$.

# %% tags=["nbval-ignore-output"]
grid = run(config)
table = grid.measurements
Markdown(grid.describe())

# %% [markdown]
# ## The ratio, with and without the projection
#
# In each cell: the geometric mean of the ratio over the seeds; below it the spread, to be read "times or over", and after a † the number of networks that have died (no gradient gets through their
# ReLU any more), which the mean leaves out. All heat maps of this page share one scale of colours: white keeps the norm.

# %% tags=["nbval-ignore-output"] mystnb={"figure": {"caption": "The gradient-norm ratio of the Conv-ReLU after the last stage, without and with the projection: what the paper's Figure 2 shows.", "name": "fig-grid"}, "image": {"alt": "Two heat maps over input and output channels. Without the projection most cells are orange, the gradient shrinks; with it most are near white; two and four output channels are orange, few inputs with many outputs purple."}}
start, end = table.step.min(), table.step.max()
last = studies.ratios(table)
draw.heat_maps(
    last,
    {v: VARIANTS[v].title for v in ("free", "conv-relu")},
    columns=2,
    title="Without and with the projection",
)

# %% [markdown]
# Without a projection the gradient shrinks in every cell, by half and more where there are few output channels. With it the ratio is nearer to 1 in nearly all cells, and close to 1 in
# the middle of the grid. Two regions stay off. In the upper right, with many more outputs than inputs, the ratio is *below* 1: the gradient grows. On the left, with two or four
# output channels, it is above 1, whatever the number of inputs, and most so for many. The paper's only exception, few inputs and more outputs, is a part of the first region.

# %% tags=["nbval-ignore-output"] mystnb={"figure": {"caption": "The other variants, at the same moment.", "name": "fig-variants"}, "image": {"alt": "Five heat maps on the same colours: two other values of sigma, and three ways to begin without a projection."}}
others = ("conv", "published", "free-he-fan-in", "free-he-fan-out", "free-orthogonal")
draw.heat_maps(
    last,
    {v: VARIANTS[v].title for v in others},
    columns=2,
    title="Other values of σ, and other beginnings",
)

# %% [markdown]
# Without the factor for the ReLU the ratio is larger, by $\sqrt2$ at the start and somewhat less after training: too large nearly everywhere, and about right in the upper right, where $\sqrt{2d/\min(d,c)}$ is too much. The published $\sqrt{d/c}$ is too small
# wherever $c > d$.
#
# The two starts of He {cite}`he2015` deserve a second look. With a fan-in variance of $2/9c$ each of the $c$ channels of $x$ gets $9d$ products of variance
# $2/9c$, of which the ReLU leaves half: $\lVert\partial E/\partial x\rVert^2 = c \cdot 9 \cdot \tfrac{2}{9c} \cdot \tfrac12\,\lVert\partial E/\partial y\rVert^2$, the same norm, for all $c$ and $d$. PyTorch's default has a sixth
# of that variance, and begins at $\sqrt6 = 2.45$; fan out, $2/9d$, keeps the size of the gradient's *entries* and begins at $\sqrt{d/c}$. So at the start a scale is enough, and no projection is needed. The question is what stays.

# %% tags=["nbval-ignore-output"] mystnb={"figure": {"caption": "How far the ratio is from 1, over the first steps of training: the median over all cells, as a factor.", "name": "fig-over-time"}, "image": {"alt": "One line a variant against the steps. The projected one with the factor for the ReLU stays lowest."}}
distances = studies.distances(table)
draw.over_time(
    distances,
    {v: VARIANTS[v].title for v in VARIANTS},
    title="Distance from norm preservation",
)

# %% tags=["nbval-ignore-output"]
distances.pivot_table("distance", "variant", "step", sort=False).round(2)

# %% [markdown]
# The projection with the factor for the ReLU and the two starts that need none, He's with fan in and the orthogonal one, begin alike, within five per cent of 1 in the median cell. In the first 25 steps, while the networks learn
# fastest, the free kernels go further from it than the held one; after 100 steps all three are about a quarter away from 1. Against PyTorch's start the projection is a clear gain. Against a good scale at the start
# it is a small one, in these short runs; [longer ones](a-longer-look) tell more.

# %% [markdown]
# (which-assumption)=
# ## Which assumption fails, and where
#
# The gradient loses energy twice on its way back, and the ratio has three factors:
#
# $$
# \frac{\lVert \partial E / \partial x \rVert^2}{\lVert \partial E / \partial y \rVert^2} = \rho \cdot \varphi \cdot \gamma .
# $$ (eq-three-factors)
#
# $\rho$ is the share of energy that the ReLU lets through, $\varphi$ the share of the rest that lies in the convolution's row space, $\gamma$ what the
# convolution makes of that. The projection sets $\gamma = \sigma^2$, up to its crop and the border, and $\sigma^2 = 2d/\min(d,c)$ is right if
# $\rho = \tfrac12$ and $\varphi = \min(d,c)/d$. Every factor was measured. The next figure shows, in units of the ratio, what each assumption is off by: the three panels of a row multiply to the ratio.

# %% tags=["nbval-ignore-output"] mystnb={"figure": {"caption": "With the projection, σ = √(2d / min(d, c)): by what factor the ratio is away from 1 because of each assumption, before the first step and after the last.", "name": "fig-factors"}, "image": {"alt": "Two rows of three heat maps: ReLU, row space, crop and border. The third is near white everywhere; the ReLU's deviates where there are two output channels, the row space's where there are few input channels and more outputs."}}
factors = {
    name: studies.factors(table, "conv-relu", step)
    for name, step in (
        (f"after {start} steps", start),
        (f"after {end} steps", end),
    )
}
draw.factor_maps(factors, "What each assumption is off by")

# %% [markdown]
# Before the first step all three assumptions hold, in nearly every cell to within some ten per cent. (The crop and the border cost most for $c = d$ and for two outputs, where one projection of a random kernel is not enough; training projects many times.) After 100 steps the third still holds, and the two regions
# above have one cause each:
#
# * on the left it is **the ReLU**. With two or four units at each pixel, those that the gradient needs are off too often: it loses much more than half of its energy, most of all behind many inputs, where training switches units off;
# * in the upper right it is **the row space**. It holds *more* than $c/d$ of the energy, so that $\sigma^2 = 2d/c$ overcompensates, and $\sigma^2 = d/c$ happens to be about right there.
#
# Elsewhere the paper's value is right to within some twenty per cent, and mostly to within ten, and its two assumptions with it.

# %% [markdown]
# ## A small space, or correlated gradients?
#
# The paper explains the exception, few input channels and more outputs, by the smallness of the space: with few dimensions, the row space's share of the energy is more likely to be far from $c/d$. [Chapter 2](gradient-energy)
# derived another reason. The space is not small: the row space of a convolution on a 32 × 32 map has $1024\,c$ of $1024\,d$ dimensions, and in so many a gradient without
# any preference has its share to within a few per cent. But gradients at different pixels and of different images are *correlated*: they use few directions of the $d$ channels, and
# how much of these the row space holds is a matter of luck, with the standard deviation of equation {eq}`eq-spread`, which depends on the gradients' effective rank.
#
# In these networks the correlation is extreme. The mean over the map hands the same gradient back to every pixel but those at the border, so that $\partial E/\partial y$ is constant over a map and has rank nine, at most, over all images; only the
# ReLU, which is off at some pixels and on at others, brings variety into it.
#
# Both explanations give numbers without a free parameter, and the projected networks can decide between them. The black dashes are a control: the same kernels and the same ReLUs, in the same small space, with white noise in
# place of the gradient.

# %% tags=["nbval-ignore-output"] mystnb={"figure": {"caption": "The share of the gradient's energy in the row space, over c/d, for the cells with more outputs than inputs. Grey line: equation 7. Bands: ± one standard deviation as each explanation predicts it.", "name": "fig-explanations"}, "image": {"alt": "Two panels, before and after training. Before, the dots scatter around 1 as widely as the band for correlated gradients; the band for a small space is a hair's breadth. After, most dots lie above. White noise lies on 1 in both."}}
energy = studies.energy_shares(table)
draw.explanations(
    energy,
    {start: f"after {start} steps", end: f"after {end} steps"},
    "Why the share is not c/d",
)

# %% tags=["nbval-ignore-output"]
studies.energy_summary(energy, start).set_index(["c", "d"]).round(3)

# %% [markdown]
# Before the first step the dots scatter as widely as the effective rank of the gradients says, about ten times as widely as in a space that is merely small. White noise in that same space has its share on average to within one per cent, each network's to within a few
# (most with few channels: a ReLU that switches channels off makes even white noise unequal). In units of the predicted standard deviation (about 1 where a prediction is right):

# %% tags=["nbval-ignore-output"]
studies.misfit(energy).set_index("step").round(2)

# %% [markdown]
# For these networks the correlated gradients decide it, before training. (The shares lie a little above 1 on average: which units are active and what the network answers depend on the kernel, so its row space is not quite independent of the gradient.)
#
# After training neither explanation is enough. The shares have *moved*: some down at first, in the steps in which the networks learn fastest, and in the end up, most where $d/c$ is largest, to twice $c/d$ for 2 → 32. Is it the gradients that have changed, or the kernel? Eight of the cells were trained again, and in each network the kernel exchanged, for the measurement only, for a random one that knows nothing of
# the gradients:

# %%
fresh = read(results_root() / "channel_grid" / "desk-1aee1435")
again = studies.energy_shares(fresh.measurements)
studies.energy_means(again).round(2)

# %%
again.groupby("step")[["share", "fresh", "white"]].mean().round(2)

# %%
Markdown(fresh.describe())

# %% [markdown]
# It is the kernel. In the row space of a random one (`fresh`) the gradients have their share of $c/d$ after training as before, within some twenty per cent; in the network's own (`share`) they have more and more. The kernel is updated along the gradients at its output, and its row space turns
# towards the few directions that they use. A row space that has learnt holds more than its share, and a $\sigma$ for gradients without preference is too large for it.
#
# (the-head)=
# ## The network's end
#
# The paper does not say how its small networks end, and it matters. With a linear layer over the whole output of the last convolution in place of the mean, each pixel gets a gradient of its own, and the effective rank is about twice as large for many channels. (The
# larger head needs a lower rate.)

# %% mystnb={"figure": {"caption": "The grid with a linear layer in place of the mean over the map, five seeds, learning rate 0.003, after 100 steps.", "name": "fig-head"}, "image": {"alt": "Two heat maps. Without the projection every cell is orange, from 2.1 to 2.9; with it the right half is white, and cells with two or four outputs behind many inputs are orange."}}
linear = read(results_root() / "channel_grid" / "desk-9d08e7a2")
draw.heat_maps(
    studies.ratios(linear.measurements),
    {v: VARIANTS[v].title for v in ("free", "conv-relu")},
    columns=2,
    title="A linear layer at the end",
)

# %%
Markdown(linear.describe())

# %% mystnb={"figure": {"caption": "As above, with a linear layer at the end: the share of the gradient's energy in the row space, over c/d.", "name": "fig-head-energy"}, "image": {"alt": "Two panels, before and after training. The dots lie close around 1, inside the bands for correlated gradients, in the second panel a little higher."}}
other = studies.energy_shares(linear.measurements)
draw.explanations(
    other,
    {0: "before the first step", 100: "after 100 steps"},
    "Why the share is c/d, nearly",
)

# %%
studies.misfit(other).set_index("step").round(2)

# %% [markdown]
# The exception in the upper right is gone: with sixteen and more outputs, and fewer inputs, the projected ratio is 1.00 to 1.08. Before training the shares scatter half as widely as the formula says, since it takes the row space to be one and the same at all frequencies, which is harmless only for gradients that are nearly
# constant over the map; and about twice as widely as for white gradients. In training they still move up, by twenty per cent at most in place of a hundred. The other exception, few outputs behind many inputs, is still there.
#
# So what decides is how much alike the gradients are, over channels, pixels and images. If they are as much alike as behind a mean over the map, equation 7 fails where inputs are few and outputs many, by luck before training and by learning after. If they differ, it holds there as well. A small number of channels alone does no harm.

# %% [markdown]
# (the-rate)=
# ## The learning rate
#
# The paper trains its residual networks at a rate of 0.1, and does not say at which it trained these. They have no normalisation, and at 0.1 many of their ReLUs switch off:

# %% mystnb={"figure": {"caption": "The grid again at a learning rate of 0.1, five seeds, after 100 steps.", "name": "fig-rate"}, "image": {"alt": "Two heat maps at the higher rate. Without the projection, ratios from 0.8 to 1.5 for four and more output channels, but for one cell, and very large ones for two, where some networks have died; with it, 1.2 to 1.4 over most of the grid."}}
fast = read(results_root() / "channel_grid" / "desk-b4f34ff4")
draw.heat_maps(
    studies.ratios(fast.measurements),
    {v: VARIANTS[v].title for v in ("free", "conv-relu")},
    columns=2,
    title="Learning rate 0.1",
)

# %%
Markdown(fast.describe())

# %%
main = read(results_root() / "channel_grid" / "desk").measurements
main = main[main.variant.isin(["free", "conv-relu"])]
studies.activity({"0.01": main, "0.1": fast.measurements}).rename(
    columns={"grid": "rate"}
).set_index(["rate", "variant"]).round(2)

# %% [markdown]
# In the held networks a quarter of the units are active now, and a quarter of the gradient's energy gets through. The projection allows for a half: its ratios are 1.2 to 1.4 over most of the grid, and cannot get any closer. A free kernel can grow
# and make up for even fewer active units; on the right of the grid it does more than that. In exchange some of the free networks die, and none of the held ones.
#
# So the value of $\sigma$ is right for networks whose units are active half of the time. A batch normalisation in front of the ReLU would see to that; these networks, and the paper's experiment as it describes it, have none.
#
# (a-longer-look)=
# ## A longer look
#
# Are 100 steps enough to tell? Nine cells, three seeds, three epochs of all 50,000 images:

# %% mystnb={"figure": {"caption": "Three epochs, at the rate of 0.01: ratios after 100, 391 and 1173 steps.", "name": "fig-longer"}, "image": {"alt": "Six heat maps, three moments without and with the projection. Without it the cells turn from orange to purple, gradients that shrink to gradients that grow; with it most stay near white."}}
longer = read(results_root() / "channel_grid" / "desk-a797f691")
draw.heat_maps(
    *studies.by_stage(longer.measurements, ("free", "conv-relu"), (100, 391, 1173)),
    title="Over three epochs",
)

# %%
Markdown(longer.describe())

# %% [markdown]
# They are not. Without a projection the weights go on growing, and the gradient with them: layers that shrank it after 100 steps let it grow after 1173, in most cells by a factor of 1.2 to 2.3, with no end in sight. The held layers stay about where they
# were or come nearer. Five of the nine cells end within some fifteen per cent of 1; what is off is again the upper right, where the gradient grows by a third, and two cells with two outputs.
#
# Is it the start? He's, with fan in, keeps the norm at first without a projection:

# %% mystnb={"figure": {"caption": "Four of these cells without a projection, but with a start that keeps the norm, two seeds.", "name": "fig-he"}, "image": {"alt": "Three heat maps of two by two cells: near white after 100 steps, purple after 391 and 1173."}}
he = read(results_root() / "channel_grid" / "desk-15a1262f")
draw.heat_maps(
    *studies.by_stage(he.measurements, ("free-he-fan-in",), (100, 391, 1173)),
    title="He's start (fan in), over three epochs",
)

# %%
Markdown(he.describe())

# %% [markdown]
# It is not the start: after an epoch the gradient grows by a factor of 1.6 to 2 in all four. A good start keeps the norm for the first steps; only the projection keeps it. (Two seeds, four cells.)
#
# The norm is not the loss, though. After three epochs:

# %%
longer.measurements.query("step == 1173").pivot_table(
    "loss", ["c", "d"], "variant"
).round(3)

# %% [markdown]
# The free networks have learnt a little more in seven of the nine cells. In three layers nothing depends on the norm; in a hundred its factors multiply.

# %% [markdown]
# ## A cell of your own
#
# `train_cell` trains one cell and returns what was measured, one row per seed and stage; on a CUDA device all seeds of a cell train side by side.

# %% tags=["nbval-ignore-output"]
sample = cifar.load("cifar10", "sample")
cell = train_cell(Cell(c=4, d=32, seeds=[0, 1], stages=(0, 10)), sample)
cell[["seed", "step", "log_ratio", "relu_share", "energy_fraction", "gain"]].round(3)

# %% [markdown]
# ## What holds
#
# The paper's claims about Figure 2 (F2) and about the row space's share (P3), with the committed grid, real CIFAR-10. The verdicts follow from it by the rules below the table.

# %%
found = claims.read_all(results_root(), only=("P3", "F2"))
claims.overview(found).drop(columns=["device", "commit", "verdict"]).set_index(
    ["claim", "measured"]
)

# %%
print(claims.report(found))

# %% [markdown]
# The cells (c, d) that fail F2's rule, by the number of steps:

# %%
f2 = found[-1].frames["ratios"]
for step in sorted(f2.step.unique()):
    print(f"{step:>3}", claims.CLAIMS["F2"].failures(f2, step) or "none")

# %% [markdown]
# At this scale both claims hold with a correction: before the first step they are right, in training not in every cell. That the projection moves the ratio towards 1, and keeps it there while a free layer drifts away, holds for most of the grid. The paper's exception, few inputs and more outputs, is there
# in networks that end with a mean over the map, where it reaches to 8 → 32, and is not in those that end with a linear layer; its cause is not the size of the space but that gradients are alike, and that kernels learn where they point. The other exception, few output channels, is the ReLU's. The paper does
# not mention it.
#
# The verdict is a mild one: the rule forgives a cell whose seeds do not show that it is off. A ProcResNet, which this is all for, has channels far beyond this grid, and a mean over the map at its end. Its first transition, 3 → 64, would be in the upper right; the paper notes that this one block is less norm-preserving than the others.
#
# None of this is the paper's experiment at its size. That is `python -m paperlib grid -p preset paper`: seven by seven cells up to 128 channels, ten epochs, and a GPU, which was not at hand.
