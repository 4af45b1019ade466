"""A sweep's file: what it expands to, and one sentence for whatever is wrong with it."""

from pathlib import Path

import pytest

from paperlib.channel_grid import GridConfig
from paperlib.errors import ConfigError
from paperlib.sweep import Sweep, read

CONFIGS = Path(__file__).resolve().parents[2] / "workflow" / "config"


@pytest.mark.parametrize(("name", "runs"), [("smoke", 4), ("desk", 72), ("paper", 96)])
def test_the_grids_of_section_4(name, runs):
    sweep = read(CONFIGS / f"{name}.yaml")
    jobs = sweep.jobs()
    assert len(jobs) == len({job.name for job in jobs}) == runs
    assert {job.config.preset for job in jobs} == {sweep.preset} == {name}
    assert [job.config.seed for job in jobs] == sorted(job.config.seed for job in jobs)
    assert isinstance(sweep.grid(), GridConfig)


def test_a_run_of_several_groups_is_one_job():
    groups = {"a": {"arch": "resnet", "depth": [11, 20]}, "b": [{"depth": 20}, {"arch": "procresnet", "depth": 11}]}
    jobs = Sweep(preset="smoke", common={"device": "cpu"}, groups=groups).jobs()
    assert [(job.config.network, job.groups) for job in jobs] == [
        ("resnet-11", ("a",)),
        ("resnet-20", ("a", "b")),
        ("procresnet-13", ("b",)),
    ]
    assert jobs[0].arguments() == "-p preset smoke -p device cpu -p arch resnet -p depth 11".split()


def test_the_first_seed_of_all_groups_comes_first():
    groups = {"a": {"depth": 20, "seed": [0, 1]}, "b": {"depth": 11, "seed": [1, 0]}}
    jobs = Sweep(preset="smoke", groups=groups).jobs()
    assert [(job.groups, job.config.seed) for job in jobs] == [(("a",), 0), (("b",), 0), (("a",), 1), (("b",), 1)]


def test_what_the_file_gives_is_the_run():
    """The command line's words make the very run that was planned."""
    from paperlib.__main__ import _value
    from paperlib.config import RunConfig

    for name in ("smoke", "desk"):
        for job in read(CONFIGS / f"{name}.yaml").jobs():
            words = job.arguments()
            given = {key: _value(value) for key, value in zip(words[1::3], words[2::3], strict=True)}
            assert RunConfig(**given).resolve().digest() == job.config.digest()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("preset: dsek\ngroups: {a: {depth: 20}}", "preset 'dsek' is unknown"),
        ("preset: smoke\ngruops: {a: {depth: 20}}", "did you mean 'groups'"),
        ("preset: smoke\ngroups: {a: {dpeth: 20}}", "groups: a: unknown parameter 'dpeth': did you mean 'depth'"),
        ("preset: smoke\ngroups: {a: {depth: [20, 21]}}", "groups: a: depth 21 is not of the form 9n+2"),
        ("preset: smoke\ngroups: {a: {depth: []}}", "groups: a: depth is an empty list"),
        ("preset: smoke\ngroups: {a: []}", "groups: a: the list is empty"),
        ("preset: smoke\ngroups: {}", "there is no group"),
        ("preset: smoke\ngroups: {a: 3}", "groups"),
        ("preset: smoke\ngroups: {a: {preset: desk}}", "preset stands at the top"),
        ("preset: smoke\ncommon: {presicion: float32}\ngroups: {a: {depth: 20}}", "did you mean 'precision'"),
        ("preset: smoke\ngroups: {a: {depth: 20}}\nchannel_grid: {seed: 3}", "channel_grid: unknown parameter 'seed'"),
        ("groups: {a: {depth: 20}}", "preset is required"),
        ("preset: smoke\ngroups: {a: {depth: 20}, b: {depth: 11}, a: {depth: 29}}", "'a' stands twice"),
        ("preset: smoke\ngroups: {a: {[depth]: 11}}", "unhashable key"),
        ("preset: smoke\npreset: desk\ngroups: {a: {depth: 20}}", "'preset' stands twice"),
        ("preset: smoke\ngroups: {a/b: {depth: 20}}", "groups: the name 'a/b' must be of letters, digits, _ and -"),
        ("preset: smoke\ngroups: {'': {depth: 20}}", "groups: the name '' must be"),
        ("preset: [", "is not YAML"),
        ("- 1", "must hold keys and values"),
        ("", "must hold keys and values"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(text, said, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as e:
        read(file)
    assert said in str(e.value)
    assert str(e.value).startswith(str(file))
    assert "\n" not in str(e.value)


def test_two_runs_do_not_share_a_folder():
    groups = {"a": {"depth": 11, "device": ["cpu", "cuda"]}}
    with pytest.raises(ConfigError, match="two runs with one folder"):
        Sweep(preset="smoke", common={"precision": "float32"}, groups=groups).jobs()


def test_an_anchor_s_keys_may_be_given_again(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("preset: smoke\ngroups:\n  a: &a {depth: 20, seed: 1}\n  b: {<<: *a, depth: 11}\n")
    assert [(job.groups, job.config.depth, job.config.seed) for job in read(file).jobs()] == [
        (("a",), 20, 1),
        (("b",), 11, 1),
    ]
