"""One run whose records lie costs a sentence that names the file; the others are ranked, and nothing acts on who reads it."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import rows

from humanseg import report
from humanseg.runs import find
from humanseg.runs.atomic import write_json, write_table
from humanseg.runs.reading import read_table

GOOD = {
    "status": "completed", "mode": "train", "ranked": True, "monitor": "val/iou", "monitor_mode": "max", "monitored": 0.5,
    "best": {"epoch": 2, "val/iou": 0.5}, "speed": {"images_per_second": 9.0}, "seconds": 3.0, "seed": 0, "tags": ["a"],
    "overrides": ["loss=dice"], "environment": {"commit": "0123", "command": "python run.py"},
}  # fmt: skip
ACTING = "\x1b]0;x\x07\x1b[2J\r\x9b31m\u202eevil\nerror: fake\u2028\x00\ud800"  # the last two are in no file's name


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def sparse(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(10_000_000_000)


def told(**facts) -> str:
    return json.dumps(GOOD | facts)


def link(file: Path) -> None:
    target = file.with_name("elsewhere")
    target.write_text(told())
    file.symlink_to(target)


ANY_FILE = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a sparse file of 10 GB": sparse,
    "a link": link,
    "a link to a device": lambda file: file.symlink_to("/dev/zero"),
    "no UTF-8": b"\xff\xfe{}",
}
SUMMARIES = ANY_FILE | {
    "empty": "",
    "cut off": '{"status": "comp',
    "a list": "[]",
    "a number": "1",
    "null": "null",
    "null bytes": "\0" * 100,
    "nested": nested(1000),
    "nested deeper": nested(1_000_000),
    "nested within": told(extra=json.loads(nested(20))),
    "a bomb": "[" + "[]," * 1_200_000 + "[]]",
    "a wide bomb": "{" + ",".join(f'"{number}":{{}}' for number in range(400_000)) + "}",
    "a number of 10,000 digits": '{"monitored": ' + "1" * 10_000 + "}",
    "a huge number": told(monitored=10**400),
    "a large number": told(monitored=1e300),
    "a status that is a list": told(status=["completed"]),
    "a status that nobody knows": told(status="x' onload='alert(1)"),
    "a mode that is a list": told(mode=["train"]),
    "ranked that is a text": told(ranked="yes"),
    "a monitor that is a dict": told(monitor={"a": 1}),
    "a monitor that is a long text": told(monitor="x" * 1000),
    "no monitor": told(monitor=None),
    "a direction that nobody knows": told(monitor_mode="sideways"),
    "monitored that is a text": told(monitored="0.5"),
    "monitored that is a list": told(monitored=[0.5]),
    "monitored that is true": told(monitored=True),
    "best that is a list": told(best=[1]),
    "metrics that are a text": told(metrics="x"),
    "a speed that is a number": told(speed=3),
    "seconds that are a text": told(seconds="3"),
    "an epoch that is a list": told(epoch=[1]),
    "overrides that are a text": told(overrides="loss=dice"),
    "overrides that are numbers": told(overrides=[1, 2]),
    "overrides that are lists": told(overrides=[["loss=dice"]]),
    "tags that are a number": told(tags=3),
    "an error that is a dict": told(error={"a": 1}),
    "an environment that is a list": told(environment=[]),
    "a commit that is a number": told(environment={"commit": 3}),
    "a command that is a list": told(environment={"command": ["python"]}),
    "earlier that is a number": told(earlier=3),
}
HONEST = {
    "an infinite number": told(best={"val/iou": 0.1}).replace("0.1", "1e999"),
    "best that holds texts": told(best={"val/iou": "0.5"}),
    "best that holds dicts": told(best={"val/iou": {}}),
    "a metric with a long name": told(metrics={"x" * 1000: 1}),
    "not a number": told().replace('"val/iou": 0.5', '"val/iou": NaN'),
    "facts that nobody reads": told(extra={"a": [1, {"b": None}]}),
    "nulls": told(speed={"images_per_second": None}, seconds=None, best={"epoch": None}, tags=None, environment=None),
    "an interpolation": told(overrides=["name=${oc.env:HOME}"]),
    "a long error": told(error="x" * 50_000),
}
TABLES = ANY_FILE | {
    "a huge cell": "epoch,val/iou\n1," + "x" * 1_000_000,
    "an open quote": 'epoch,val/iou\n1,"' + "1,2\n" * 100_000,
    "too many rows": "epoch\n" + "1\n" * 100_002,
}
ODD_TABLES = {
    "empty": "",
    "no header": "1,0.5\n2,0.6\n",
    "odd columns": "a,b\n1,2\n",
    "a column twice": "epoch,val/iou,val/iou\n1,2,3\n",
    "ragged rows": "epoch,val/iou\n1\n1,2,3,4\n\n,,\n",
    "text in numbers": "epoch,val/iou\nx,y\n1,0x10\n2,=1+1\n3,1_0\n4,\0\n",
    "extreme numbers": "epoch,val/iou\n1e308,1e308\n-1e308,-1e308\nnan,inf\n1e99,1e99\n2,1e-320\n",
}  # fmt: skip


def lay(file: Path, content) -> None:
    """Put what a variant says at a place where there may be a file already."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    if callable(content):
        content(file)
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """Two sound runs."""
    root = tmp_path_factory.mktemp("sound")
    for name, value in (("0_a", 0.8), ("2_c", 0.9)):
        (root / name).mkdir()
        write_json(root / name / "summary.json", GOOD | {"monitored": value, "best": {"epoch": 1, "val/iou": value}})
        write_table(root / name / "metrics.csv", ["epoch", "val/iou"], [{"epoch": 1, "val/iou": value}])
    return root


