"""A mode is one YAML and one module: it runs, its options are its own, and its summary says which mode it was."""

import json

import pytest
from conftest import the_sweep

from humanseg import modes

YAML = """# @package _global_
# Greets somebody.
mode: greet
whom: nobody
"""
MODULE = """
from humanseg.runs.job import Job

SHARED, RANKED = False, False


def run(config: dict, job: Job) -> None:
    begun = job.begin()
    print("run        " + str(job.folder))
    begun.update(status="completed", said=f"hello {config['whom']}", seen=[job.choices["model"], *job.overrides])
"""


@pytest.fixture
def greeting(tmp_path, monkeypatch) -> str:
    """What makes the new mode known."""
    (tmp_path / "conf" / "mode").mkdir(parents=True)
    (tmp_path / "conf" / "mode" / "greet.yaml").write_text(YAML)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "greet.py").write_text(MODULE)
    monkeypatch.setattr(modes, "__path__", [*modes.__path__, str(tmp_path / "modules")])
    return f"--config-dir={tmp_path}/conf"


def test_a_new_mode_runs(run, greeting):
    done = run(greeting, "mode=greet", "whom=you", "model=fpn_mbv2")
    summary = json.loads((done.folder / "summary.json").read_text())
    assert (summary["mode"], summary["ranked"], summary["status"]) == ("greet", False, "completed")
    assert summary["said"] == "hello you" and summary["seen"][0] == "fpn_mbv2" and "whom=you" in summary["seen"]


def test_a_sweep_of_a_mode_that_is_not_ranked_ends_well(run, greeting, tmp_path):
    done = run(greeting, "-m", "mode=greet", "whom=a,b")
    assert (
        json.loads((the_sweep(tmp_path) / "sweep.json").read_text())["status"] == "completed"
        and "rank" not in done.stdout
    )
