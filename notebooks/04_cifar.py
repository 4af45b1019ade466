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
# | **takes** | about five minutes (`desk`), seconds (`smoke`), hours on a GPU (`paper`) |
#
# `preset` is the size of the run: `smoke` uses an embedded sample of 1,000 images and checks that everything works; `desk` trains on real
# CIFAR, with as many images and epochs as two cores manage in a few minutes; `paper` is the paper's protocol. `auto` is
# `paper` on a CUDA device, else `desk`. `None` leaves a choice to the preset.

# %% tags=["parameters"]
preset = "auto"
arch = "resnet"
depth = 164
erase_relu = False
project = True
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
from paperlib.training import RunConfig, train

config = RunConfig.from_namespace(globals())

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown

from paperlib import figures, models, paper, records
from paperlib.config import results_root

# %% [markdown]
# ## What this run is

# %% tags=["nbval-ignore-output"]
chosen = config.resolve()
Markdown(f"""**{chosen.network}** on **{chosen.dataset}**, preset **{chosen.preset}**, seed {chosen.seed}: {chosen.epochs} epochs
of {chosen.train_images:,} training images, tested on {chosen.test_images:,}; SGD with momentum {chosen.momentum}, batches of
{chosen.batch_size}, learning rate {chosen.lr} ({chosen.schedule}), weight decay {chosen.weight_decay}; {chosen.precision}
activations in {chosen.memory_format} format on {chosen.device}.

{config.left_out()}""")

# %% [markdown]
# ## The network
#
# Three stages of blocks; each block is a branch of three convolutions (1×1, 3×3, 1×1), each behind a batch normalisation and a ReLU
# {cite}`he2016b`. A *ResNet* puts an identity skip around every block except the three *transitions*, where the number of
# channels changes and the skip needs a convolution of its own. A *ProcResNet* {cite}`zaeemzadeh2020` moves that convolution out
# of the skip, keeps it norm-preserving, and has identity skips everywhere else. A *Plain* network has no skips.

# %%
model = models.build(arch, depth, config.num_classes, erase_relu, project)
blocks = pd.DataFrame(models.describe(model))
figures.network(
    blocks, f"{config.network}: {len(blocks)} blocks, {models.parameter_count(model) / 1e6:.2f} million parameters"
)
# %%
blocks.groupby(["stage", "kind", "skip"], sort=False).agg(
    blocks=("name", "size"), channels=("channels", "first"), size=("size", "first"), parameters=("parameters", "sum")
).reset_index()

# %% [markdown]
# Do these networks have the paper's sizes? Table II gives their parameters in millions.

# %%
sizes = []
for which, n in (("resnet", 164), ("resnet", 1001), ("procresnet", 164), ("procresnet", 1001)):
    name = RunConfig(arch=which, depth=n).network
    here = models.parameter_count(models.build(which, n)) / 1e6
    sizes.append(
        {
            "network": name,
            "paper": paper.TABLE_II[name][0],
            "here": round(here, 3),
            "within 0.01": abs(here - paper.TABLE_II[name][0]) <= 0.01,
        }
    )
pd.DataFrame(sizes)

# %% [markdown]
# ## Training
#
# A checkpoint is written after every epoch. Stopped and started again, the run goes on where it was and ends with the same bits. A
# finished run is not made twice: its record is read.

# %% tags=["nbval-ignore-output"]
record = train(config)
print(f"{record.network}: {record.status} after {len(record.epochs)} epochs and {record.wall_seconds / 60:.1f} minutes")
print(f"test error {record.final.get('test_error', float('nan')):.2f} % on {record.data['test_images']:,} images")

# %% [markdown]
# Whatever the preset, some things must hold; these are checked each time that this page is executed.

# %%
again = records.read(record.folder)
check = {
    "the record reads back as it was written": again.epochs.equals(record.epochs)
    and again.blocks.equals(record.blocks),
    "asked for again, the finished run is not repeated": train(config, quiet=True).started == record.started,
    "every block was watched in every epoch": len(record.blocks)
    == len(blocks) * len(record.epochs) * bool(probe_every),
    "every gradient-norm ratio is finite": record.status == "diverged"
    or bool((record.blocks.lost == 0).all() if probe_every else True),
}
for what, holds in check.items():
    print("yes" if holds else "NO ", what)

# %% [markdown]
# ## Loss and error

# %% tags=["nbval-ignore-output"]
figures.learning_curves(record.epochs, f"{record.network}, {chosen.preset}, seed {chosen.seed}")
# %% [markdown]
# ## How each block treats the gradient's norm
#
# For the blocks $x_{l+1} = x_l + F_l(x_l)$ the paper's question is how far
#
# $$ \frac{\lVert \partial E / \partial x_{l+1} \rVert}{\lVert \partial E / \partial x_l \rVert} $$
#
# is from 1. Above 1 a block shrinks the gradient on its way back to the input, below 1 it makes it grow. It was recorded at every
# step (or every `probe_every` steps); the figures show the geometric mean over each epoch.

