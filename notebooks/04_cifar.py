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
# This page trains one network on CIFAR, from its first weights to its record, and watches how each block treats the norm of the
# gradient on its way back. Everything on it follows from the parameters of the next cell, so it is also a tool:
#
# ```bash
# papermill notebooks/04_cifar.ipynb out.ipynb -p depth 164 -p arch procresnet
# ```
#
# | | |
# |---|---|
# | **needs** | two CPU cores; with a CUDA device the same page runs the paper's protocol |
# | **fetches** | CIFAR-10, 170 MB, once |
# | **takes** | some five minutes (`desk`), seconds (`smoke`), hours on a GPU (`paper`) |
#
# `preset` is the size of the run: `smoke` uses 300 images of an embedded sample and checks that everything works; `desk` trains on real
# CIFAR, with as many images and epochs as two cores manage in a few minutes; `paper` is the paper's protocol. `auto` is
# `paper` on a CUDA device, else `desk`. `None` leaves a choice to the preset.

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
deterministic = True
threads = None
probe_every = 1
project_every = 2

# %%
from paperlib.training import RunConfig, make_network, train

config = RunConfig.from_namespace(globals()).resolve()

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown

from paperlib import figures, models, paper, records
from paperlib.store import results_root
from paperlib.studies import runs

# %% [markdown]
# ## What this run is

# %% tags=["nbval-ignore-output"]
Markdown(config.describe())

# %% [markdown]
# ## The network
#
# Three stages of blocks; each block is a branch of three convolutions (1×1, 3×3, 1×1), each behind a batch normalisation and a ReLU
# {cite}`he2016b`. A *ResNet* puts an identity skip around every block except the three *transitions*, where the number of
# channels changes and the skip needs a convolution of its own. A *ProcResNet* {cite}`zaeemzadeh2020` moves that convolution out
# of the skip, keeps it norm-preserving, and has identity skips everywhere else. A *Plain* network has no skips.

# %% mystnb={"figure": {"caption": "The chain of blocks, one row per stage; at its left the channels and the size of the feature maps.", "name": "fig-network"}, "image": {"alt": "Three rows of boxes, one per stage, joined by an arrow; an arc over a box is a skip."}}
model = make_network(config)
blocks = pd.DataFrame(models.describe(model))
figures.network(blocks, f"{config.network}: {len(blocks)} blocks")

# %% tags=["hide-input"]
blocks.groupby(["stage", "kind", "skip"], sort=False).agg(
    blocks=("name", "size"),
    channels=("channels", "first"),
    size=("size", "first"),
    parameters=("parameters", "sum"),
).reset_index()

# %% [markdown]
# Do these networks have the paper's sizes? Table II gives their parameters in millions.

# %%
paper.compare_sizes()

# %% [markdown]
# ## Training
#
# A checkpoint is written after every epoch. Stopped and started again, the run goes on where it was and ends with the same bits. A
# finished run is not made twice: its record is read. A loss or gradient that is not finite ends the run; that, too, is a result.

# %% tags=["nbval-ignore-output"]
record = train(config)
print(record.ending(), f"{record.provenance.seconds / 60:.1f} minutes.")
if "test_error" in record.final:
    print(
        f"Test error {record.final['test_error']:.2f} % on {record.data.test_images:,} images."
    )

# %% [markdown]
# Whatever the preset, some things must hold; they are checked each time that this page is executed.

# %% tags=["hide-input"]
check = {
    "the record reads back as it was written": records.read(record.folder) == record,
    "asked for again, the finished run is not repeated": train(
        config
    ).provenance.started
    == record.provenance.started,
    "every block was watched in every epoch": len(record.blocks)
    == bool(probe_every) * len(blocks) * len(record.epochs),
    "every gradient-norm ratio is finite": record.status == "diverged"
    or not probe_every
    or bool((record.blocks.lost == 0).all()),
}
print("\n".join(f"{'yes' if ok else 'NO '} {what}" for what, ok in check.items()))

# %% [markdown]
# ## Loss and error

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"figure": {"caption": "Training and test loss and error after each epoch. The training figures are means over the epoch, while the weights change; dotted lines mark where the learning rate falls.", "name": "fig-curves"}, "image": {"alt": "Two panels over the epochs: loss and classification error, training dashed, test solid."}}
figures.learning_curves(
    record.epochs, f"{record.network}, {record.config.preset}, seed {seed}"
)

