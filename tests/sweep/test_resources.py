"""Which claims a sweep's runs can decide."""

from paperlib.sweep import read, resources


def sweep(tmp_path, text):
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    return read(file)


def test_only_claims_about_the_sweeps_own_runs_are_measured(tmp_path):
    constant = "preset: smoke\ngroups:\n  a: {arch: plain, depth: 20, schedule: constant}\n"
    found = resources.claims_from_records(sweep(tmp_path, constant))
    assert {"F3a", "F3d"} <= {*found} and not {"TII", "F5", "O2"} & {*found}
    final = "preset: smoke\ngroups:\n  a: {arch: resnet, depth: 164, schedule: steps}\n"
    found = resources.claims_from_records(sweep(tmp_path, final))
    assert "TII" in found and "F3a" not in found


def test_runs_that_override_their_preset_decide_no_claim(tmp_path):
    run = "\ngroups:\n  a: {arch: plain, depth: 20, schedule: constant}\n"
    assert resources.claims_from_records(sweep(tmp_path, "preset: smoke\ncommon: {lr: 0.2}" + run)) == []
    # But S0, which looks at nothing that comes after the first update.
    assert resources.claims_from_records(sweep(tmp_path, "preset: smoke\ncommon: {epochs: 1}" + run)) == ["S0"]
