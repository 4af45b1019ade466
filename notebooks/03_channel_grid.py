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
# The paper gives no learning rate for its Figure 2. At 0.1, the rate of its residual networks, holding a convolution does not bring the ratio to 1 as the paper reports. At a tenth of that rate it brings nearly
# every gradient-norm ratio nearer to 1, but leaves many of them off. This chapter shows both and finds two causes: ReLUs that switch off, and kernels that learn.
#
# [Chapter 2](02_projection.ipynb) built the {term}`projection` and the {term}`target` $\sigma$ for a convolution's singular values. That target rests on two assumptions. The
# directions which the convolution keeps must carry their share of the gradient's energy, and a ReLU must take half of it. The paper tests both at once in its Figure 2
# {cite}`zaeemzadeh2020`: for many numbers of channels it compares the gradient on both sides of one convolution and its ReLU. It reports that the projection
# "moves the gradient norm ratios toward" a number that is lost in our copy and taken to be 1, with one exception: very few input channels and more output channels than that. (That this is the exception is *inferred*: both symbols of the sentence are lost in our copy.)
#
# :::{card} About this chapter
# :class-card: chapter-card
#
# - **Shows:** for 25 pairs of channel numbers, how far from 1 the gradient-norm ratio of a Conv-ReLU is, free and held, and why
# - **Claims:** F2a, F2b and P3 ([scorecard](00_scorecard.ipynb))
# - **Needs:** two CPU cores, 1.5 GB of memory
# - **Fetches:** nothing to read the stored grids; CIFAR-10, 170 MB, once, to train a grid of your own
# - **Takes:** about half a minute to read the stored grids ([measured](reproducibility.ipynb)); to train a grid of your own one to two hours at `desk`; `paper` wants a GPU and has not been run
# - **Run it:** `papermill notebooks/03_channel_grid.ipynb out.ipynb -p preset desk`
# :::
#
# All that this chapter says is about stored grids, whatever its parameters are. They choose [a grid of your own](a-grid-of-your-own), near the end.

# %% tags=["remove-cell"]
import importlib.util

if importlib.util.find_spec("paperlib") is None:
    raise ModuleNotFoundError(
        "paperlib, the library of this book, is not installed here: "
        "say `pip install norm-preservation` (once it is on the Python "
        "Package Index), or `make run` in a checkout of the book's "
        "repository, which creates an environment with it, `.venv`."
    )

# %% tags=["hide-input"]
# %matplotlib inline
import math

import pandas as pd
from IPython.display import HTML, Markdown

from paperlib import channel_grid, cifar, claims
from paperlib.figures import channel_grid as draw
from paperlib.figures import interactive
from paperlib.store import results_root
from paperlib.studies import channel_grid as studies
from paperlib.studies.tables import fitted

TITLES = {v: kind.title for v, kind in channel_grid.VARIANTS.items()}
CELL = ["c", "d"]


def stored_grid(folder):
    """One of the grids that this chapter speaks of."""
    return channel_grid.read(results_root() / "channel_grid" / folder)


def span(values, style=".2f"):
    """The smallest and the largest of some numbers."""
    return f"{min(values):{style}} to {max(values):{style}}"


def named(cells):
    """Cells (c, d) in words."""
    pairs = [f"{c}\u00a0→\u00a0{d}" for c, d in cells]
    return ", ".join(pairs) or "none"


grids = {
    "slow": stored_grid("desk"),
    "fast": stored_grid("desk-b4f34ff4"),
    "again": stored_grid("desk-1aee1435"),
    "linear": stored_grid("desk-9d08e7a2"),
    "all": stored_grid("desk-43b06de9"),
    "all, fast": stored_grid("desk-5527f5cf"),
    "longer": stored_grid("desk-a797f691"),
    "he": stored_grid("desk-15a1262f"),
}
table = {name: grid.measurements for name, grid in grids.items()}
SLOW, FAST = (grids[name].config.lr for name in ("slow", "fast"))

# After the last step, cell by cell: held against free.
slow, fast = (studies.compare(table[n]) for n in ("slow", "fast"))

# What the claims' rules say of the same grids.
NAMES = ("F2a", "F2b", "P3")
read_claims = claims.read_all(results_root(), only=NAMES)
found = {f.claim: f for f in read_claims if f.preset == "desk"}
rules = {name: claims.CLAIMS[name] for name in NAMES}
frames = {n: found[n].frames[rules[n].table] for n in NAMES}
outcome = {n: claims.outcome(found[n]) for n in NAMES}
failing = {n: rules[n].failures(frames[n]) for n in NAMES}
nearer = {n: rules[n].nearer(frames[n]) for n in ("F2a", "F2b")}
NEAR = rules["F2a"].NEAR
# The paper's exception: the rule does not ask for these cells.
asked = slow.query("not (d > c and c <= 4)").index

# %% tags=["remove-input"]
shares = studies.energy_shares(table["fast"])
shares = shares.groupby(["step", *CELL]).share.mean()
Markdown(
    f"""
> **Found.** At the rate {SLOW:g} holding brings the ratio nearer to 1
> in {slow.nearer.sum()} of {len(slow)} pairs of channel numbers, and
> at {FAST:g} in {fast.nearer.sum()} ({nearer["F2a"].sum()} by the
> claim's rule, which adds a pair whose free networks have mostly died).
> Of the {len(asked)} pairs in
> which the paper expects a ratio near 1, {len(failing["F2b"])} are off
> by more than a factor of {NEAR:g} at the lower rate and
> {len(failing["F2a"])} at the higher one. There are two causes. Where
> there are few output channels, or the rate is high, ReLUs pass less
> than the half of the gradient's energy that the target allows for.
> And where there are fewer input channels $c$ than output channels
> $d$, kernels turn towards the gradients, and their {{term}}`row space` holds
> more of the energy than the share $c/d$ that the paper's (7) assumes.
> At the rate {FAST:g} it holds {shares[0].mean():.2f} times that share
> before training and {shares[100].mean():.2f} times that share after
> it, in the mean over the pairs. The most that a pair has is
> {shares[0].max():.2f} times before and {shares[100].max():.2f} times
> after.
> By the claims' rules that is *{outcome["F2a"]}* at {FAST:g} (F2a),
> *{outcome["F2b"]}* at {SLOW:g} (F2b), and *{outcome["P3"]}* for the
> share (P3). None of this is at the paper's scale: the verdict on all
> three stays *{claims.verdict(found["F2a"])}*.
"""
)

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

# %% tags=["hide-input"]
from paperlib.channel_grid import GridConfig

