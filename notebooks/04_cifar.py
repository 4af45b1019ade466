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
# # One training run on CIFAR
#
# One {term}`run` trains one network on CIFAR, from its first weights to its {term}`record`, and watches how each {term}`block` treats the norm of the gradient on its way back.
#
# The upper part of this page follows from the parameters below, so it is also a tool. The lower part shows runs on record. `preset` is the size of the run: `smoke` uses 150 images of an embedded sample and checks that everything works; `desk` trains on a part of real CIFAR that two cores can manage; `paper` is the paper's protocol. `auto` is `paper` on a CUDA
# device, else `desk`. `None` leaves a choice to the {term}`preset`.
#
# :::{card} About this chapter
# :class-card: chapter-card
#
# - **Shows:** one run of a network that you choose, and the runs of that kind on record beside it
# - **Claims:** none; those on trained networks are in [chapter 5](05_results.ipynb)
# - **Needs:** two CPU cores, 3 GB of memory; with a CUDA device the same page runs the paper's protocol
# - **Fetches:** CIFAR-10 or CIFAR-100, 170 MB, once; nothing at `smoke`, and nothing for a run whose record is there
# - **Takes:** about 20 seconds for a run that is on record; for a new one seconds (`smoke`), up to 40 minutes for 164 layers (`desk`), or hours on a GPU (`paper`) ([measured](reproducibility.ipynb))
# - **Run it:** `papermill notebooks/04_cifar.ipynb out.ipynb -p depth 164 -p arch resnet`
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

# %% tags=["hide-input"]
# %matplotlib inline
import pandas as pd
from IPython.display import HTML, Markdown

from paperlib import figures, models, paper, records
from paperlib.store import results_root
from paperlib.studies import runs
from paperlib.studies.sentences import titled
from paperlib.studies.tables import fitted
from paperlib.training import make_network, train

# %% tags=["remove-input"]
shown = ("plain-164", "resnet-164", "procresnet-166")
shown += ("procresnet-166-published",)
kept = [
    r
    for r in records.read_all(results_root())
    if r.network in shown
    and r.config.preset == "desk"
    and (r.config.schedule, r.config.dataset) == ("steps", "cifar10")
]
near = runs.by_network(kept).sort_values("network", kind="stable")
Markdown(runs.found(near))

# %% tags=["parameters"]
preset = "auto"
arch = "resnet"
depth = 164
erase_relu = False
project = True
projector = "exact"
hold_at = 1.0
dataset = "cifar10"
source = None
seed = 0
epochs = None
train_images = None
test_images = None
batch_size = 128
lr = 0.1
momentum = 0.9
weight_decay = 0.0001
schedule = "steps"
augment = True
device = "auto"
precision = "auto"
memory_format = "auto"
checkpoint_activations = None
fused = True
cuda_graphs = True
deterministic = True
threads = None
probe_every = 1
project_every = 2

# %% tags=["hide-input"]
from paperlib.training import RunConfig

config = RunConfig.from_namespace().resolve()

# %% [markdown]
# ## What this run is

# %% tags=["nbval-ignore-output", "remove-input"]
Markdown(config.describe())

# %% [markdown]
# ## The network
#
# The network has three {term}`stages <stage>` of blocks. Each block is a branch of three convolutions (1×1, 3×3, 1×1), each preceded by a batch normalisation and a ReLU {cite}`he2016b`. {numref}`fig-network` draws the chain.
#
# A *ResNet* puts an identity skip around every block except the three {term}`transitions <transition>`, where the number of channels changes and the skip needs a convolution of its own. A *ProcResNet* {cite}`zaeemzadeh2020` moves that convolution out of the skip, keeps it
# {term}`norm-preserving`, and has identity skips everywhere else. A *Plain* network has no skips.

# %% mystnb={"figure": {"caption": "The chain of blocks, one row per stage; at its left the channels and the size of the feature maps. Of a long stage only the first and the last blocks are drawn.", "name": "fig-network"}, "image": {"alt": "Three rows of boxes, one per stage, joined by an arrow; an arc over a box is a skip."}}
model = make_network(config)
blocks = pd.DataFrame(models.describe(model))
name = titled(config.network)
figures.network(blocks, f"{name}: {len(blocks)} blocks")

