from __future__ import annotations

from importlib import metadata

import pytest

from medglip_agent import doctor
from medglip_agent.doctor import Check, check, main, render


def names(checks, status):
    return [entry.name for entry in checks if entry.status == status]


def test_check_looks_at_everything_in_a_fixed_order():
    looked_at = [entry.name for entry in check()]
    for name in ("Python", "device", "packages of ours", "grounding nano", "llm nano", "minilm-l6", "disk"):
        assert name in looked_at
    assert looked_at[0] == "Python"


def test_every_problem_has_a_remedy():
    assert [entry for entry in check() if entry.status != "ok" and not entry.remedy] == []


def test_absent_base_weights_are_a_problem_with_the_command_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGLIP_CACHE", str(tmp_path / "not" / "there"))
    found = {entry.name: entry for entry in check()}
    assert found["minilm-l6"].status == "problem"
    assert found["minilm-l6"].remedy == "medglip fetch minilm-l6"
    assert str(tmp_path) in found["disk"].detail


def test_full_disk_is_a_problem_only_while_weights_are_absent(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGLIP_CACHE", str(tmp_path))
    usage = doctor.shutil.disk_usage(tmp_path)._replace(free=5_000_000)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert doctor._check_disk().status == "problem"
    monkeypatch.setattr("grounding.base_weights.is_cached", lambda name: True)
    assert doctor._check_disk().status == "ok"


def test_wrong_and_missing_packages_are_named(monkeypatch):
    wanted = ["numpy>=9999", "no-such-distribution-of-ours>=1", "pytest", 'highdicom>=1; extra == "exports"']
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    checks = list(doctor._check_packages())
    assert names(checks, "problem") == ["numpy", "no-such-distribution-of-ours"]
    assert "expected numpy>=9999, got" in checks[0].detail


def test_not_installed_is_a_warning(monkeypatch):
    def absent(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    assert [entry.status for entry in doctor._check_packages()] == ["warning"]


def test_render_puts_the_remedy_below_and_counts():
    text = render([Check("disk", "ok", "9 GB"), Check("minilm-l6", "problem", "absent", "medglip fetch")])
    assert text.splitlines() == [
        "ok      disk       9 GB",
        "problem minilm-l6  absent",
        "                   -> medglip fetch",
        "1 problem found",
    ]


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warning", 0), ("problem", 1)])
def test_exit_code_is_one_only_for_a_problem(monkeypatch, capsys, status, code):
    monkeypatch.setattr(doctor, "check", lambda: [Check("a", status, "b", "c")])
    assert main([]) == code
    assert capsys.readouterr().out.startswith(status)