config = GridConfig.from_namespace().resolve()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Holding helps nearly every pair at the lower learning rate, and little more than half of the pairs at the higher one. Each pair of channel numbers has two marks, the ratio in its free networks and in its held ones after the last step. The line between them has the colour of the one that is nearer to 1. The grey band is what the claim's rule calls near 1. A † marks a mean without the networks that have died.", "name": "fig-answer"}, "image": {"alt": "Two panels, one a learning rate. Each has five groups of five pairs, by output channels. With two outputs the free ratios are far above 1 and the held ones nearer. With more outputs, at the higher rate, free ratios lie on both sides of 1 and held ones mostly above; at the lower rate all free ratios lie above 1, and the held ones on the line or near it, below it for many outputs and few inputs."}}
draw.against(
    {
        f"Learning rate {FAST:g}": studies.ratios(table["fast"]),
        f"Learning rate {SLOW:g}": studies.ratios(table["slow"]),
    },
    {
        "free": "free (PyTorch's start)",
        "conv-relu": "held, σ = √(2d / min(d, c))",
    },
    near=NEAR,
)

# %% [markdown]
# {numref}`fig-answer` shows every pair. The marks show the {term}`ratio`, the norm of the gradient at the layer's output over that at its input: above 1 the gradient shrinks on its way
# back. A layer is {term}`held` if its kernel is projected after every second step of training, and {term}`free` if it is trained as it is. The rest of the chapter explains
# three things in this picture: why the held marks lie too high at the higher rate, why they lie too high with few output channels, and why they lie too low with few inputs and many outputs.
#
# ## A map of this chapter
#
# 1. [The experiment](the-experiment): three layers, one number, eight kinds of networks, and what had to be assumed.
# 2. [Where the held layer stays off](with-and-without): with few output channels, and with few inputs and many outputs.
# 3. [The learning rate](the-rate): at the higher rate ReLUs switch off, and the target does not allow for that.
# 4. [Which assumption fails](which-assumption): with few outputs it is the ReLU, with few inputs and many outputs the row space.
# 5. [A small space, or correlated gradients?](why-not-its-share) Gradients are correlated, and kernels turn towards them.
# 6. [Another end](the-head), [all three convolutions held](all-three) and [a longer look](a-longer-look): what changes if the experiment is made otherwise.
# 7. [What holds](what-holds): the claims, their rules, and the rules that they had before.
# 8. [A grid of your own](a-grid-of-your-own).

# %% [markdown]
# (the-experiment)=
# ## The experiment
#
# The experiment looks at one layer in the middle of a small network. The network has three 3×3 convolutions, $3 \to c$, $c \to d$ and $d \to 10$, with a ReLU after the first two,
# and neither biases nor normalisation. The mean over the map (*global average pooling*) gives the ten logits. The layer in question is the middle one, $y = \mathrm{relu}(Wx)$, and the number is its ratio
#
# $$
# \frac{\lVert \partial E / \partial y \rVert}{\lVert \partial E / \partial x \rVert} ,
# $$ (eq-ratio)
#
# with norms over a whole batch, the same images for all networks. A *cell* of the grid is one pair $(c, d)$, written $c \to d$. Each cell has several networks, one a {term}`seed`, and its ratio is the geometric mean over them.
# A network has *died* if no gradient gets through its ReLU any more; means leave it out.
#
# The eight variants in {numref}`tab-variants` differ in how the middle kernel begins, and in what is held, at which singular value, after every second step. The first and the last kernel of a seed
# begin alike in all of them.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The variants, by the names that the parameters use: which kernels are held, at which singular value, and how the middle kernel begins.", "name": "tab-variants"}}
HTML(
    fitted(
        studies.variants(cells=()).reset_index(),
        "variants",
        index=False,
    )
)

# %% [markdown]
# `conv-relu` takes the paper's value for a convolution followed by a ReLU, `conv` the one for a convolution alone, and `published` that of the authors' code, which is the same as `conv` unless $c > d$ (see
# [Reading the published code](02b_published.ipynb)).

# %% tags=["remove-input"]
c = grids["slow"].config
loss = {
    name: studies.losses(table[name])["conv-relu"].mean()
    for name in ("slow", "fast")
}
Markdown(
    f"""
**How large it is.** At the rate {SLOW:g} a grid of {len(slow)} cells
has all variants but the last, with {c.seeds} seeds each; at {FAST:g} a
second one has the two that are compared, with
{grids["fast"].config.seeds}. Each network is trained for
{c.stages[-1]} steps of {c.batch_size} images, which is
{c.stages[-1] * c.batch_size / 50_000:.2f} of an epoch. It has hardly
begun to learn by then: at {SLOW:g} the loss of the held networks is
{loss["slow"]:.2f} on average, and at {FAST:g} it is
{loss["fast"]:.2f}, where guessing gives {math.log(10):.2f}. So the
chapter is about the beginning of training.
[A longer look](a-longer-look) takes
{len(studies.compare(table["longer"]))} of the cells further.
"""
)

# %% [markdown]
# **What is assumed.** The numbers of this experiment are lost in our copy of the paper, and it leaves some things unsaid. Assumed are the kernels' size, the number of epochs, the range of channels, how the
# networks begin and end, and that no ReLU follows the last convolution. The learning rate is assumed, too: 0.1 is that of the residual networks, and batch, momentum and weight decay are theirs as well. (*Inferred*: the four numbers are lost in our copy, and are those that the [published code](02b_published.ipynb) trains with.) The paper projects
# "the convolution layers". Most grids here hold the middle one alone, since it is the one that is looked at; [another](all-three) holds all three.

# %% [markdown]
# (with-and-without)=
# ## Where the held layer stays off
#
# At the lower rate two regions of the grid stay off, and at the higher one more than half of its cells. {numref}`fig-grid-held` shows the held layer alone, with rows for its input channels and columns for its output channels. All heat maps of this chapter share one
# scale of colours: a cell without colour keeps the norm, orange means that the gradient shrinks on its way back, purple that it grows.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The ratio of the held layer. At the higher rate the gradient shrinks nearly everywhere. At the lower one it shrinks on the left, where there are few output channels, and grows in the upper right, where there are few inputs and many outputs.", "name": "fig-grid-held"}, "image": {"alt": "Two heat maps over input and output channels. At the higher rate nearly all cells are orange, most so with two outputs. At the lower rate most are near white; two and four outputs are orange, few inputs with many outputs purple."}}
draw.heat_maps(
    pd.concat(
        studies.ratios(
            table[name][table[name].variant == "conv-relu"]
        ).assign(variant=name)
        for name in ("fast", "slow")
    ),
    {"fast": f"held, rate {FAST:g}", "slow": f"held, rate {SLOW:g}"},
)