# %% [markdown]
# Do these networks have the paper's sizes? {numref}`tab-sizes` sets the number of their parameters beside the paper's Table II.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Parameters in millions, as the paper prints them and as the networks have them here.", "name": "tab-sizes"}}
sizes = paper.compare_sizes()
sizes = sizes.assign(
    network=sizes.network.map(titled),
    agree=sizes["within 0.01"].map({True: "yes", False: "no"}),
)
sizes = sizes.drop(columns="within 0.01").rename(
    columns={"agree": "agree to 0.01 million"}
)
HTML(fitted(sizes, "sizes", index=False))

# %% [markdown]
# ## Training
#
# A checkpoint is written after every epoch. Stopped and started again, the run goes on where it was and ends with the same bits. A finished run is not made twice: its record is read, from `runs/` or the folder that `PAPERLIB_RUNS` names. (This copy of the page was executed with the book's own records, `results/`.) A loss or gradient that is not finite ends the run; that, too, is a result.

# %% tags=["nbval-ignore-output"]
record = train(config)
print(
    record.ending(),
    f"It took {record.provenance.seconds / 60:.1f} minutes.",
)
if "test_error" in record.final:
    print(
        f"Test error {record.final['test_error']:.2f}% "
        f"on {record.data.test_images:,} images."
    )

# %% [markdown]
# Whatever the preset, some things must hold; they are checked each time that this page is executed.

# %% tags=["hide-input"]
again = train(config).provenance.started
watched = bool(probe_every) * len(blocks) * len(record.epochs)
check = {
    "the record reads back as it was written": records.read(
        record.folder
    )
    == record,
    "asked for again, the finished run is not repeated": again
    == record.provenance.started,
    "every block was watched in every epoch": len(record.blocks)
    == watched,
    "every gradient-norm ratio is finite": record.status == "diverged"
    or not probe_every
    or bool((record.blocks.lost == 0).all()),
}
lines = [
    f"{'yes' if ok else 'NO '} {what}" for what, ok in check.items()
]
print("\n".join(lines), end="")

# %% [markdown]
# ## Loss and error
#
# {numref}`fig-curves` shows loss and error after each epoch. The training values are means over the epoch, while the weights change; the test values are taken at its end. So training may seem to lag behind the test. In the first epochs, at a high rate, the test loss can be many times the training loss all the same. The probable reason is the batch normalisation: a test uses averages of its statistics, which lag behind the weights ([exercise 2 of chapter 5](results-exercises)).

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"figure": {"caption": "Training and test loss and error after each epoch. Dotted lines mark where the learning rate falls. The loss has a logarithmic axis where it goes over a wide range.", "name": "fig-curves"}, "image": {"alt": "Two panels over the epochs: loss and classification error, training dashed, test solid."}}
figures.learning_curves(
    record.epochs, f"{name}, {record.config.preset}, seed {seed}"
)

# %% [markdown]
# ## How each block treats the gradient's norm
#
# A block takes $x_l$ to $x_{l+1}$; with an identity skip, $x_{l+1} = x_l + F_l(x_l)$. The paper's question is how far the {term}`ratio`
#
# $$ r_l = \frac{\lVert \partial E / \partial x_{l+1} \rVert}{\lVert \partial E / \partial x_l \rVert} $$
#
# is from 1. Above 1 a block shrinks the gradient on its way back to the input, below 1 it makes it grow. It was recorded at every `probe_every`-th step; {numref}`fig-heatmap` shows the geometric mean over each epoch. `figures.ratio_lines(record.blocks)` draws the same numbers as lines, the form of the paper's Figure 3.

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"figure": {"caption": "The gradient-norm ratio of every block in every epoch. Without colour: the norm is kept; orange: the gradient shrinks on its way back; purple: it grows.", "name": "fig-heatmap"}, "image": {"alt": "Heat map of the ratios: one row per block, one column per epoch."}}
if probe_every:
    display(figures.ratio_heatmap(record.blocks, name))

# %% tags=["nbval-ignore-output", "remove-input"]
Markdown(runs.last_ratios(record))

# %% [markdown]
# Over many blocks the ratios multiply: the norm of the gradient at a block's input is the norm at the last block's output, divided by the product of the ratios from this block to the last. Ratios a little below 1 in many blocks let it grow by a large factor; a ratio above 1 takes some of that back. {numref}`fig-profile` shows the product.

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"figure": {"caption": "The norm of the gradient at each block's input over that at the last block's output, in the first and the last epoch.", "name": "fig-profile"}, "image": {"alt": "The gradient's norm against the block's number on a logarithmic scale, with steps at the transitions."}}
if probe_every:
    display(figures.gradient_profile(record.blocks, name))

