"""Stored content that was edited, damaged or forged is refused in one sentence that names its file."""

import copy
import json
import random
import shutil
from collections import Counter

import foreign.table
import pytest
import tiny

from paperlib import claims, records, scorecard
from paperlib.channel_grid import GridConfig, GridRecord, run, work
from paperlib.errors import PaperlibError
from paperlib.store import results_root
from paperlib.store.provenance import Session, device_here
from paperlib.store.stored import sealed
from paperlib.sweep.cost import Costs, stored

GRID = GridConfig(**tiny.GRID | {"stages": "0"}).resolve()


def make_plan(folder):
    work.Plan(config=GRID.content(), sessions=[Session.here()]).save(folder)


def make_costs(folder):
    Costs(host="a", device=device_here("cpu"), side_by_side=1, startup=1.0, per_image={"float32": (0.1, 0.2)}).save(
        folder / "costs.json"
    )


def read_compatibility(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foreign.table, "RECORD", folder / "compatibility.json")
        return foreign.table.stored()


KINDS = {  # the file, how it is made in a folder, and how it is read there
    "run": ("record.json", lambda f: tiny.fitted(tiny.record()).save(f), records.read),
    "grid": (
        "grid.json",
        lambda f: shutil.copytree(run(GRID, quiet=True).folder, f, dirs_exist_ok=True),
        GridRecord.read,
    ),
    "finding": ("finding.json", lambda f: claims.measure("C1", "smoke", 2).save(f), claims.read),
    "plan": ("plan.json", make_plan, lambda f: work._plan(GRID, f)),
    "costs": ("costs.json", make_costs, lambda f: stored(f / "costs.json")),
    "scorecard": (
        "scorecard.json",
        lambda f: shutil.copy(results_root() / "scorecard.json", f),
        lambda f: scorecard.read(f / "scorecard.json"),
    ),
    "compatibility": (
        "compatibility.json",
        lambda f: shutil.copy(results_root() / "compatibility.json", f),
        read_compatibility,
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One folder of each kind."""
    made = {}
    for kind, (_, make, read) in KINDS.items():
        made[kind] = tmp_path_factory.mktemp(kind)
        make(made[kind])
        read(made[kind])
    return made


def refused(folder, kind):
    """The sentence with which the folder is refused; None where it is read."""
    file, _, read = KINDS[kind]
    try:
        read(folder)
    except PaperlibError as e:
        said = str(e)
        assert str(folder) in said and "\n" not in said and len(said) < 600 + len(str(folder)), said
        return said
    return None


# -- edits ---------------------------------------------------------------------------------------------------------
def places(value, path=()):
    """The path to every value in some JSON, to leaves and to what holds them."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def another(value, draw):
    """Some other value, of the same type or of another."""
    if isinstance(value, bool):
        same = not value
    elif isinstance(value, int | float):
        same = value + draw.choice((1, -1, 0.1, 1e9))
    else:
        same = f"{value}x"
    others = (None, True, -1, 0, 1.5, float("nan"), float("inf"), "", "x", [], {}, 10**400, "\ud800", "<b>\n")
    return draw.choice((same, same, *others))


def edited(raw, draw):
    """The content with one value changed, removed or added, or with a value in which many are nested."""
    content = copy.deepcopy(raw)
    path = draw.choice(list(places(content)))
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    what = draw.choice(("change", "change", "change", "remove", "add", "nest"))
    if what == "change":
        inner[path[-1]] = another(inner[path[-1]], draw)
    elif what == "remove":
        del inner[path[-1]]
    elif what == "add":
        content[f"{path[-1]}_too"] = 1
    else:
        inner[path[-1]] = "nested"
        depth = draw.choice((10, 500, 985, 990, 995, 10_000))
        return json.dumps(content).replace('"nested"', "[" * depth + "]" * depth).encode()
    return json.dumps(content).encode()


def damaged(raw, draw):
    """The bytes cut off, or with one bit the other way round."""
    cut = draw.randrange(len(raw))
    return raw[:cut] if draw.random() < 0.3 else raw[:cut] + bytes([raw[cut] ^ 1 << draw.randrange(8)]) + raw[cut + 1 :]


def canonical(raw):
    return json.dumps(json.loads(raw), sort_keys=True)


def test_no_edit_of_a_stored_file_goes_unnoticed(whole, tmp_path, size, tally):
    draw, found = random.Random(0), Counter()
    for i in range(size(154, 1008)):
        kind = list(KINDS)[i % len(KINDS)]
        folder = tmp_path / str(i)
        shutil.copytree(whole[kind], folder)
        file, tables = folder / KINDS[kind][0], sorted(folder.glob("*.parquet"))
        before = file.read_bytes()
        chosen = draw.choice(tables) if tables and draw.random() < 0.2 else file
        if chosen == file and draw.random() < 0.8:
            chosen.write_bytes(edited(json.loads(before), draw))
        else:
            chosen.write_bytes(damaged(chosen.read_bytes(), draw))
        if refused(folder, kind):
            found["refused"] += 1
        else:  # other white space, or a value that was replaced by itself
            assert chosen == file and canonical(file.read_bytes()) == canonical(before), chosen.read_bytes()
            found["same_content"] += 1
        shutil.rmtree(folder)
    assert found["refused"] >= 0.9 * found.total() and found.total() >= 150
    tally("a stored file was edited", **found)


# -- forgeries that are sealed again -----------------------------------------------------------------------------
def sealed_again(folder, kind, change=None, **tables):
    """Change the JSON, or columns of its tables, as somebody does who then seals it."""
    if tables:
        read = KINDS[kind][2]
        made = read(folder)
        made.frames |= {name: change(made.frames[name]) for name, change in tables.items()}
        made.save(folder)
        return
    file = folder / KINDS[kind][0]
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(sealed(content)))


def put(*path, value):
    """Put a value at a path."""

    def change(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def assign(**columns):
    return lambda table: table.assign(**columns)


FORGED = {
    "an error above 100": ("run", {"epochs": assign(test_error=[50.0, 101.0])}, "an error is not between"),
    "a negative error": ("run", {"epochs": assign(train_error=[-1.0, 0.0])}, "an error is not between"),
    "a negative loss": ("run", {"epochs": assign(test_loss=-1.0)}, "a loss is negative"),
    "no last error": ("run", {"epochs": assign(test_error=[50.0, float("nan")])}, "its last epoch has no test error"),
    "an epoch less": ("run", {"epochs": lambda t: t[:1]}, "other epochs than 1 to 2"),
    "an epoch twice": ("run", {"epochs": assign(epoch=[1, 1])}, "other epochs than 1 to 2"),
    "another rate": ("run", {"epochs": assign(lr=0.5)}, "its learning rates"),
    "a column less": ("run", {"epochs": lambda t: t.drop(columns="lr")}, "tables are not those of a record"),
    "text for numbers": ("run", {"epochs": assign(test_loss="low")}, "tables are not those of a record"),
    "another network's blocks": ("run", {"blocks": assign(name="stage9_block1")}, "blocks are not those of resnet-20"),
    "a block less": ("run", {"blocks": lambda t: t[:-1]}, "blocks are not those of resnet-20"),
    "the paper's preset": ("run", put("config", "epochs", value=300), "other epochs than 1 to 300"),
    "another depth": ("run", put("config", "depth", value=29), "blocks are not those of resnet-29"),
    "another data set": ("run", put("data", "dataset", value="cifar100"), "its images"),
    "more images": ("run", put("data", "train_images", value=50_000), "its images"),
    "no divergence": ("run", put("status", value="diverged"), "its status is diverged, and it has no divergence"),
    "a time less": ("run", put("epoch_seconds", value=[1.0]), "another number of times"),
    "a negative time": ("run", put("epoch_seconds", value=[1.0, -1.0]), "below the least"),
    "no parameters": ("run", put("parameters", value=0), "below the least"),
    "no number": ("run", put("parameters", value=float("nan")), "malformed at 'parameters'"),
    "a huge factor": ("run", put("config", "hold_at", value=10**400), "malformed at 'config'"),
    "a table's strange name": ("run", put("tables", value={"epochs": "\ud800", "blocks": "\n"}), "names no table"),
    "a grid's row less": ("grid", {"measurements": lambda t: t[1:]}, "its rows are not those"),
    "a grid's row twice": ("grid", {"measurements": assign(seed=0, c=2, d=2)}, "its rows are not those"),
    "a share above 1": ("grid", {"measurements": assign(active=1.5)}, "a share is not between"),
    "a grid's negative loss": ("grid", {"measurements": assign(loss=-1.0)}, "a loss is negative"),
    "a grid of other images": ("grid", put("data", "source", value="npm"), "its images"),
    "a finding without seeds": ("finding", put("seeds", value=[]), "its seeds"),
    "a negative spread": (
        "finding",
        put("quantities", value={"a": {"mean": 1, "sd": -1, "n": 2}}),
        "a negative spread",
    ),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_sealed_file_that_contradicts_itself_is_refused(what, whole, tmp_path):
    kind, change, said = FORGED[what]
    folder = tmp_path / "forged"
    shutil.copytree(whole[kind], folder)
    if callable(change):
        sealed_again(folder, kind, change)
    else:
        sealed_again(folder, kind, **change)
    assert said in (refused(folder, kind) or "it was read")


def test_what_follows_from_tables_is_derived_and_not_believed(whole, tmp_path):
    """A record has no place for `final` and `left_out`, nor a finding for its verdict; a number must be its table's."""
    folder = tmp_path / "run"
    shutil.copytree(whole["run"], folder)
    for name in ("final", "left_out", "digest"):
        before = (folder / "record.json").read_bytes()
        sealed_again(folder, "run", put(name, value=1))
        assert f"malformed at '{name}'" in (refused(folder, "run") or "")
        (folder / "record.json").write_bytes(before)
    finding = claims.read(whole["finding"])
    name, right = next(iter(finding.quantities.items()))
    forged = finding.model_copy(update={"quantities": {name: right.model_copy(update={"mean": 123.0})}})
    claims.save(forged, tmp_path)
    with pytest.raises(PaperlibError, match=r"C1 at the smoke preset says 123 where its tables give"):
        claims.read_all(tmp_path)
    forged = finding.model_copy(update={"rule": claims.Ruling(digest="0", sentence="", outcome="not reproduced")})
    claims.save(forged, tmp_path)
    assert claims.verdict(claims.read_all(tmp_path)[0]) == "reproduced"  # by its tables and today's rule


def test_the_name_of_a_preset_decides_nothing():
    """A run that is called one of the paper's, and has a smaller size, counts for no claim at the paper's scale.

    S0 alone, which looks at nothing that comes after the first update, does not ask for the number of epochs.
    """
    tried = 0
    for preset, changes in (("paper", {"epochs": 10}), ("paper", {"train_images": 1000}), ("paper", {"lr": 0.5})):
        for arch, held in (("plain", {}), ("procresnet", {}), ("procresnet", {"hold_at": 0.5})):
            config = {"preset": preset, "arch": arch, "depth": 20, "schedule": "constant", "device": "cpu"}
            c = tiny.RunConfig(**config | held | changes).resolve()
            assert not c.full_scale() and c.left_out()
            counting = [name for name, claim in claims.CLAIMS.items() if claim.counts(c, "paper")]
            assert counting == (["S0"] if "epochs" in changes and not held else [])
            tried += 1
    assert tried == 9
    whole = tiny.RunConfig(preset="paper", arch="procresnet", depth=20, hold_at=0.5, device="cpu").resolve()
    assert claims.CLAIMS["I1"].counts(whole, "paper")
