"""Large files and paths of one machine are refused; what git tracks today has neither."""

import subprocess
import sys
from pathlib import Path

import pytest
from tracked_files import LARGEST, ROOT, main, paths, sizes, tracked


def written(folder: Path, content: bytes, name: str = "page.md") -> list[Path]:
    (folder / name).write_bytes(content)
    return [folder / name]


@pytest.mark.parametrize("check", ["sizes", "paths"])
def test_what_git_tracks_passes(check):
    if not (ROOT / ".git").exists():
        pytest.skip("this copy is no git checkout")
    assert tracked()
    assert main([check]) == 0


# Written in two parts, so that this file passes its own check.
@pytest.mark.parametrize("path", ["/ho" + "me/ada/data", "/Us" + "ers/ada/x.py", "C:\\Us" + "ers\\ada", "/ro" + "ot/x"])
@pytest.mark.parametrize("text", ["{}", 'open("{}")', "runs: {} (here)"])
def test_a_path_of_one_machine_is_found(tmp_path, text, path):
    (said,) = paths(written(tmp_path, f"first\n{text.format(path)}\n".encode()))
    assert "page.md:2 names a path of one machine" in said


def test_this_checkout_is_found(tmp_path):
    (said,) = paths(written(tmp_path, f"see {ROOT}/README.md".encode()))
    assert str(ROOT) in said


@pytest.mark.parametrize(
    "text", ["results/home/x", "~/x", "https://a.org/home/ada/", "src/Users/x", "/homework/x", "a\0/ho" + "me/a/"]
)
def test_other_paths_are_fine(tmp_path, text):
    assert list(paths(written(tmp_path, text.encode()))) == []


def test_a_large_file_is_found(tmp_path):
    assert list(sizes(written(tmp_path, bytes(LARGEST)))) == []
    (said,) = sizes(written(tmp_path, bytes(LARGEST + 1)))
    assert "page.md has 1,000,001 bytes" in said
    assert list(sizes(written(tmp_path, bytes(LARGEST + 1), "pictures.ipynb"))) == []


def test_the_exit_status_tells(tmp_path):
    (bad,) = written(tmp_path, bytes(LARGEST + 1))
    script = Path(sys.modules["tracked_files"].__file__)
    for arguments, status in ((["sizes", bad], 1), (["paths", bad], 0), (["colours"], 2), ([], 2)):
        done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == status
        assert bool(done.stderr) == bool(status)