# %% tags=["remove-input"]
right = slow.query("d >= 16 and d > c")
left = slow.query("d <= 4")
rest = slow.drop(right.index.union(left.index))
Markdown(
    f"""
**At the rate {SLOW:g}** the gradient shrinks in every free layer, by a
factor of {span(left.free, ".1f")} where there are two or four output
channels. Held, the layer is nearer to 1 in {slow.nearer.sum()} of
{len(slow)} cells, and farther from it in
{named(slow.index[~slow.nearer])}. On the left, with two or four
outputs, the held ratio is above 1 whatever the number of inputs
({span(left.held)}), and most so for many. In the upper right, with
sixteen and more outputs and fewer inputs than outputs, it is below 1
({span(right.held)}). In the other cells it is {span(rest.held)}. The
paper's exception, very few inputs and more outputs, overlaps both
regions and explains neither fully.
"""
)

# %% [markdown]
# In {numref}`fig-channels` you choose the variant, the learning rate and the step. At the higher rate only two variants were trained.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The gradient-norm ratio for every pair of channel numbers, by variant, learning rate and number of steps. A cell without colour keeps the norm.", "name": "fig-channels"}}
by_rate = studies.over_rates({SLOW: table["slow"], FAST: table["fast"]})
steps = {0: "before training", 100: "after 100 steps"}
panels = {
    f"{variant} {step}": f"{words}, {when}"
    for step, when in steps.items()
    for variant, words in (("free", "free"), ("conv-relu", "held"))
}
places = by_rate.variant + " " + by_rate.step.astype(str)
placed = by_rate.assign(variant=places)[by_rate.lr == SLOW]
HTML(
    interactive.html(
        interactive.ratios_by_channels(
            by_rate,
            {v: TITLES[v] for v in table["slow"].variant.unique()},
        ),
        "Gradient-norm ratio by the numbers of channels",
        f"The picture has two variants at the rate {SLOW:g}. On the "
        "book's page you choose the variant, the rate and the step.",
        draw.heat_maps(placed, panels),
    )
)

# %% tags=["remove-input"]
last = table["fast"].query("step == step.max() and variant == 'free'")
last = last.set_index(CELL)
lost = ~last.log_ratio.map(math.isfinite)
guessing = last.loss.sub(math.log(10)).abs() < 1e-4
stuck = last[guessing & ~lost]
thinned = ", ".join(
    f"{named([cell])} ({lost[cell].sum()} of {len(lost[cell])})"
    for cell in fast.index[~fast.whole]
)
survivors = last[~lost].loc[[fast.off_free.idxmax()]].log_ratio
survivors = sorted(map(math.exp, survivors))
few = fast.query("d == 2").free
Markdown(
    f"""
**At the rate {FAST:g}** the gradient shrinks in
{(fast.held > 1).sum()} of {len(fast)} held layers, in
{(fast.off_held > NEAR).sum()} of the cells by more than a factor of
{NEAR:g}, and in the median cell the held ratio is
{fast.held.median():.2f}. The free layers go
both ways. In {(fast.free < 1).sum()} cells the gradient grows, and
with two output channels it shrinks by a factor of {span(few, ".1f")}.
The held layer is nearer to 1 in {fast.nearer.sum()} of {len(fast)}
cells, and in {nearer["F2a"].sum()} by the claim's rule, which counts a
cell whose free networks have mostly died. In the others the free one is off by a factor of
{fast[~fast.nearer].off_free.max():.2f} at most.

**What holding does at both rates is to cut off the worst.** Among the
cells in which no network has died, the one farthest from 1 is off by a
factor of {fast[fast.whole].off_held.max():.1f} held and
{fast[fast.whole].off_free.max():.1f} free at {FAST:g}, and of
{slow[slow.whole].off_held.max():.1f} held and
{slow[slow.whole].off_free.max():.1f} free at {SLOW:g}. No held network
has died, and over all cells the farthest is off by
{fast.off_held.max():.1f} at {FAST:g}. Some free networks have died
there: {thinned}. The few that live there differ much: in
{named([fast.off_free.idxmax()])} they have ratios from
{survivors[0]:.1f} to {survivors[-1]:,.0f}.

The large free ratios are those of networks that
learn nothing: {len(stuck)} of the {(~lost).sum()} free networks that
live at {FAST:g} have the loss of guessing, and the smallest ratio among
them is {math.exp(stuck.log_ratio.min()):.0f}.
"""
)

# %% [markdown]
# ### Other targets, and better starts
#
# The paper's target does best in the first steps, but a start at the right scale soon comes near it. {numref}`fig-over-time` shows how far from 1 the median cell is, for all variants.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How far the ratio is from 1 in the first steps of training, at the lower rate: the median over all cells, as a factor. The layer held at the target with the factor for the ReLU stays lowest; the free layers with a good start are about as near in the end.", "name": "fig-over-time"}, "image": {"alt": "One line a variant against the steps. The held one with the factor for the ReLU stays lowest. The two free ones with a start that keeps the norm begin as low, rise above it, and come back. PyTorch's start begins highest."}}
steps = studies.distances(table["slow"])
draw.over_time(steps, TITLES)

# %% tags=["remove-input"]
far = steps.set_index(["step", "variant"]).distance
first, last_step = steps.step.unique()[1], steps.step.max()
good = ["free-he-fan-in", "free-orthogonal"]
begin = 100 * (far[0][["conv-relu", *good]].max() - 1)
Markdown(
    f"""
The layer held at this target, He's start with fan in {{cite}}`he2015`
and the orthogonal start begin alike, within {begin:.0f}% of 1 in the
median cell. In the first {first} steps, while the networks learn
fastest, the free kernels go farther from 1
({span(far[first][good])}) than the held one
({far[first]["conv-relu"]:.2f}). After {last_step} steps all three are
about equally far: {far[last_step]["conv-relu"]:.2f} held and
{span(far[last_step][good])} free. Against PyTorch's start
({far[last_step]["free"]:.2f}) holding is a clear gain at this rate.
Against a good scale at the start it is a small one in these short runs;
[longer ones](a-longer-look) tell more.
"""
)

# %% [markdown]
# That a scale at the start can be enough is a short calculation. With a fan-in variance of $2/9c$, each of the $c$ channels of $x$ gets $9d$ products of that variance, and the ReLU leaves half of them:
# $\lVert\partial E/\partial x\rVert^2 = c \cdot 9 \cdot \tfrac{2}{9c} \cdot \tfrac12\,\lVert\partial E/\partial y\rVert^2$, the same norm for all $c$ and $d$. PyTorch's default has a sixth
# of that variance, and begins at $\sqrt6 = 2.45$. Fan out, $2/9d$, keeps the size of the gradient's *entries* and begins at $\sqrt{d/c}$.