@pytest.fixture
def folder(sound, tmp_path, monkeypatch) -> Path:
    """A copy of the sound runs; their page has no plotly, of 5 MB."""
    pytest.importorskip("plotly", reason="the extra `report` is not installed")
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "")
    return shutil.copytree(sound, tmp_path / "runs")


def reported(folder: Path) -> tuple[list[str], dict[str, dict]]:
    """The notes of a report, and its rows by the run's name; the page is one that a browser reads."""
    text = report.write([folder], folder)
    page = (folder / "report.html").read_text()
    data = page.partition('id="data">')[2].partition("</script>")[0]
    json.loads(data, parse_constant=lambda name: pytest.fail(f"a browser reads no {name}"))
    return [line for line in text.splitlines() if line.startswith("note: ")], {
        row["job"]: row for row in rows(folder, "leaderboard.csv")
    }


@pytest.mark.parametrize("variant", SUMMARIES)
def test_a_summary_that_lies_costs_its_run_alone(folder, variant):
    lay(folder / "1_b" / "summary.json", SUMMARIES[variant])
    (note,) = (notes := reported(folder))[0]
    assert f"{folder}/1_b/summary.json" in note and len(note) < 1000
    assert [row["rank"] for row in (notes[1]["2_c"], notes[1]["0_a"], notes[1]["1_b"])] == ["1", "2", "3"]
    assert notes[1]["1_b"]["status"] == "unreadable" and "summary.json" in notes[1]["1_b"]["error"]


@pytest.mark.parametrize("variant", HONEST)
def test_an_honest_summary_is_ranked(folder, variant):
    lay(folder / "1_b" / "summary.json", HONEST[variant])
    notes, ranked = reported(folder)
    assert not notes and (ranked["1_b"]["rank"], ranked["1_b"]["status"]) == ("3", "completed")


@pytest.mark.parametrize("variant", TABLES | ODD_TABLES)
def test_a_table_that_lies_draws_no_curve(folder, variant):
    lay(folder / "0_a" / "metrics.csv", (TABLES | ODD_TABLES)[variant])
    notes, ranked = reported(folder)
    assert [f"{folder}/0_a/metrics.csv" in note for note in notes] == [True] * (variant in TABLES)
    assert {ranked["0_a"]["status"], ranked["2_c"]["status"]} == {"completed"}


@pytest.mark.parametrize("variant", [*ANY_FILE, "nested deeper", "a wide bomb"])
@pytest.mark.parametrize("name", ["sweep.json", "1_b/.hydra/overrides.yaml", "2_c/best_and_worst.png", "2_c/.lock"])
def test_other_files_that_lie_break_no_ranking(folder, name, variant):
    lay(folder / name, SUMMARIES[variant])
    notes, ranked = reported(folder)
    assert len(notes) == (name != "2_c/.lock") and all(name in note for note in notes)
    assert (ranked["2_c"]["rank"], ranked["0_a"]["rank"]) == ("1", "2")


