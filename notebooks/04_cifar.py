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
fused = True
cuda_graphs = True
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

# %% tags=["hide-input"]
Markdown(
    "The verdict follows from a rule. A run that is smaller than the paper's protocol has none. A run at its full scale agrees with Table II if its test error "
    f"lies within {paper.TOLERANCE} points of the paper's. The gap is the generalisation gap: test error less "
    "training error. The gaps of Table I are compared and not judged; an earlier form of this rule judged the mean gap, too, by the same tolerance. "
    "Which of Table I's rows belongs to which depth is inferred from the paper's text."
)

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
# The repository keeps the records of some runs (`results/`). What follows is drawn from these files, and not computed here. It shows
# the networks of this depth at the `desk` preset, whatever preset the run above was of. There is one seed of each, so there is no
# spread to judge differences by. `procresnet-166-published` is the ProcResNet held as the authors' published code holds it ([what that
# means](02b_published.ipynb)).

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

# %% [markdown]
# How many blocks keep the gradient's norm? Counted are those whose ratio is close to 1 in the run's last epoch. Blocks with a constant
# width stand on the left, transitions on the right.

# %% tags=["hide-input"]
near = runs.close(kept).set_index("run")
near.map(lambda x: f"{x:.3g}")


# %% tags=["hide-input"]
def said(r):
    """How many blocks of a run are close to 1, and how many transitions."""
    row = {name: int(near[name][r.label]) for name in near if "close" in name}
    of = {name: int(near[name][r.label]) for name in ("blocks", "transitions")}
    return (
        f"{row['close']} of its {of['blocks']} blocks of constant width and {row['close transitions']} of its "
        f"{of['transitions']} transitions"
    )


def one(network):
    """The run of a network that has one here."""
    return next(r for r in kept if r.network == network)


plain = [r for r in kept if r.network == "plain-164"]
errors = " and ".join(f"{near['lowest test error'][r.label]:.1f} %" for r in plain)
ratios = " and ".join(f"{near['first transition'][r.label]:.1e}" for r in plain)
Markdown(
    f"**With identity skips nearly all blocks keep the norm.** Of the ResNet, {said(one('resnet-164'))} are within a factor of "
    f"{runs.NEAR} of 1. Of the ProcResNet, whose transitions the projection holds, {said(one('procresnet-166'))} are.\n\n"
    "**Without skips most do not, but some do.** Of the Plain network, "
    + ", and ".join(f"in {r.config.precision}, {said(r)}" for r in plain)
    + f" are close to 1. The network does not learn: its lowest test errors are {errors}, where guessing has 90 %.\n\n"
    f"**Its first transition lets the gradient explode.** Its ratio in the last epoch is {ratios}. In the convention of this page, the "
    "gradient's norm at the output over that at the input, this tends to 0: on its way back the gradient grows by the inverse of it. The "
    "paper states the same convention and says that this block's ratio becomes “too large”; the two agree if its sentence means the "
    "ratio turned over.\n\n"
    "**Whether the arithmetic decides how it ends is open.** "
    + " ".join(f"In {r.config.precision}: {r.ending()}" for r in plain)
    + " That is one run of each (n = 1), which cannot tell an effect of the arithmetic from chance. The paper reports that its "
    "Plain network of 164 layers stopped after about 10 epochs."
)

# %%
for r in kept:
    print(r.ending())
    print("   ", r.provenance.command)

# %% [markdown]
# Are there runs of the paper's scale on record? Beside their figures stands what the paper prints for the same network, with the verdict of
# the rule above, which judges test errors only, and which names the precision where it is not float32.

# %%
full = [r for r in everything if r.config.full_scale()]
if full:
    display(pd.concat([paper.compare(r).assign(network=r.network) for r in full]))
else:
    print(
        "The paper's scale has not been run yet: no record follows its full protocol."
    )

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Test error of these runs: one seed each, on a small part of the data.", "name": "fig-runs"}, "image": {"alt": "Lines of test error over the epochs, one per run."}}
desk = [r for r in kept if r.config.preset.startswith("desk") and r.config.depth == 164]
figures.compare_runs(pd.concat([r.epochs.assign(run=r.label) for r in desk]))

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How far the blocks of these runs are from preserving the gradient's norm: median over blocks, band from the 10th to the 90th percentile.", "name": "fig-distances"}, "image": {"alt": "Two panels, blocks with a constant width and transitions: the distance from norm preservation over the epochs, on a logarithmic scale, a line and a band for each run."}}
figures.compare_ratios(pd.concat([r.blocks.assign(run=r.label) for r in desk]))

# %% tags=["hide-input"]
table = pd.concat([runs.norm_preservation(r).assign(run=r.label) for r in desk])
table.set_index(["run", "epoch", "kind"]).map(lambda x: f"{x:.3g}")