# %% tags=["remove-input"]
conv, published = (
    studies.by_cell(table["slow"], v) for v in ("conv", "published")
)
narrow = published[slow.query("c > d").index]
wide = slow.query("d == 32 and c <= 8").index
Markdown(
    f"""
The two other targets are too small in most cells. Without the factor
for the ReLU (`conv`) the ratio is larger by $\\sqrt2$ at the start, and
by a factor of {span(conv / slow.held)} after training. It is about
right ({span(conv[wide])}) for {wide[0][1]} outputs and eight inputs or
fewer, where $\\sqrt{{2d/\\min(d,c)}}$ is too large. The published
$\\sqrt{{d/c}}$ is far too small wherever $c > d$: there the ratio is
{span(narrow)}.
"""
)

# %% [markdown]
# (the-rate)=
# ## The learning rate
#
# At the higher rate many ReLUs switch off, and the target allows for half of them only. These networks have no normalisation that would keep their units active. {numref}`tab-activity` gives the
# share of units that are active and the share of the gradient's energy that the ReLU lets through.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The shares of units that are active, of the gradient's energy that the ReLU passes, and of networks that have died, after the last step. The ReLU passes less at the higher rate, and least in free networks.", "name": "tab-activity"}}
pair = table["slow"].variant.isin(("free", "conv-relu"))
activity = studies.activity(
    {f"{FAST:g}": table["fast"], f"{SLOW:g}": table["slow"][pair]}
)
activity["variant"] = activity.variant.map(
    {"free": "free", "conv-relu": "held"}
)
activity = activity.set_index(["grid", "variant"])
shown = activity.map("{:.2f}".format).reset_index()
heads = [
    "learning rate",
    "layer",
    "active units",
    "energy passed",
    "died",
]
HTML(fitted(shown.set_axis(heads, axis=1), "activity", index=False))

# %% tags=["remove-input"]
corner = fast.query("c <= 4 and d >= 16")
parts = studies.factors(table["fast"], "conv-relu")
parts = parts.pivot(index=CELL, columns="assumption", values="ratio")
parts = parts.loc[corner.index]
share = activity.relu_share[f"{FAST:g}", "held"]
units = activity.active[f"{FAST:g}", "free"]
Markdown(
    f"""
At the rate {FAST:g} the ReLU of a held network lets {share:.3f} of the
gradient's energy through, in the mean over all cells. The target allows
for a half, so the gradient loses a factor of
$\\sqrt{{0.5/{share:.3f}}}$ = {math.sqrt(0.5 / share):.2f} more than
intended, which is about what {{numref}}`fig-grid-held` shows. A free
kernel can grow and make up for even fewer active units ({units:.2f} of
them). In {(fast.free < 1).sum()} of {len(fast)} cells it overshoots, so
that the gradient grows. The price: {lost.sum()} of {len(lost)} free
networks have died.

One corner of {{numref}}`fig-grid-held` looks better than it is. With
four inputs or fewer and sixteen outputs or more the held ratios are
among the nearest to 1 at this rate ({span(corner.held)}), because two
errors cancel. The ReLU alone would make the ratio
{span(parts["ReLU"])}, and the row space alone, of which the
[next section](which-assumption) speaks, {span(parts["row space"])}.

So the target is right for networks whose units are active half of the
time. A batch normalisation in front of the ReLU would see to that.
These networks have none, nor has the paper's experiment as it is
described. The rest of the chapter is about the rate {SLOW:g}, where it
does not say otherwise.
"""
)

# %% [markdown]
# (which-assumption)=
# ## Which assumption fails, and where
#
# With few outputs the assumption about the ReLU fails, and with few inputs and many outputs the one about the row space. The gradient loses energy in two places on its way back, and the ratio has three factors:
#
# $$
# \frac{\lVert \partial E / \partial x \rVert^2}{\lVert \partial E / \partial y \rVert^2} = s_{\mathrm{ReLU}} \cdot s_{\mathrm{row}} \cdot s_{\mathrm{conv}} .
# $$ (eq-three-factors)
#
# Here $s_{\mathrm{ReLU}}$ is the share of energy that the ReLU lets through, $s_{\mathrm{row}}$ the share of the rest that lies in the convolution's row space, and $s_{\mathrm{conv}}$ what the
# convolution makes of that. The projection sets $s_{\mathrm{conv}} = \sigma^2$, up to its crop and the border. So $\sigma^2 = 2d/\min(d,c)$ is right if
# $s_{\mathrm{ReLU}} = \tfrac12$ and $s_{\mathrm{row}} = \min(d,c)/d$. Each factor was measured. {numref}`fig-factors` shows what each assumption is off by, in units of the ratio: the three panels multiply to the right panel of {numref}`fig-grid-held`.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "By what factor the held layer's ratio is off because of each assumption, after the last step at the lower rate. On the left it is the ReLU, in the upper right the row space; the crop and the border do next to nothing.", "name": "fig-factors"}, "image": {"alt": "Three heat maps: ReLU, row space, crop and border. The third is white everywhere. The ReLU's is orange where there are two or four output channels, the row space's purple where there are few input channels and many outputs."}}
factors = {
    step: studies.factors(table["slow"], "conv-relu", step)
    for step in (0, 100)
}
draw.factor_maps(factors[100])

# %% tags=["remove-input"]
off = {
    (step, name): rows.set_index(CELL).ratio
    for step, part in factors.items()
    for name, rows in part.groupby("assumption")
}
before = max(
    studies.from_one(off[0, name]).max()
    for name in ("ReLU", "row space", "crop and border")
)
crop = studies.from_one(off[100, "crop and border"]).max()
first = studies.energy_shares(table["slow"])
first = studies.energy_summary(first, 0).share.max()
relu, row = (
    off[100, "ReLU"][left.index],
    off[100, "row space"][right.index],
)
Markdown(
    f"""
Before the first step each of the three assumptions changes the ratio by
{100 * (before - 1):.0f}% at most, in every cell. (In the energy, the
square of the norm, that is more: the row space has up to {first:.2f}
times its share in the mean of a cell.) After {c.stages[-1]} steps the third still holds, to
within {100 * (crop - 1):.0f}%, and the two regions have one cause each.

* On the left it is **the ReLU**. With two or four units at each pixel,
  those that the gradient needs are off too often. The factor is
  {span(relu)}, and largest where there are many inputs.
* In the upper right it is **the row space**. It holds *more* than $c/d$
  of the energy, so that $\\sigma^2 = 2d/c$ is too large. The factor is
  {span(row)}.

Elsewhere the paper's target is right to within
{100 * (rest.off_held.max() - 1):.0f}%, and in the median cell to
within {100 * (rest.off_held.median() - 1):.0f}%.
"""
)

