"""``python -m paperlib run``: the notebook, its page and its record, or one sentence and a non-zero status."""

import runpy
import signal
import subprocess
import sys

import nbformat
import pytest
import tiny

import paperlib
from paperlib import __main__ as command
from paperlib import _commands, cifar, claims, records, training
from paperlib.channel_grid import GridConfig
from paperlib.errors import PaperlibError
from paperlib.sweep import cost


@pytest.mark.parametrize("words", ["run", "train"])
def test_a_command_says_beforehand_what_it_will_take(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(cost, "seconds_here", lambda config: 3723.0)
    monkeypatch.setattr(training, "train", lambda *a, **k: 1 / 0)
    monkeypatch.setattr(cifar, "load", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command.main([words, *"-p preset smoke -p precision float32".split()])
    assert "predicted from a few steps: 1:02:03 of training in all, about 4.9 GB of memory" in capsys.readouterr().out


def test_one_run(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    words = "run -p preset smoke -p depth 11 -p arch procresnet -p epochs 1 --out".split()
    assert command.main([*words, str(tmp_path / "out")]) == 0
    told = capfd.readouterr().out
    record = records.read_all(tmp_path / "runs")[0]
    assert record.network == "procresnet-13"
    assert f"test error   {record.final['test_error']:.2f} %" in told
    assert record.left_out in told
    made = sorted((tmp_path / "out").iterdir())
    assert [p.suffix for p in made] == [".html", ".ipynb"]
    for path in (*made, record.folder / "record.json"):
        assert str(path) in told
    notebook = nbformat.read(made[1], as_version=4)
    assert not [o for c in notebook.cells for o in c.get("outputs", []) if o.output_type == "error"]
    page = made[0].read_text()
    assert page.count("data:image/png") >= 6
    assert "default-src 'none'" in page  # tests/faults/test_forged_records.py has what this does


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-p depth 21", "20 and 29"),
        ("-p dpeth 20", "did you mean 'depth'"),
        ("-p batch_size 0", "at least 1"),
        ("-p depth 11 -p depth 20", "'depth' is given twice"),
        ("-p preset smoke -p train_images 999990", "sample has 1000"),
    ],
)
def test_bad_parameters(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    assert command.main(["run", *words.split(), "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert said in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_values_are_read_as_papermill_reads_them():
    assert [command._value(v) for v in ("164", "0.1", "1e-4", "None", "True", "false", "resnet")] == [
        164, 0.1, 1e-4, None, True, False, "resnet",
    ]  # fmt: skip


def test_what_follows_two_dashes_is_for_snakemake(capsys):
    for words in ("sweep a.yaml --out b -- --profile c -n", "sweep --out b a.yaml -- --profile c -n"):
        options = command._parsed(words.split())
        assert (str(options.file), str(options.out), options.arguments) == ("a.yaml", "b", ["--profile", "c", "-n"])
    with pytest.raises(SystemExit):
        command._parsed("plan a.yaml -- --profile c".split())
    assert "only sweep takes options after --" in capsys.readouterr().err


# -- the command -------------------------------------------------------------------------------------------------
def test_a_grid(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    words = [w for name, value in tiny.GRID.items() for w in ("-p", name, str(value))]
    assert command.main(["grid", *words]) == 0
    told = capsys.readouterr().out
    assert "4 cells and variants, 1 seed, measured after 0, 2 steps" in told
    assert str(GridConfig(**tiny.GRID).resolve().folder(tmp_path) / "grid.json") in told
    for bad, said in (("-p seed 3", "did you mean 'seeds'"), ("-p variants best", "variant 'best' is unknown")):
        assert command.main(["grid", *bad.split()]) == 1
        err = capsys.readouterr().err
        assert err.startswith("error: ") and said in err and err.count("\n") == 1


def test_a_measurement(tmp_path, capsys):
    assert command.main(["measure", "C1", "--preset", "smoke", "--seeds", "2", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("C1: reproduced") and str(tmp_path / "claims" / "C1") in told
    assert "‖J − I‖ over the bound" in told
    assert command.main(["measure", "X9"]) == 1
    assert "claim 'X9' is not one of" in capsys.readouterr().err


def test_help_names_the_commands(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["paperlib", "--help"])
    monkeypatch.delitem(sys.modules, "paperlib.__main__")
    told = []
    for start in (lambda: runpy.run_module("paperlib", run_name="__main__"), command.main):  # -m, and the script
        with pytest.raises(SystemExit) as e:
            start()
        assert e.value.code == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] and told[0].startswith("usage: paperlib")
    assert all(name in told[0] for name in ("run", "train", "grid", "measure"))


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"{paperlib.__version__}\n"


def test_help_is_there_at_once():
    """Before anything that takes seconds to import."""
    code = "import sys; from paperlib.__main__ import _parsed; _parsed(['train']); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_an_interruption_waits_for_the_import(monkeypatch, capsys):
    """Even that of the help which takes some seconds."""

    def load(name):
        signal.raise_signal(signal.SIGINT)
        loaded.append(name)

    loaded = []
    monkeypatch.setattr(paperlib, "_load", load)
    for words in (["measure", "--help"], ["grid"]):
        assert command.main(words) == 130
    assert loaded == ["_commands"] * 2
    again = "run the same command again"
    told = f"\ninterrupted: {again}\n\ninterrupted: finished cells are kept; {again} to go on\n"
    assert capsys.readouterr().err == told


def test_help_on_claims_names_them(capsys):
    with pytest.raises(SystemExit):
        command.main(["measure", "--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in claims.CLAIMS)


@pytest.mark.parametrize("deaths", [0, 1, 2])
def test_a_kernel_that_did_not_start_is_started_again(deaths, capsys):
    answers = [RuntimeError("Kernel died before replying to kernel_info")] * deaths + ["executed"]

    def execute():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert _commands._with_a_kernel(execute) == "executed" and not answers
    assert capsys.readouterr().err.count("did not start") == deaths


def test_a_kernel_that_never_starts_is_said():
    def execute():
        raise RuntimeError("Kernel died before replying to kernel_info")

    with pytest.raises(PaperlibError, match="did not start in 3 tries"):
        _commands._with_a_kernel(execute)


def test_another_error_of_the_kernel_is_not_tried_again(capsys):
    def execute():
        raise RuntimeError("Kernel died")

    with pytest.raises(RuntimeError, match="Kernel died$"):
        _commands._with_a_kernel(execute)
    assert capsys.readouterr().err == ""