# %% [markdown]
# ## Beside the paper's numbers for this network
#
# {numref}`tab-compared` shows what the paper prints for the same network, if anything. The verdict in it follows from a rule, and a run that is smaller than the paper's protocol has none.

# %% tags=["nbval-ignore-output", "remove-input"]
Markdown(
    "A run at the full scale agrees with the paper's Table II if its "
    f"test error lies within {paper.TOLERANCE} points of the paper's. "
    "The table also gives the generalisation gap, the test error minus "
    "the training error, as the paper's Table I has it. The training "
    "error is the running one here, a mean over the epoch of augmented "
    "images; the paper does not say which it took. Its gaps are those "
    f"of {records.GAP_EPOCHS} epochs at a constant rate, and this run "
    f"has {record.config.epochs} "
    + (
        "at a constant rate. "
        if record.config.schedule == "constant"
        else "at a rate that falls. "
    )
    + "The gaps are compared and not judged. Which of Table I's rows "
    "belongs to which depth is inferred from the paper's text."
)

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"figure": {"caption": "This run beside what the paper prints for the same network.", "name": "tab-compared"}}
compared = paper.compare(record)
HTML(
    fitted(compared, "compared", index=False)
    if len(compared)
    else f"<p>The paper prints no number for {name} on {dataset}.</p>"
)

# %% [markdown]
# ## How this run was made
#
# {numref}`tab-provenance` is what the record knows of the machine, the data and the code that made this run.

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"figure": {"caption": "Where this run comes from, as its record has it.", "name": "tab-provenance"}}
HTML(fitted(runs.provenance(record), "provenance"))

# %% [markdown]
# ## The runs on record
#
# The repository keeps the records of some runs (`results/`). What follows is drawn from these files and not computed here, whatever run this page made. It shows the networks of depth 164 at the `desk` preset, which is a small part of the paper's protocol.
#
# How many blocks keep the gradient's norm? {numref}`tab-close` counts those whose ratio is close to 1 in the last epoch that the run came to. The row *as published* is the ProcResNet held as the authors' published code holds it ([what that means](02b_published.ipynb)).

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How many blocks of the runs on record are close to 1 at the end of the run, with the ratio of the first transition and the lowest test error in per cent. Two numbers are a range over the runs.", "name": "tab-close"}}
heads = {
    "n": "runs",
    "counted": "when",
    "close": "close to 1: constant width",
    "close transitions": "close to 1: transitions",
    "first transition": "first transition's ratio",
    "lowest test error": "lowest error, %",
}
named = near.assign(network=near.network.map(titled))
named = named.drop(columns="test images").rename(columns=heads)
HTML(fitted(named, "close", index=False))

# %% tags=["remove-input"]
plain = [r for r in kept if r.network == "plain-164"]
Markdown(
    f"Close to 1 is within a factor of {runs.NEAR}. "
    f"{runs.vanished(plain)}\n\n"
    "**Whether the arithmetic decides how it ends is open.** "
    f"{runs.ended(plain)} So few runs cannot tell an effect of the arithmetic "
    "from chance. The paper reports that its Plain network of 164 "
    "layers stopped after 10 epochs."
    if plain
    else ""
)

# %% [markdown]
# {numref}`fig-distances` shows one run of each network, epoch by epoch. What [chapter 5](05_results.ipynb) shows [of the paper's Figure 3](figure-three) and [Figure 4](figure-four) is of other runs: several seeds of each network, trained for more epochs on fewer images at a constant rate. Of Plain-164, too, some runs there end without having learnt, and one diverges.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How far the blocks of these runs are from preserving the gradient's norm, one run of each network. The distance is a factor: the ratio or its inverse, whichever is above 1. Lines are medians over the blocks, of transitions the middle one of three, so that the first one of Plain-164, far beyond this axis, does not show; bands go from the 10th to the 90th percentile.", "name": "fig-distances"}, "image": {"alt": "Two panels, blocks of constant width and transitions: the factor away from 1 over the epochs, on a logarithmic scale, a line for each run, and for blocks of constant width a band."}}
once = [r for r in kept if r.config.seed == 0]
if once:
    tables = [
        r.blocks.assign(run=titled(r.label), arch=r.config.arch)
        for r in once
    ]
    display(figures.compare_ratios(pd.concat(tables)))