# %% [markdown]
# (why-not-its-share)=
# ## A small space, or correlated gradients?
#
# Before training the row space misses its share because gradients are correlated, and after training because the kernel has learnt. That the space is small has little to do with it.
#
# **The paper's explanation** of its exception is the smallness of the space: with few dimensions, the row space's share of the energy is more likely to be far from $c/d$. But the row space of a convolution on a map of $32 \times 32$ pixels has $1024\,c$ of $1024\,d$ dimensions.
# In so many dimensions a gradient without preferred directions has this share to within a few per cent.
#
# **Another explanation** comes from [chapter 2](gradient-energy). Gradients at different pixels and of different images are correlated: they use few directions of the $d$ channels. How
# much of these few the row space holds is a matter of luck, with the standard deviation of {eq}`eq-spread`, which depends on the gradients' effective rank. In these networks the correlation is extreme, since the mean over the map hands the same gradient back to every
# pixel but those at the border.
#
# Both explanations give numbers without a free parameter. {numref}`fig-explanations` sets them beside the measured shares. The black dashes are a control: white noise in the place of the gradient, through the same kernels and the same ReLUs, in the same small space.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The row space's share of the gradient's energy, over c/d, for the cells with more outputs than inputs. Before training the shares scatter as widely as the gradients' correlation says, and far more widely than in a space that is merely small. After training most lie above 1.", "name": "fig-explanations"}, "image": {"alt": "Two panels, before and after training. Before, the dots scatter around 1 as widely as the band for correlated gradients; the band for a small space is a hair's breadth. After, most dots lie above. White noise lies on 1 in both."}}
energy = studies.energy_shares(table["slow"])
draw.explanations(
    energy, {0: "before the first step", 100: "after the last step"}
)

# %% tags=["remove-input"]
cells = studies.energy_summary(energy, 0)
misfit = studies.misfit(energy).set_index("step")
white = 100 * (cells.white - 1).abs().max()
means = {
    step: studies.energy_summary(energy, step).set_index(CELL).share
    for step in (0, 100)
}
moved = means[100] - means[0]
top = moved.idxmax()
Markdown(
    f"""
Before the first step correlated gradients predict the scatter about
right: the shares differ from 1 by {misfit.correlated[0]:.2f} predicted
standard deviations (root mean square). A small space predicts a scatter
that is {misfit["small space"][0]:.1f} times too small. White noise in
that same small space has its share to within {white:.1f}% in the mean
of every cell. So it is the correlation that decides, before training.
(On average the shares lie a little above 1: which units are active
depends on the kernel, so that its row space is not quite independent of
the gradient.)

After training neither explanation is enough: the shares differ from 1
by {misfit.correlated[100]:.1f} of the one's predicted standard
deviations and {misfit["small space"][100]:.0f} of the other's. In the
mean over the seeds of a cell
they have moved up in {(moved > 0).sum()} of {len(moved)} cells, most
for {named([top])}, from {means[0][top]:.2f} to {means[100][top]:.2f}
times $c/d$, and the highest is now {means[100].max():.2f} times $c/d$,
for {named([means[100].idxmax()])}. Is it the gradients that have
changed, or the kernel?
"""
)

# %% [markdown]
# It is the kernel. The cells with eight and more outputs, and two, four or eight inputs, were trained again, and each network's kernel was exchanged, for the measurement only, for a random one that knows nothing of the gradients. {numref}`tab-exchanged` gives the shares.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The row space's share of the energy, over c/d, in the mean over cells and seeds. In the row space of a random kernel the network's gradients keep their share; in that of its own kernel they have more after training. White noise, in its own kernel, keeps its share.", "name": "tab-exchanged"}}
again = studies.energy_shares(table["again"])
exchanged = again.groupby("step")[["share", "fresh", "white"]].mean()
exchanged = exchanged.map("{:.2f}".format)
heads = [
    "steps of training",
    "own kernel",
    "random kernel",
    "white noise",
]
exchanged = exchanged.reset_index().set_axis(heads, axis=1)
HTML(fitted(exchanged, "exchanged", index=False))

# %% tags=["remove-input"]
by_cell = studies.energy_means(again)
Markdown(
    f"""
Cell by cell, the row space of the network's own kernel holds
{span(by_cell["share"][100])} times $c/d$ of the energy after training,
and that of a random kernel {span(by_cell["fresh"][100])} times $c/d$.
A kernel is updated along the
gradients at its output, and its row space turns towards the few
directions that they use. A row space that has learnt holds more than
its share, and a target for gradients without preference is too large
for it.
"""
)

# %% [markdown]
# (the-head)=
# ## Another end of the network
#
# With another end and a lower rate the exception in the upper right is gone. Which of the two did it cannot be told: at a lower rate kernels learn less, and a grid with the mean at the end and this rate is not on record. The paper does not describe how the networks end. A linear layer over the whole output of the last convolution (`head = "linear"`), in place of the mean, gives each pixel a gradient of
# its own. {numref}`fig-head` is the grid with that end, at a lower rate, which the larger layer needs.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The grid with a linear layer at the end, in place of the mean over the map. Held, the layer now keeps the norm in the upper right. With two outputs, and with many inputs and fewer outputs, the gradient still shrinks.", "name": "fig-head"}, "image": {"alt": "Two heat maps. In the free networks every cell is orange. In the held ones the cells with more outputs than inputs are nearly white. Those with two outputs and those in the lower left, with many inputs and fewer outputs, are orange."}}
draw.heat_maps(
    studies.ratios(table["linear"]),
    {v: TITLES[v] for v in ("free", "conv-relu")},
)