# %% [markdown]
# ## How each block treats the gradient's norm
#
# A block takes $x_l$ to $x_{l+1}$; with an identity skip, $x_{l+1} = x_l + F_l(x_l)$. The paper's question is how far
#
# $$ \frac{\lVert \partial E / \partial x_{l+1} \rVert}{\lVert \partial E / \partial x_l \rVert} $$
#
# is from 1. Above 1 a block shrinks the gradient on its way back to the input, below 1 it makes it grow. It was recorded at every
# `probe_every`-th step; the figures show the geometric mean over each epoch.

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"figure": {"caption": "The gradient-norm ratio of every block in every epoch. White: the norm is kept; orange: the gradient shrinks on its way back; purple: it grows.", "name": "fig-heatmap"}, "image": {"alt": "Heat map of the ratios: one row per block, one column per epoch."}}
if probe_every:
    display(figures.ratio_heatmap(record.blocks, record.network))

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"figure": {"caption": "The same ratios as lines, the form of the paper's Figure 3.", "name": "fig-lines"}, "image": {"alt": "Two panels of lines over the epochs: blocks with a constant width, and transition blocks."}}
if probe_every:
    display(figures.ratio_lines(record.blocks, record.network))

# %% [markdown]
# Over many blocks the ratios multiply: the gradient at a block's input is the one at the last block's output, divided by the product of the
# ratios in between. Ratios a little below 1 in many blocks let it grow by a large factor; a ratio above 1 takes some of that back.

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"figure": {"caption": "The norm of the gradient at each block's input over that at the last block's output, in the first and the last epoch.", "name": "fig-profile"}, "image": {"alt": "The gradient's norm against the block's number on a logarithmic scale, with steps at the transitions."}}
if probe_every:
    display(figures.gradient_profile(record.blocks, record.network))

# %% tags=["nbval-ignore-output", "hide-input"]
runs.norm_preservation(record).round(3)

# %% [markdown]
# ## Beside the paper's figure for this network
#
# The verdict follows from a rule: a run that is smaller than the paper's protocol has none; a full-scale run agrees if it lies within half a
# point of the paper's figure.

# %% tags=["nbval-ignore-output", "hide-input"]
compared = paper.compare(record)
compared if len(compared) else Markdown(
    f"The paper gives no figure for {record.network} on {dataset}."
)

# %% [markdown]
# ## How this run was made

# %% tags=["nbval-ignore-output", "hide-input"]
runs.provenance(record).style.set_properties(
    **{"text-align": "left", "white-space": "normal"}
)

# %% [markdown]
# ## The runs on record
#
# The repository keeps the records of some runs (`results/`). What follows is drawn from these files, not computed here; one seed each, so
# there is no spread to judge differences by, and none of the curves is at the paper's scale. (One run is: ResNet-20 at a constant rate, whose
# figures stand in the third table, in bfloat16.)
#
# What they show, with that in mind: in the ResNet and the ProcResNet the blocks with an identity skip stay close to 1 from the first
# epoch on; the ResNet's transitions do not, and the ProcResNet's, held by the projection, do. The Plain network is far from 1 everywhere and
# does not learn. With bfloat16 activations it ends in a non-finite loss; with float32 ones it finishes its six epochs at chance level, so
# where exactly such a network breaks depends on the arithmetic. (The paper reports that its Plain network of 164 layers stopped after about 10
# epochs.) `procresnet-166-published` is the ProcResNet held as the authors' published code holds it ([what that means](02b_published.ipynb)).

# %%
everything = records.read_all(results_root())
shown = ("plain-164", "resnet-164", "procresnet-166", "procresnet-166-published")
kept = [
    r
    for r in everything
    if r.network in shown
    and (r.config.preset, r.config.schedule, r.config.seed) == ("desk", "steps", 0)
]
runs.overview(kept).set_index("network").T

# %%
for r in kept:
    print(r.ending())
    print("   ", r.provenance.command)

# %%
full = [r for r in everything if r.config.full_scale()]
if full:
    display(pd.concat([paper.compare(r).assign(network=r.network) for r in full]))
else:
    print(
        "The paper's scale has not been run yet: no record follows its full protocol."
    )

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Test error of the runs on record. One seed each, on a small part of the data.", "name": "fig-runs"}, "image": {"alt": "Lines of test error over the epochs, one per run."}}
desk = [r for r in kept if r.config.preset.startswith("desk") and r.config.depth == 164]
figures.compare_runs(pd.concat([r.epochs.assign(run=r.label) for r in desk]))

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How far the blocks of these runs are from preserving the gradient's norm: median over blocks, band from the 10th to the 90th percentile.", "name": "fig-distances"}, "image": {"alt": "Two panels, blocks with a constant width and transitions: the distance from norm preservation over the epochs, on a logarithmic scale, a line and a band for each run."}}
figures.compare_ratios(pd.concat([r.blocks.assign(run=r.label) for r in desk]))

# %% tags=["hide-input"]
table = pd.concat([runs.norm_preservation(r).assign(run=r.label) for r in desk])
table.set_index(["run", "epoch", "kind"]).map(lambda x: f"{x:.3g}")