# %% tags=["nbval-ignore-output"]
if probe_every:
    display(figures.ratio_heatmap(record.blocks, f"{record.network}: gradient-norm ratio of each block"))

# %% tags=["nbval-ignore-output"]
if probe_every:
    display(figures.ratio_lines(record.blocks, "The same, in the form of the paper's Figure 3"))

# %% [markdown]
# A ratio a little below 1 in each of fifty blocks is a large factor in all. The product of the ratios is what reaches the first layers:

# %% tags=["nbval-ignore-output"]
if probe_every:
    display(
        figures.gradient_profile(
            record.blocks, "The gradient's norm at each block's input, relative to the last block's output"
        )
    )

# %% tags=["nbval-ignore-output"]
spread = record.blocks.assign(distance=record.blocks.log_ratio.abs()) if probe_every else record.blocks
if probe_every:
    display(
        spread[spread.epoch.isin([1, spread.epoch.max()])]
        .groupby(["epoch", "kind"])
        .agg(
            blocks=("block", "nunique"),
            median_ratio=("ratio", "median"),
            smallest_ratio=("ratio", "min"),
            largest_ratio=("ratio", "max"),
            median_abs_log_ratio=("distance", "median"),
        )
        .round(3)
    )

# %% [markdown]
# ## Beside the paper's figure for this network
#
# The verdict follows from a rule: a run that is smaller than the paper's protocol has none; a full-scale run agrees if it lies within half a
# point of the paper's figure.

# %% tags=["nbval-ignore-output"]
compared = paper.compare(record)
compared if len(compared) else Markdown(f"The paper gives no figure for {record.network} on {config.dataset}.")

# %% [markdown]
# ## How this run was made

# %% tags=["nbval-ignore-output"]
memory = f"{record.peak_memory_bytes / 2**30:.1f} GiB"
made = {
    "command": record.command,
    "started (UTC)": record.started,
    "wall time": f"{record.wall_seconds:.0f} s in {record.sessions} session(s)",
    "device": f"{record.device['name']} ({record.device['type']}), {record.threads} CPU threads",
    "precision, format": f"{record.precision}, {record.memory_format}",
    "deterministic kernels": record.determinism["deterministic_algorithms"],
    "peak memory": memory,
    "data": f"{record.data['dataset']} from {record.data['source']}, SHA-256 {record.data['checksum'][:16]}…",
    "commit": f"{record.git['commit']}{' with uncommitted changes' if record.git['dirty'] else ''}",
    "versions": ", ".join(f"{k} {v}" for k, v in record.versions.items()),
    "configuration": f"SHA-256 {record.config_hash[:16]}…",
}
pd.DataFrame({"": made}).style.set_properties(**{"text-align": "left", "white-space": "normal"})

# %% [markdown]
# ## The runs on record
#
# The repository keeps the records of some runs (`results/`). The figures below are drawn from these files, not computed here; each was
# made by the command in its `record.json`.

# %%
kept = [r for r in records.read_all(results_root()) if r.config["dataset"] == "cifar10"]
records.overview(kept)

# %%
full = [r for r in kept if r.config["preset"] == "paper" and not r.left_out]
if full:
    display(pd.concat([paper.compare(r).assign(network=r.network, seed=r.config["seed"]) for r in full]))
else:
    print("The paper's scale has not been run yet: no record in results/ follows the paper's full protocol.")
    print(
        "It needs a CUDA device and some hours: papermill notebooks/04_cifar.ipynb out.ipynb -p preset paper -p depth 164"
    )

# %%
desk = [r for r in kept if r.config["preset"] == "desk" and r.config["depth"] == 164]
for r in desk:
    print(r.command)

# %%
if desk:
    runs = pd.concat([r.epochs.assign(run=f"{r.network} ({r.config['preset']})") for r in desk])
    display(figures.compare_runs(runs, "Test error of the runs on record: one seed each, a small part of the data"))

# %%
if desk:
    ratios = pd.concat([r.blocks.assign(run=r.network) for r in desk])
    display(
        figures.compare_ratios(
            ratios, "Distance of the blocks from norm preservation: median over blocks, 10th to 90th percentile"
        )
    )

# %%
if desk:
    last = ratios[ratios.epoch == ratios.epoch.max()]
    display(
        last.assign(distance=last.log_ratio.abs())
        .groupby(["run", "kind"], sort=False)
        .distance.agg(["median", "max"])
        .round(3)
    )