# %% tags=["remove-input"]
linear = studies.compare(table["linear"])
other = studies.energy_shares(table["linear"])
other_misfit = studies.misfit(other).set_index("step")
ranks = [
    studies.energy_summary(t, 0).set_index(CELL).effective_rank
    for t in (energy, other)
]
wider = (ranks[1] / ranks[0])[right.index]
highest = [
    studies.energy_summary(t, 100).share.max() for t in (energy, other)
]
still_off = linear[linear.off_held > NEAR].held
Markdown(
    f"""
With sixteen and more outputs and fewer inputs the held ratio is
{span(linear.held[right.index])} now, at the rate
{grids["linear"].config.lr:g}. The gradients' effective rank is
{span(wider, ".1f")} times as large there. Before training the shares
scatter {other_misfit.correlated[0]:.2f} times as widely as the formula
says. The formula, {{eq}}`eq-spread`, takes the row space to be one and
the same at all frequencies. Gradients that are nearly constant over the
map have only one frequency, so that this does no harm. These have many,
with another row space at each. In training the shares still move up, but in no
cell above {highest[1]:.2f} times $c/d$. With the mean at the end and
the rate {SLOW:g} the highest was {highest[0]:.2f} times.

The other exception is still there, and with many inputs it reaches
further. Off by more than a factor of {NEAR:g} are
{named(still_off.index)}, with ratios of {span(still_off)}. None of them
has more outputs than inputs.

This fits the explanation by gradients that are alike, over channels,
pixels and images, but the rate differs, too. A small number of input
channels alone does little harm.
"""
)

# %% [markdown]
# (all-three)=
# ## All three convolutions held
#
# Holding all three convolutions brings the middle layer nearer to 1 than holding it alone, and changes no conclusion of this chapter. The paper projects "the convolution layers". In the variant `conv-relu-all` the first and the last are held as well, each at its own target: that
# of a Conv-ReLU for the first, and that of a convolution alone for the last, which no ReLU follows. In {numref}`fig-all-three` the networks with the same channels and seeds are beside each other.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The ratio of the middle layer in free networks, with the middle convolution held, and with all three held. At the lower rate most pairs are nearest to 1 with all three held. At the higher rate all three held comes nearer than the middle one alone, but in most pairs not nearer than free.", "name": "fig-all-three"}, "image": {"alt": "Two panels, one a learning rate, each with nine pairs of channel numbers. Marks for all three held mostly lie nearer to 1 than those for the middle one alone; with two outputs they stay above the band."}}
three = {
    FAST: studies.beside(table["fast"], table["all, fast"]),
    SLOW: studies.beside(table["slow"], table["all"]),
}
draw.against(
    {
        f"Learning rate {rate:g}": studies.ratios(rows)
        for rate, rows in three.items()
    },
    {
        "free": "free",
        "conv-relu": "the middle one held",
        "conv-relu-all": "all three held",
    },
    near=NEAR,
)

# %% tags=["remove-input"]
lines = []
for rate, rows in three.items():
    middle = studies.compare(rows)
    every = studies.compare(rows, "conv-relu-all")
    closer = (every.off_held < middle.off_held).sum()
    lines.append(
        f"* At the rate {rate:g} the layer is nearer to 1 than with "
        f"the middle one held alone in {closer} of {len(every)} cells, "
        f"and nearer than free in {every.nearer.sum()}. The median "
        f"cell is off by a factor of {every.off_held.median():.2f} "
        f"with all three held, {middle.off_held.median():.2f} with the "
        f"middle one, and {middle.off_free.median():.2f} free."
    )
passed = studies.activity({"fast": three[FAST]}).set_index("variant")
passed = passed.relu_share
Markdown(
    "With all three held, in the mean over "
    f"{grids['all'].config.seeds} seeds:\n\n"
    + "\n".join(lines)
    + f"\n\nAt the rate {FAST:g} more units stay active than with the "
    f"middle one held alone: the ReLU passes "
    f"{passed['conv-relu-all']:.2f} of the energy, in place of "
    f"{passed['conv-relu']:.2f}."
)

# %% [markdown]
# (a-longer-look)=
# ## A longer look
#
# Over three epochs the ratio of a free layer runs through 1 and on, while that of a held one stays in a narrower range, though not everywhere near 1. {numref}`fig-longer` follows nine cells at the lower rate through three epochs of all 50,000 images.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Ratios over three epochs, at the lower rate. In free networks the ratio falls, in most cells through 1, with either start; in held ones it changes less.", "name": "fig-longer"}, "image": {"alt": "Nine panels, one a pair of channel numbers, ratio against epochs. The lines of free networks fall from above 1 to below it, those of held ones stay flatter. In four panels free networks with He's start begin at 1 and fall below it as well."}}
batch = grids["longer"].config.batch_size
draw.courses(
    pd.concat(
        studies.courses(table[n], batch) for n in ("longer", "he")
    ),
    {
        "free": "free, PyTorch's start",
        "conv-relu": "held",
        "free-he-fan-in": "free, He's start (fan in)",
    },
)

# %% tags=["remove-input"]
early, middle, late = table["longer"].step.unique()[1:]
an_epoch = math.ceil(50_000 / batch)
long = {
    step: studies.compare(table["longer"], step=step)
    for step in (early, middle, late)
}
end = long[late]
grows = end.free[end.free < 1]
still = (end.free < long[middle].free).sum()
away = end.off_held / long[early].off_held
bad = end.held[end.off_held > NEAR]
he = studies.by_cell(table["he"], "free-he-fan-in", late)
close = (end.held[he.index] / he).idxmin()
losses = studies.losses(table["longer"])
learnt = (losses.free < losses["conv-relu"]).sum()
Markdown(
    f"""
**Free.** The weights go on growing, and the gradient with them. (An
epoch is {an_epoch} steps.) After {early} steps the gradient shrinks in {(long[early].free > 1).sum()} of
{len(end)} free layers. After {late} it grows in {len(grows)}, by a
factor of {span(1 / grows)}, and in {still} of {len(end)} cells the
ratio fell further between {middle} and {late} steps.

**Held.** Between {early} and {late} steps the held layers come nearer
to 1 in {(away < 1).sum()} cells and go away from it in
{(away > 1).sum()}, most for {named([away.idxmax()])}, by a factor of
{away.max():.2f}. In the end {len(end) - len(bad)} of the {len(end)} are
within a factor of {NEAR:g} of 1. Off are {named(bad.index)}, with
ratios of {", ".join(f"{ratio:.2f}" for ratio in bad)}. The held layer
is nearer to 1 than the free one in {end.nearer.sum()} of {len(end)}
cells, and not for {named(end.index[~end.nearer])}.

**Is it the start?** Hardly. He's start with fan in keeps the norm at
first. After {late} steps the gradient grows by a factor of
{span(1 / he)} in the {len(he)} cells in which it was tried, each with
{grids["he"].config.seeds} seeds, where the held ratios are
{span(end.held[he.index])}. The two differ least in {named([close])}, with
{end.held[close]:.2f} held and {he[close]:.2f} with this start. So
holding keeps the norm longer there than a good start does, but these
are few networks.

**The norm is not the loss, though.** After three epochs the free
networks have learnt more than the held ones in {learnt} of
{len(losses)} cells. Their mean losses are {losses.free.mean():.3f} and
{losses["conv-relu"].mean():.3f}, a difference that chance may explain
with so few seeds. In three layers no advantage of holding is seen in
the loss; in a hundred, the factors of the norm multiply.
"""
)