CONFIGS = ANY_FILE | {
    "aliases that grow": "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)),
    "merges that grow": "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 40)),
    "itself": "&a [*a]",
    "a tag": "model: !!python/object/apply:os.system [id]",
    "a tag that fits nothing": "model: !!bool x",
    "a key twice": "model: {}\nmodel: {}\n",
    "a date": "model: 2024-01-01",
    "a number to the base of 60": "model: 1" + ":00" * 300_000,
    "a number of 10,000 digits": "model: " + "1" * 10_000,
    "nested": nested(900),
    "nested deeper": nested(450_000),
    "many values": "[" + "1," * 30_000 + "]",
    "null bytes": "\0" * 100,
    "a list": "[]",
    "empty": "",
    "groups that are lists": "model: []\ndata: []\ntrainer: []\n",
    "numbers as keys": "1: 2",
}  # fmt: skip


@pytest.mark.parametrize("variant", CONFIGS)
@pytest.mark.parametrize("name", ["config.yaml", ".hydra/overrides.yaml"])
def test_a_yaml_that_lies_is_one_sentence(run, finished, name, variant):
    if name != "config.yaml":
        if variant == "a list":
            pytest.skip("no overrides at all are a list")
        (finished / "summary.json").unlink()
    lay(finished / name, CONFIGS[variant])
    told = run(f"resume={finished}", "trainer.epochs=3", code=1).stderr
    assert told.startswith("error: ") and "Traceback" not in told and len(told) < 1000
    assert name in told or "the recorded overrides" in told or "no run or sweep is there" in told


def test_the_newest_that_can_be_read_is_the_latest(run, sound, finished, tmp_path):
    everything = tmp_path / "outputs" / "multirun" / "day" / "time"
    for number, content in enumerate(SUMMARIES.values()):
        lay(everything / f"{number}_x" / "summary.json", content)
    lay(tmp_path / "outputs" / "multirun" / "day" / "lost" / "sweep.json", lambda file: file.symlink_to("nowhere"))
    lay(tmp_path / "outputs" / "train" / "lost" / "checkpoints" / "best.pt", lambda file: file.symlink_to("nowhere"))
    shutil.copytree(finished, everything / "99_good")
    assert find.checkpoint(str(everything), "").parent.parent.name == "99_good"
    assert find.checkpoint("latest", str(tmp_path / "outputs")).name == "best.pt"
    waiting = shutil.copytree(sound / "0_a", tmp_path / "outputs" / "train" / "day" / "waiting")
    write_json(waiting / "summary.json", GOOD | {"status": "interrupted"})
    assert find.unfinished("latest", str(tmp_path / "outputs")) == waiting
    done = run("mode=report", f"runs={tmp_path}/outputs")
    assert done.stdout.count("note: ") == 21 and f"{len(SUMMARIES) - 20 + 1} more files can't be read" in done.stdout


def test_what_acts_on_a_terminal_is_only_shown(run, folder, tmp_path):
    write_json(folder / "sweep.json", {"overrides": [], "hydra": [], "jobs": None})
    lies = GOOD | {"best": {"val/iou": 0.95, f"val/{ACTING}": 1}, "monitored": 0.95, "tags": [ACTING], "error": ACTING}
    lay(folder / f"1_{ACTING[:-2]}" / "summary.json", json.dumps(lies | {"overrides": [f"name={ACTING}", "=1+1"]}))
    done = run("mode=report", f"runs={folder}")
    (log,) = (tmp_path / "outputs" / "report").glob("*/*/run.log")
    shown = ACTING[:-2].encode("unicode_escape").decode()
    for text in (done.stdout, log.read_text(), (folder / "report.html").read_text()):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028]|^error: fake", text, re.MULTILINE)
        assert shown in text
    (row,) = [row for row in read_table(folder / "leaderboard.csv") if row["rank"] == "1"]
    assert row["error"] == ACTING.replace("\ud800", r"\ud800")  # no file in UTF-8 can hold it


def test_the_name_of_a_photograph_acts_on_no_terminal(run, trained_once, tmp_path):
    name = ACTING[:-2].replace("/", "")
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / f"{name}.png").write_bytes(b"no picture")
    done = run("mode=predict", f"ckpt={trained_once}", f"input={tmp_path}/people", f"output={tmp_path}/drawn", code=1)
    assert not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028]|^error: fake", done.stdout + done.stderr, re.MULTILINE
    )
    assert r"\x1b[2J" in done.stderr