# %% tags=["hide-input", "hide-output"]
for r in kept:
    print(r.ending())
    print("   ", r.provenance.command)

# %% [markdown]
# ## Exercises
#
# **1. Reading ratios.** In a network 50 blocks have the ratio 0.95 and three transitions have the ratio 3. By what factor does the gradient's norm change on its way from the output to the input? Would it grow or shrink without the transitions?
#
# :::{admonition} Solution
# :class: dropdown
# The norm is divided by the product of the ratios, $0.95^{50} \cdot 3^3 \approx 2.08$: it shrinks to about 0.48 of what it was. Without the transitions the product is about 0.077, and the norm grows by a factor of 13. Blocks that are each near 1, and transitions that are each far from it, partly undo each other.
#
# ```python
# blocks, transitions = 0.95**50, 3**3
# assert round(1 / (blocks * transitions), 2) == 0.48
# assert round(1 / blocks) == 13
# ```
# :::
#
# **2. Depths.** A depth has the form $9n + 2$. Where do the 9 and the 2 come from, and which $n$ do 164 and 1001 have? Why does the ProcResNet of `depth=164` go by the number 166?
#
# :::{admonition} Solution
# :class: dropdown
# There are three stages of $n$ blocks with three convolutions each, one convolution before them and one linear layer after them: $n = 18$ and $n = 111$. The convolutions in a ResNet's three skips are not counted. A ProcResNet has them in the chain. The first one takes the place of the convolution before the stages, and the other two add to the number.
#
# ```python
# from torch import nn
#
# from paperlib import models
#
#
# def layers(arch):
#     found = models.build(arch, 164).modules()
#     return sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in found)
#
#
# assert (9 * 18 + 2, 9 * 111 + 2) == (164, 1001)
# assert (layers("plain"), layers("procresnet")) == (164, 166)
# assert layers("resnet") == 164 + 3
# ```
# :::
#
# **3. The ratio's noise.** The norms are taken over a whole batch. You halve the batch. What happens to the ratio's scatter from step to step, and to that of its mean over an epoch?
#
# :::{admonition} Solution
# :class: dropdown
# A squared norm over a batch is a sum over its images. If the images are independent, the relative variance of the sum goes with one over their number. The logarithm of a ratio is half the difference of the logarithms of two such sums, so its variance goes the same way. (Batch normalisation couples the images of a batch; the bounds below leave room for that.) Half the batch has $\sqrt 2$ times the scatter from step to step. An epoch then has twice as many steps, and the scatter of its mean stays what it was. With a quarter of the batch the scatter doubles:
#
# ```python
# import torch
# import torch.nn.functional as F
#
# from paperlib import GradientNorms, cifar, models
#
# data = cifar.load("cifar10", "sample")
# images = (data.train_images / 255 - 0.5) / 0.25
# torch.manual_seed(0)
# model = models.build("plain", 11)
#
#
# def scatter(batch, steps=60):
#     with GradientNorms(model, model.blocks) as probe:
#         logs = []
#         for _ in range(steps):
#             some = torch.randint(len(images), (batch,))
#             loss = F.cross_entropy(
#                 model(images[some]), data.train_labels[some]
#             )
#             loss.backward()
#             logs.append(probe.ratios().log())
#     return torch.stack(logs).std(0).mean()
#
#
# assert 1.5 < scatter(8) / scatter(32) < 2.7
# ```
# :::
#
# **4. Going on.** A run of six epochs was stopped in its third one and is started again with the same parameters. What is computed, and what comes out? Which of `threads`, `seed`, `epochs` and `probe_every` would make it another run instead?
#
# :::{admonition} Solution
# :class: dropdown
# It goes on from the last checkpoint, and ends with the same weights and tables, bit for bit, as if it had not been stopped. All but `threads` make it another run, in a folder of its own. How many threads compute it is not part of what is asked, though with another number of them the bits may differ.
#
# ```python
# from paperlib.config import RunConfig
#
#
# def run(**changes):
#     asked = RunConfig(preset="smoke", depth=11, **changes)
#     return asked.resolve().digest()
#
#
# assert run() == run(threads=1)
# changes = {"seed": 1}, {"epochs": 1}, {"probe_every": 2}
# assert all(run() != run(**change) for change in changes)
# ```
# :::
#
# ## What follows
#
# One run is an example. [Chapter 5](05_results.ipynb) takes all runs on record together, sets them beside the paper's figures and tables, and asks whether norm preservation is the reason for the accuracy.