# %% [markdown]
# (what-holds)=
# ## What holds
#
# The paper's Figure 2 is two {term}`claims <claim>` here, one for each rate, F2a for 0.1 and F2b for 0.01. The assumption of the paper's (7) about the row space is a third, P3, at both rates. They are judged by these rules, on the committed grids.


# %% tags=["remove-input"]
fails = {
    "F2a": named(failing["F2a"]),
    "F2b": named(failing["F2b"]),
    "P3": "; ".join(
        f"at the rate {rate:g} {named(where)}"
        for rate, where in failing["P3"].items()
    ),
}
written = {name: rules[name].rule for name in NAMES}
at_slow = written["F2a"].replace(f"rate {FAST:g}", f"rate {SLOW:g}")
if written["F2b"] == at_slow:  # in full once
    written["F2b"] = f"that of F2a, at the rate {SLOW:g}"
Markdown(
    "\n\n".join(
        f"**{name}: {claims.verdict(found[name])}**; at the `desk` "
        f"preset *{outcome[name]}*.\n\n"
        f"> *The claim:* {rules[name].statement}.\n>\n"
        f"> *The rule:* {written[name]}.\n\n"
        f"Cells that are off: {fails[name]}."
        for name in NAMES
    )
)

# %% [markdown]
# {numref}`tab-claims`, which opens at the button, shows what was measured for them. What it calls *single runs, median factor from 1* is not the median cell of the text above, since means and medians are taken in another order. The table asks how far from 1 each single network is, takes the median over the cells of one seed, and then the mean over the seeds. The text takes each cell's mean over the seeds first, in which a ratio above 1 and one below it cancel, and then the median over the cells.

# %% tags=["hide-output", "remove-input"] mystnb={"figure": {"caption": "What was measured for the three claims: the mean over seeds and the standard deviation.", "name": "tab-claims"}}
measured = claims.overview(found.values())
measured = measured.set_index(["claim", "measured"])
measured[["mean ± sd", "seeds"]]

# %% tags=["remove-input"]
small = rules["P3"].SMALL
beyond = "; ".join(
    f"{named([cell for cell in where if cell[0] > small])} at {rate:g}"
    for rate, where in failing["P3"].items()
)
inside = slow.query("d > c > @small")
edge = inside.off_held.idxmax()
Markdown(
    f"""
**What can be said of these small networks, at the beginning of
training:**

* At the lower rate holding brings the ratio nearer to 1 in nearly all
  cells, and at the higher one in little more than half of them. At both
  it cuts off the worst.
* The paper's exception, few inputs and more outputs, is there at the
  lower rate in networks that end with a mean over the map. At the
  higher rate the ReLU's error hides it. The paper does not say how few;
  the rules take $c \\le {small}$. The row space's share is off in more
  cells than these ({beyond}). The ratio at the lower rate is not: where
  $d > c > {small}$ it is within a factor of {NEAR:g} of 1, in
  {named([edge])} only just, with {inside.held[edge]:.3f} where
  {1 / NEAR:g} is the limit.
* The exception is hardly there in networks that end with a linear layer
  and train at {grids["linear"].config.lr:g}; which of the two matters
  was not tested. Its cause is not the size of the space: gradients are
  much alike, and kernels turn towards them.
* Another exception, few output channels, is the ReLU's. The paper, as
  we read it, does not mention it.
* The target allows for a ReLU that lets half of the energy through.
  Where fewer units are active, as at the higher rate, it is too small.
"""
)

# %% [markdown]
# None of this decides the claims. That takes `python -m paperlib grid -p preset paper`, and the same with `-p lr 0.1`: the two layers that the rules compare, each trained for ten epochs instead of a hundred steps. `make gpu` trains both on a GPU. They have not been run.
#
# ### The rules that these claims had before
#
# The rules above took this form when both grids had been seen, so that what they say of the grids is a description and no test. Before that each claim had two other rules ({numref}`tab-former`, which opens at the button): the first was registered before
# the grid was trained, and the second, a looser one, took its place during the training, which turned the outcomes.

# %% tags=["hide-input", "hide-output"] mystnb={"figure": {"caption": "The rules that the three claims had before, what they said of the grids, and why they were replaced.", "name": "tab-former"}}
HTML(fitted(claims.former_rules(NAMES), "former", index=False))

# %% [markdown]
# (a-grid-of-your-own)=
# ## A grid of your own
#
# A grid is trained cell by cell, and an interrupted one goes on where it was. With `stored = True` the committed {term}`record` is read where there is one of the very grid that the parameters describe. This one has three numbers of outputs, at the higher rate:
#
# ```bash
# papermill notebooks/03_channel_grid.ipynb out.ipynb \
#     -p in_channels "2 8" -p out_channels "2 8 64" -p lr 0.1
# ```

# %% tags=["nbval-ignore-output", "hide-input"]
grid = channel_grid.run(config)
own = config.digest() != grids["slow"].config.digest()
Markdown(
    grid.describe()
    if own
    else "The parameters describe the stored grid, which the chapter "
    "has shown. Change one of them, and the figures of your own grid "
    "stand here."
)

# %% tags=["nbval-ignore-output", "hide-input"]
if own:
    mine = grid.measurements
    first, *_, final = config.stages
    display(
        draw.heat_maps(studies.ratios(mine), TITLES),
        draw.over_time(studies.distances(mine), TITLES),
        draw.factor_maps(studies.factors(mine, "conv-relu")),
        draw.explanations(
            studies.energy_shares(mine),
            {s: f"after {s} steps" for s in (first, final)},
        ),
    )

# %% [markdown]
# `train_cell` trains one cell and returns what was measured, one row for each seed and each time of measurement, as in {numref}`tab-cell`. On a CUDA device all seeds of a cell train side by side.

# %% tags=["nbval-ignore-output"] mystnb={"figure": {"caption": "One cell of two seeds, before and after ten steps: the logarithm of the ratio, and the three factors that it is made of.", "name": "tab-cell"}}
sample = cifar.load("cifar10", "sample")
cell = channel_grid.Cell(c=4, d=32, seeds=[0, 1], stages=(0, 10))
trained = channel_grid.train_cell(cell, sample)
heads = {
    "seed": "seed",
    "step": "step",
    "log_ratio": "log ratio",
    "relu_share": "ReLU",
    "energy_fraction": "row space",
    "gain": "convolution",
}
shown = trained[list(heads)].round(3).rename(columns=heads)
HTML(fitted(shown, "cell", index=False))

