"""The README and its sisters: the example prints what it says, numbers are the stored ones, what is named exists."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import paperlib
from paperlib import cifar, claims
from paperlib.__main__ import main
from paperlib.config import RunConfig
from paperlib.records import read_all
from paperlib.studies.reproducibility import benchmark as stored
from paperlib.sweep.file import read as read_sweep

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "book/contributing.md")
}
NUMBER = re.compile(r"-?\d+\.\d+")


def test_benchmark_numbers_are_the_stored_ones():
    step, probe, memory = stored("training_step"), stored("probe_overhead"), stored("memory")
    grid = stored("channel_grid")
    projected, cases = stored("projection"), stored("spectrum")["cases"]
    times = {case: found["numpy_over_ours"]["median"] for case, found in cases.items()}
    published = projected["over_ours"]["published"]
    wanted = [
        f"{step['plain_over_ours']['median']:.2f} times as fast (median of {step['rounds']} pairs",
        f"best against best {step['plain_over_ours']['best_against_best']:.2f})",
        f"{100 * (probe['watched_over_without']['median'] - 1):.1f} % longer (median of {probe['rounds']} pairs)",
        f"{100 * probe['hooks_over_rest_of_step']['median']:.1f} % of the step",
        f"{published['median']:,.0f} times as long as this library's (median of {projected['rounds']['others']} pairs, "
        f"smallest {published['smallest']:,.0f})",
        f"an SVD without them takes {projected['over_ours']['svd']['median']:.0f} times as long",
        f"{times['3->64 3x3 n=32']:.1f} times as fast (3→64, 3×3 on 32×32), {times['64->64 3x3 n=32']:.1f} (64→64), "
        f"{times['64->128 1x1 n=16']:.0f} and {times['128->256 1x1 n=8']:.0f} (ProcResNet's 1×1 kernels)",
        f"{grid['cells']['16->16']['apart_over_together']['median']:.2f} times as fast as one after another "
        f"(16→16, median of {grid['rounds']} pairs), which is the slowest of three cells",
        f"{memory['kept']['peak_gib']} GiB; {memory['recomputed']['peak_gib']} GiB",
    ]
    assert [w for w in wanted if w not in README] == []
    together = {name: cell["apart_over_together"]["median"] for name, cell in grid["cells"].items()}
    assert len(together) == 3 and min(together, key=together.get) == "16->16"


def test_the_peers_numbers_are_the_stored_ones():
    norms, kernels = stored("operator_norm"), stored("orthogonal")
    times = {name: case["over_ours"]["arpack"]["median"] for name, case in norms["cases"].items()}
    bounds = [case["over_our_bound"]["median"] for case in norms["cases"].values()]
    one = {name: c["orthogonium_over_ours"]["median"] for name, c in kernels["cases"]["1 thread"].items()}
    wanted = [
        f"both within {norms['accuracy']:.0e}".replace("e-0", "e-"),
        f"{times['64->64 3x3 n=32']:.1f} times as fast (64→64, 3×3 on 32×32), "
        f"{times['128->128 3x3 n=16']:.1f} (128→128 on 16×16), "
        f"{times['3->64 3x3 n=32']:.1f} (3→64 on 32×32: slower), medians of {norms['rounds']} pairs",
        "takes {:.1f}, {:.1f} and {:.1f} times as long as `operator_norm_bound`".format(*bounds),
        f"orthogonium {kernels['orthogonium']} | {one['64->64 3x3 stride 1']:.1f} times as fast (64→64, 3×3), "
        f"{one['64->128 3x3 stride 2']:.1f} (64→128, stride 2), {one['3->64 7x7 stride 2']:.1f} (3→64, 7×7, stride 2), "
        f"{one['256->256 3x3 stride 1']:.1f} (256→256), medians of {kernels['rounds']} pairs",
    ]
    assert [w for w in wanted if w not in README] == []
    assert all(c["orthogonium_over_ours"]["median"] > 1 for found in kernels["cases"].values() for c in found.values())


def test_a_gpu_s_numbers_are_the_stored_ones():
    gpu = stored("gpu_step")
    deep, several = gpu["depth 164"], "bfloat16, 4 side by side"
    name = "bfloat16, graphs and fused"
    least = 1e9 * deep["floor GB a step, bfloat16"] / gpu["copy_bytes_per_second"]  # seconds
    rate = deep[f"{name}: images per second"]
    low, high = deep[f"{name}: over textbook"]
    wanted = [
        f"{low:.1f} to {high:.1f} times as fast ({gpu['rounds']} rounds of "
        f"{gpu['steps_a_round']} steps; {rate:,} images a second)",
        f"{100 * least * rate / gpu['batch_size']:.0f} % of what the memory's measured bandwidth allows",
        "In float32 the library's step is slower than the plain loop "
        f"({deep['float32, graphs and fused: over textbook'][1]:.1f} times as fast)",
        "side by side: {:.1f} to {:.1f} times".format(*deep[f"{several}: over textbook"]),
    ]
    assert [w for w in wanted if w not in README] == []
    runs = read_all(ROOT / "results" / "h200")
    assert {(run.config.depth, run.config.epochs) for run in runs} == {(20, 100)} and len(runs) == 3
    took = max(session.seconds for run in runs for session in run.provenance.sessions)
    plan = " ".join((ROOT / "workflow" / "README.md").read_text(encoding="utf-8").split())
    assert f"took {took:.0f} seconds side by side" in plan
    assert f"at {rate:,} images a second alone and at {deep[f'{several}: images per second']:,} in four" in plan


def test_the_desk_sweep_has_so_many_runs():
    runs = len(read_sweep(ROOT / "workflow" / "config" / "desk.yaml").jobs())
    assert f"{runs} runs, some hours on two cores" in README
    assert f"# {runs} runs on real CIFAR-10" in (ROOT / "workflow" / "README.md").read_text(encoding="utf-8")


def test_the_roofline_s_numbers_are_the_stored_ones():
    found = stored("roofline")
    shares = {
        depth: " and ".join(
            f"{100 * found[f'depth {depth}, {p}']['of_the_peak']:.0f} %" for p in ("bfloat16", "float32")
        )
        for depth in (164, 20, 1001)
    }
    assert (
        f"{shares[164]} at depth 164, {shares[20]} at 20, {shares[1001]} at 1001 (best of {found['rounds']})" in README
    )


def test_what_the_convolutions_reach_is_the_stored_number():
    found = stored("convolutions")["depth 164, float32"]
    shares = found["shares_of_a_step"]
    others = sum(shares[kind] for kind in ("normalisations", "ReLUs", "sums"))
    assert f"reach {100 * found['convolutions_alone_of_the_peak']:.0f} % at depth 164" in README
    assert f"they take {100 * shares['convolutions']:.0f} % of the time" in README
    assert f"which only move memory, {100 * others:.0f} % |" in README


def test_the_projection_s_numbers_are_the_stored_ones():
    """Beside an SVD that has the same shortcuts."""
    (finding,) = claims.read_all(ROOT / "results", only=("O1d",))
    table = finding.frames["seconds"]
    library, svd, iteration = table["library"], table["svd, shortcuts"], table["iteration, shortcuts"]
    wanted = [
        f"after every second step | {(50 * library / table.step).median():.2f} % of the training time in float32",
        f"takes {(svd / library).median():.1f} times as long (median of {len(table)} rounds, one thread)",
        f"{(iteration / svd).median():.1f} times as long as that SVD",
    ]
    assert finding.provenance.threads == 1
    assert [w for w in wanted if w not in README] == []


def test_the_presets_are_as_the_table_says():
    smoke = RunConfig(preset="smoke", device="cpu").resolve()
    paper = RunConfig(preset="paper", device="cpu").resolve()
    constant = RunConfig(preset="paper", schedule="constant", device="cpu").resolve()
    sample = cifar.load("cifar10", "sample")
    train, test = len(sample.train_images), len(sample.test_images)
    wanted = [
        f"{smoke.train_images} of the {train:,} training images of an embedded sample",
        f"{paper.epochs} epochs of {paper.train_images:,} images (`-p schedule constant`: {constant.epochs})",
        f"The {train + test:,} sample images",
    ]
    assert [w for w in wanted if w not in README] == []


def shown(code: str) -> str:
    """What the example says that it prints: the comments that stand right below a ``print``."""
    below = re.findall(r"^print\(.*\n((?:#.*\n?)+)", code, re.MULTILINE)
    assert len(below) == code.count("print(") > 0, "a print without its output, or in an inner block"
    return "".join(re.sub(r"^# ?", "", block, flags=re.MULTILINE) for block in below)


def test_the_example_prints_what_it_says(capsys):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    exec(compile(code, "README.md", "exec"), {})
    said, printed = shown(code).strip(), capsys.readouterr().out.strip()
    assert NUMBER.sub("*", printed) == NUMBER.sub("*", said)
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (printed, said)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.01)  # the last digits depend on the processor
    low, high = eval(printed.splitlines()[-1])
    assert abs(low - 1) < 1e-5 and abs(high - 1) < 1e-5


def code_in(page: str) -> list[str]:
    """The commands and names of a page: what stands in backticks, and the lines of its shell blocks."""
    text = PAGES[page]
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose) + [line.split("  #")[0] for block in blocks for line in block.splitlines()]


@pytest.fixture(params=PAGES)
def page(request):
    return request.param


def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = {m for code in code_in(page) for m in re.findall(r"^make ([a-z]+)", code)}
    assert named <= targets
    assert targets == set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split())


def test_every_target_has_a_line_of_help():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(r"  ## .{10,90}$", line) for line in re.findall(r"^[a-z]+:.*$", makefile, re.MULTILINE))


def test_subcommands_exist(page):
    for name in {m for code in code_in(page) for m in re.findall(r"python -m paperlib (\w+)", code)}:
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        assert end.value.code == 0, f"python -m paperlib {name}"


# What runs leave, what a reader makes, and patterns.
MADE = re.compile(r"^(runs/|out\.|\.)|NN_|/a/b|/test_b|^(record|grid|finding)\.json$")


def test_files_exist(page):
    words = {word.strip(",;:") for code in code_in(page) for word in code.split()}
    files = {w for w in words if re.fullmatch(r"[\w./-]+(/|\.(py|md|txt|toml|yml|cff|ipynb|json))", w)}
    assert [f for f in sorted(files) if not MADE.search(f) and not (ROOT / f).exists()] == []


def test_modules_and_functions_exist(page):
    """A module can be imported, and a call such as `project(weight, size)` has arguments that the function takes."""
    names = [m.name for m in pkgutil.walk_packages(paperlib.__path__, "paperlib.") if "__main__" not in m.name]
    modules = [importlib.import_module(name) for name in names]
    for code in code_in(page):
        if re.fullmatch(r"paperlib(\.\w+)+", code):
            importlib.import_module(code)
        if call := re.fullmatch(r"([a-z]\w+_\w+|project)\((\w+(?:, \w+)*)\)", code):
            found = [vars(m)[call.group(1)] for m in modules if call.group(1) in vars(m)]
            assert found, f"{page}: there is no {call.group(1)}"
            inspect.signature(found[0]).bind(*call.group(2).split(", "))


def test_nothing_waits_to_be_filled_in(page):
    assert [word for word in ("TODO", "TBD", "FIXME", "XXX", "???") if word in PAGES[page]] == []