# %% [markdown]
# These are the grids that the chapter has read:

# %% tags=["remove-input"]
Markdown(
    ":::{dropdown} The stored grids, and the commands that make them\n"
    + "\n\n".join(grid.describe() for grid in grids.values())
    + "\n:::"
)

# %% [markdown]
# ## Exercises
#
# The code of the solutions goes on from the cells above.
#
# **1. Targets.** A ReLU follows a 3×3 convolution. At which $\sigma$ is it to be held for $2 \to 32$, for $16 \to 16$ and for $32 \to 2$ channels? If the factor for the ReLU is left out, what is the layer's ratio before training?
#
# :::{admonition} Solution
# :class: dropdown
# $\sigma^2 = 2d/\min(d, c)$ is 32 for $2 \to 32$ and 2 for the other two, so $\sigma$ is 5.66 and 1.41. Without the factor $\sigma$ is smaller by $\sqrt2$, so the gradient comes back smaller by $\sqrt2$, and the ratio is $\sqrt2$. The stored grid has nearly that in every cell:
#
# ```python
# from paperlib import target
#
# for c, d, square in ((2, 32, 32), (16, 16, 2), (32, 2, 2)):
#     assert round(target((d, c, 3, 3), relu=True) ** 2, 9) == square
#
# without, with_it = (
#     studies.by_cell(table["slow"], v, step=0)
#     for v in ("conv", "conv-relu")
# )
# assert (without / with_it).between(1.41, 1.46).all()
# ```
# :::
#
# **2. Not every gradient.** A kernel from 8 to 32 channels is held exactly at its target, without a ReLU. Why can it not keep the norm of every gradient? What is the smallest and the largest factor by which it can change one?
#
# :::{admonition} Solution
# :class: dropdown
# On its way back the gradient goes from 32 to 8 channels. At each frequency that is a matrix of rank 8 at most, so that 24 of 32 directions are lost: the smallest factor is 0. A gradient that lies wholly in the row space grows by $\sigma = \sqrt{32/8} = 2$, the largest
# factor. The target keeps the norm only of gradients that have a quarter of their energy there, as gradients without preference do.
#
# ```python
# import torch
# from paperlib import project
#
# kernel = project(torch.randn(32, 8, 1, 1, dtype=torch.float64), 4)
# matrix = kernel[:, :, 0, 0]
# directions, _, _ = torch.linalg.svd(matrix)
# kept, lost = directions[:, 0], directions[:, 8:]
# assert torch.isclose((matrix.T @ kept).norm(), 2 * kept.norm())
# assert (matrix.T @ lost).norm() < 1e-12
# ```
# :::
#
# **3. How many seeds?** The seeds of a cell scatter by a factor of 1.15 (the standard deviation of the log ratio is $\log 1.15$). How many are needed to tell a ratio of 1.2 from 1, with an interval of 95% and success in nine of ten trials? How many if they scatter by a factor of 2?
#
# :::{admonition} Solution
# :class: dropdown
# The mean of $n$ logarithms is tested against 0 with Student's $t$, and the power of that test is a tail of the non-central $t$ distribution. Nine seeds are enough for a factor of 1.15, which is about what held layers have in the median cell. For a factor of 2 it takes 154, so that the free layers with two outputs cannot be told apart
# by the five or ten seeds of this chapter, unless they differ by far more than 1.2.
#
# ```python
# from scipy.stats import nct, t
#
#
# def power(n, scatter, ratio):
#     sd, edge = math.log(scatter), t.ppf(0.975, n - 1)
#     shift = math.sqrt(n) * math.log(ratio) / sd
#     return nct.sf(edge, n - 1, shift)
#
#
# def enough(scatter, ratio=1.2):
#     counts = range(2, 1000)
#     return next(n for n in counts if power(n, scatter, ratio) >= 0.9)
#
#
# assert (enough(1.15), enough(2)) == (9, 154)
# held = studies.ratios(table["slow"]).query("variant == 'conv-relu'")
# assert 1.1 < held.spread.median() < 1.2
# ```
# :::
#
# **4. The dead.** What is the log ratio of a network whose middle ReLU lets nothing through? What does leaving such networks out do to a cell's mean, and how does the rule of F2a answer that?
#
# :::{admonition} Solution
# :class: dropdown
# Nothing arrives at the input, so the ratio and its logarithm are infinite, and so would the cell's mean be. The mean over the living is a mean over survivors. In $32 \to 2$ at the higher rate two of five free networks live, and their mean is nearer to 1 than that of the five held ones, all alive. So the rule takes
# a cell where more than half of the networks have died as infinitely far from 1, and counts the held layer as nearer there.
#
# ```python
# runs = table["fast"].query("c == 32 and d == 2 and step == 100")
# logs = runs[runs.variant == "free"].log_ratio
# assert logs.map(math.isinf).sum() == 3 and logs.mean() == math.inf
# assert not fast.nearer[32, 2] and nearer["F2a"][32, 2]
# ```
# :::
#
# **5. Fewer active units.** At each place a ReLU lets the gradient through with probability $a$, whatever the gradient is. What is the ratio of a layer that is held at $\sqrt{2d/\min(d,c)}$? At which $\sigma$ would it keep the norm? Why can that value not be set once and for all?
#
# :::{admonition} Solution
# :class: dropdown
# The ReLU leaves $a$ of the energy where the target expects a half, so the ratio is $\sqrt{1/(2a)}$. It is 1 at $\sigma = \sqrt{d/(a \min(d,c))}$. But $a$ is not known beforehand: {numref}`tab-activity` shows other values at other rates, and it changes while the network trains. For $a = 0.25$ the ratio is $\sqrt2$:
#
# ```python
# torch.manual_seed(0)
# kernel = project(torch.randn(16, 16, 1, 1), 8, relu=True)
# gradient = torch.randn(500, 16)
# passed = gradient * (torch.rand(500, 16) < 0.25)
# back = passed @ kernel[:, :, 0, 0]
# assert abs(gradient.norm() / back.norm() - math.sqrt(2)) < 0.05
# ```
# :::

# %% [markdown]
# ## What follows
#
# A ProcResNet, which this is all for, has more channels than this grid, a batch normalisation in front of its ReLUs, and a mean over the map at its end. Its first {term}`transition`, $3 \to 64$, would lie in the upper right of the grid, and the paper notes that this one block is less norm-preserving than the others.
# [Chapter 4](04_cifar.ipynb) trains such networks whole, with a {term}`probe` at every block, and [chapter 5](05_results.ipynb) shows their ratios.
