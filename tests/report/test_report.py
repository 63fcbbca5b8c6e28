"""The report: any runs in one ranking, whatever became of them, and a page that opens offline."""

import csv
import json
import re
import shutil
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import markupsafe
import numpy as np
import pytest
from conftest import TINY, the_sweep

from humanseg import report
from humanseg.report.board import read
from humanseg.report.charts import chart_data
from humanseg.report.searching import search_data
from humanseg.report.tables import for_terminal
from humanseg.runs.atomic import write_json, write_table

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
INJECTION = "<script>alert(1)</script>&\"'"


def write_run(folder: Path, value: float | None, *overrides: str, status: str = "completed", **facts) -> Path:
    """A run's folder as training leaves it: three epochs, the last one the best."""
    folder.mkdir(parents=True)
    summary = {"status": status, "mode": "train", "monitor": "val/iou", "monitor_mode": "max", "seconds": 75.0}
    summary |= {"overrides": list(overrides), "environment": {"commit": "0123456789abcdef"}}
    if value is not None:
        rows = [
            {"epoch": epoch, "train/loss": 0.5 / epoch, "val/loss": 0.6 / epoch, "val/iou": value - 0.1 * (3 - epoch)}
            for epoch in (1, 2, 3)
        ]
        write_table(folder / "metrics.csv", list(rows[0]), rows)
        summary |= {"best": rows[-1], "monitored": value, "speed": {"images_per_second": 123.4}}
    write_json(folder / "summary.json", summary | facts)
    return folder


def write_sweep(folder: Path, *jobs: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"status": "running", "overrides": ["loss=dice,bce"], "hydra": [], "jobs": list(jobs) or None}
    write_json(folder / "sweep.json", facts)
    return folder


def table(folder: Path, name: str = "leaderboard.csv") -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def statuses(folder: Path) -> dict[str, str]:
    report.write([folder], folder)
    return {row["job"]: row["status"] for row in table(folder)}


@pytest.fixture
def sweep(tmp_path) -> Path:
    """Two losses with two seeds each."""
    planned = [["data=folder", f"loss={loss}", f"seed={seed}"] for loss in ("dice", "bce") for seed in (0, 1)]
    folder = write_sweep(tmp_path / "sweep", *planned)
    for number, (overrides, value) in enumerate(zip(planned, (0.8, 0.84, 0.9, 0.7), strict=True)):
        write_run(folder / f"{number}_{overrides[1].replace('=', '-')}", value, *overrides, seed=number % 2)
    return folder


def test_runs_are_ranked_with_the_overrides_that_differ(sweep):
    text = report.write([sweep], sweep)
    rows = table(sweep)
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["val/iou"] for row in rows] == ["0.9", "0.84", "0.8", "0.7"]
    assert [row["loss"] for row in rows] == ["bce", "dice", "dice", "bce"] and "data" not in rows[0]
    assert rows[0] | {"job": "2_loss-bce", "epoch": "3", "seconds": "75.0", "images_per_second": "123.4"} == rows[0]
    assert list(rows[0])[-1] == "overrides" and rows[0]["overrides"] == "data=folder loss=bce seed=0"
    first = text.splitlines()[1]
    assert first.split() == [
        "1",
        "0.9000",
        "0.2000",
        "3",
        "1:15",
        "min",
        "123.4",
        "completed",
        "bce",
        "0",
        "2_loss-bce",
    ]
    assert f"table: {sweep / 'leaderboard.csv'}" in text and f"next:  python run.py mode=test ckpt={sweep}" in text


def test_the_smallest_is_best_where_the_monitor_says_so(tmp_path):
    for number, value in enumerate((0.5, 0.3, 0.4)):
        write_run(tmp_path / f"{number}", value, f"optimizer.lr={number}", monitor_mode="min")
    report.write([tmp_path], tmp_path)
    assert [row["val/iou"] for row in table(tmp_path)] == ["0.3", "0.4", "0.5"]


def test_signs_and_missing_keys_in_overrides(tmp_path):
    write_run(tmp_path / "a", 0.9, "+trainer.clip=1", "~augment", "out=x", "status=odd", "data.root='a (1)'")
    write_run(tmp_path / "b", 0.8, "out=y", "tags=[z]", tags=["z", 2])
    report.write([tmp_path], tmp_path)
    first, second = table(tmp_path)
    assert (first["trainer.clip"], first["augment"], first["override status"]) == ("1", "removed", "odd")
    assert first["data.root"] == "a (1)"
    assert (second["trainer.clip"], second["augment"], second["tags"], second["status"]) == ("", "", "z 2", "completed")
    assert "out" not in first


def test_runs_that_differ_by_their_seed_are_one_experiment(sweep):
    write_run(sweep / "4_x", 0.1, "data=folder", "loss=dice", "seed=2", status="interrupted", seed=2)
    text = report.write([sweep], sweep)
    first, second = table(sweep, "seeds.csv")
    assert (first["loss"], first["n"], second["loss"], second["n"]) == ("dice", "2", "bce", "2")
    assert float(first["val/iou mean"]) == pytest.approx(statistics.fmean([0.8, 0.84]))
    assert float(first["val/iou std"]) == pytest.approx(statistics.stdev([0.8, 0.84]))
    assert set(first["jobs"].split()) == {"0_loss-dice", "1_loss-dice"}
    assert "0.8200 ± 0.0283" in text and "seed" not in first


def test_the_folds_of_a_cross_validation_are_one_experiment(tmp_path):
    folds = write_sweep(tmp_path / "folds", ["data.fold=0"])
    for fold, value in enumerate((0.6, 0.7, 0.8)):
        write_run(folds / str(fold), value, "data.folds=3", f"data.fold={fold}", seed=0)
    text = report.write([folds], folds)
    assert "val/iou over folds  n" in text and "0.7000 ± 0.1000  3" in text
    (row,) = table(folds, "seeds.csv")
    assert row == row | {"n": "3", "val/iou std": str(statistics.stdev([0.6, 0.7, 0.8])), "jobs": "2 1 0"}
    assert "Over folds" in (folds / "report.html").read_text()
    for number, seed in enumerate((1, 2), 3):
        write_run(folds / str(number), 0.7, "data.folds=3", "data.fold=0", f"seed={seed}", seed=seed)
    assert "val/iou over seeds and folds" in report.write([folds], folds) and table(folds, "seeds.csv")[0]["n"] == "5"


def test_each_source_of_a_mix_has_a_column(tmp_path):
    """Also beside runs of one source, as earlier versions left them."""
    for number, (name, value) in enumerate((("mix", 0.5), ("mix", 0.75), ("mix", 0.625), ("one", 0.9))):
        best = {"epoch": 3, "val/loss": 0.1, "val/iou": value, "val/dice": 0.9}
        if name == "mix":
            best |= {"val/mean_iou": 0.4, "val/coco/iou": value - 0.25, "val/voc/iou": value, "test/coco/iou": 0.4}
            best |= {"val/coco/dice": 0.8}
        write_run(tmp_path / f"{number}", value, f"data={name}", f"seed={number}", best=best)
    text = report.write([tmp_path], tmp_path)
    by_source = ["val/iou", "val/mean_iou", "val/coco/iou", "val/voc/iou", "test/coco/iou"]
    rows = table(tmp_path)
    assert list(rows[0])[4:12] == [*by_source, "val/loss", "val/dice", "val/coco/dice"]
    assert [row["val/coco/iou"] for row in rows] == ["", "0.5", "0.375", "0.25"]
    mixed = table(tmp_path, "seeds.csv")[1]
    assert (mixed["val/coco/iou mean"], mixed["val/voc/iou std"]) == ("0.375", "0.125")
    assert "val/coco/iou" in text.splitlines()[0] and "0.3750 ± 0.1250" in text
    if (tmp_path / "report.html").exists():
        assert ">val/coco/iou<" in (tmp_path / "report.html").read_text()


def test_without_repetitions_there_is_no_table_over_seeds(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / name, 0.9, "loss=dice")  # the same run twice tells nothing about seeds
    assert "over seeds" not in report.write([tmp_path], tmp_path)
    assert not (tmp_path / "seeds.csv").exists()


def test_what_became_of_each_job(tmp_path):
    folder = write_sweep(tmp_path / "sweep", *[[f"seed={seed}"] for seed in range(7)])
    write_run(folder / "0_a", 0.5, "seed=0", status="failed", error="the loss is not finite")
    write_run(folder / "1_b", 0.6, "seed=1", status="running")
    write_run(folder / "2_c", 0.7, "seed=2", status="running")
    (folder / "3_d").mkdir()
    (folder / "3_d" / "summary.json").write_text('{"status": "comp')
    (folder / "4_e").mkdir()
    (folder / "4_e" / "summary.json").write_text("[]")
    (folder / "5_f" / ".hydra").mkdir(parents=True)
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(folder / "1_b" / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        found = statuses(folder)
        holder.communicate(b"\n")
    assert found == {
        "2_c": "killed",
        "1_b": "running",
        "0_a": "failed",
        "3_d": "unreadable",
        "4_e": "unreadable",
        "5_f": "waiting",
        "6": "waiting",
    }
    assert [row["seed"] for row in table(folder)] == ["2", "1", "0", "3", "4", "5", "6"]
    assert table(folder)[2]["error"] == "the loss is not finite"
    if (folder / "report.html").exists():
        assert "the loss is not finite" in (folder / "report.html").read_text()


def test_broken_files_of_a_sweep_break_no_report(tmp_path):
    write_run(tmp_path / "0_a", 0.5, "loss=dice")
    (tmp_path / "0_a" / "metrics.csv").write_bytes(b"epoch,val/iou\n1,\xff\n")
    (tmp_path / "sweep.json").write_text("{")
    (tmp_path / "1_b" / ".hydra").mkdir(parents=True)
    (tmp_path / "1_b" / ".hydra" / "overrides.yaml").write_text("- loss=bce\n")
    assert statuses(tmp_path) == {"0_a": "completed", "1_b": "unreadable"}
    assert [row["loss"] for row in table(tmp_path)] == ["dice", "bce"]


def test_runs_within_runs_and_runs_without_a_result_are_left_out(tmp_path):
    write_run(tmp_path / "train" / "a", 0.9, "loss=dice")
    write_run(tmp_path / "train" / "a" / "test", 0.8)
    write_run(tmp_path / "report" / "b", None, "mode=report", mode="report")
    assert statuses(tmp_path) == {"train/a": "completed"}


def test_other_monitors_come_after(tmp_path):
    for name, value in (("a", 0.5), ("b", 0.6)):
        write_run(tmp_path / name, value, f"loss={name}")
    write_run(tmp_path / "c", 0.99, "loss=c", monitor="val/dice")
    text = report.write([tmp_path], tmp_path)
    assert [row["job"] for row in table(tmp_path)] == ["b", "a", "c"]
    assert "ranked by val/iou; 1 monitored val/dice instead and come after" in text


def test_the_terminal_shows_the_best_of_many(tmp_path):
    for number in range(25):
        write_run(tmp_path / f"{number}", number / 100, f"optimizer.lr={number}")
    text = report.write([tmp_path], tmp_path)
    assert text.count("  completed ") == 20 and "5 more rows in leaderboard.csv" in text
    assert len(table(tmp_path)) == 25


def test_a_page_needs_its_extra(sweep, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert report.WITHOUT_PAGE in report.write([sweep], sweep).splitlines()
    assert (sweep / "leaderboard.csv").exists() and not (sweep / "report.html").exists()


def test_mode_report_writes_into_the_sweep(run, sweep, tmp_path):
    done = run("mode=report", f"runs={sweep}")
    assert "  completed " in done.stdout and f"table: {sweep / 'leaderboard.csv'}" in done.stdout
    (own,) = (tmp_path / "outputs" / "report").glob("*/*/summary.json")
    assert json.loads(own.read_text()) | {"mode": "report", "status": "completed"} == json.loads(own.read_text())


def test_mode_report_of_several_runs_writes_into_its_own_folder(run, sweep, tmp_path):
    other = write_run(tmp_path / "outputs" / "train" / "x", 0.95, "loss=focal")
    run("mode=report", f"runs=[{sweep},{other}]")
    (own,) = (tmp_path / "outputs" / "report").glob("*/*/leaderboard.csv")
    assert [row["job"] for row in table(own.parent)][:2] == ["outputs/train/x", "sweep/2_loss-bce"]
    assert not (sweep / "leaderboard.csv").exists()


def test_a_sweep_that_cannot_be_written_to_is_reported_elsewhere(run, sweep, tmp_path):
    (sweep / "leaderboard.csv").mkdir()  # no file can take its place
    done = run("mode=report", f"runs={sweep}")
    assert f"{sweep} can't be written to" in done.stdout
    assert len(list((tmp_path / "outputs" / "report").glob("*/*/leaderboard.csv"))) == 1


def test_latest_is_the_newest_sweep(run, tmp_path):
    sweep = write_sweep(tmp_path / "outputs" / "multirun" / "d" / "t", ["loss=dice"])
    assert f"table: {sweep / 'leaderboard.csv'}" in run("mode=report", "runs=latest").stdout
    assert [row["status"] for row in table(sweep)] == ["waiting"]


@pytest.mark.parametrize("typed", ["null", "nowhere", "latest", "[nowhere,conf]", "conf"])
def test_nothing_to_report_is_one_sentence(run, typed):
    done = run("mode=report", f"runs={typed}", code=1)
    assert "runs=" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_report_is_no_run_to_go_on_with(run, tmp_path):
    run("mode=report", "runs=nowhere", code=1)
    assert "is waiting to be continued" in run("resume=latest", code=1).stderr


def test_a_real_sweep_can_be_reported(run, tmp_path):
    run("-m", *TINY, "trainer.epochs=1", "seed=0,1")
    done = run("mode=report", "runs=latest")
    folder = the_sweep(tmp_path)
    assert len(table(folder)) == 2 and table(folder, "seeds.csv")[0]["n"] == "2"
    assert f"seeds: {folder / 'seeds.csv'}" in done.stdout


class Tags(HTMLParser):
    """All tags of a page with their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture
def page(sweep) -> Path:
    """A page with everything on it, and with names that try to become code."""
    pytest.importorskip("plotly", reason="the extra `report` is not installed")
    import cv2

    write_run(sweep / "4_<b>", 0.5, f"loss={INJECTION}", f"name={INJECTION}", status="failed", error=INJECTION, tags=[INJECTION])  # fmt: skip
    cv2.imwrite(str(sweep / "2_loss-bce" / "best_and_worst.png"), np.zeros((90, 2000, 3), np.uint8))
    report.write([sweep], sweep)
    return sweep / "report.html"


def test_the_page_loads_nothing_and_links_the_runs(page):
    tags = Tags(page.read_text()).found
    sources = [attributes[key] for _, attributes in tags for key in ("src", "href") if key in attributes]
    assert sources and not [source for source in sources if "//" in source.partition(";base64")[0]]
    assert "default-src 'none'" in tags[[tag for tag, _ in tags].index("meta") + 1][1]["content"]
    links = {attributes["href"] for tag, attributes in tags if tag == "a"}
    assert {"2_loss-bce/", "4_%3Cb%3E/", "2_loss-bce/best_and_worst.png"} <= links
    assert [source[:23] for source in sources if source.startswith("data:")] == ["data:image/jpeg;base64,"]


def test_what_a_user_typed_does_not_become_code(page):
    text = page.read_text()
    assert "<script>alert" not in text and str(markupsafe.escape(INJECTION)) in text
    nonce = re.search("script-src 'nonce-([^']+)'", text)[1]
    assert [attributes for tag, attributes in Tags(text).found if tag == "script"] == [
        {"type": "application/json", "id": "data"}, {"nonce": nonce}, {"nonce": nonce}
    ]  # fmt: skip
    assert not [name for _, attributes in Tags(text).found for name in attributes if name.startswith("on")]
    report.write([page.parent], page.parent)
    assert nonce not in page.read_text()  # nobody can know it beforehand


def test_each_row_has_the_command_that_repeats_it(page):
    commands = re.findall(r"<code>(python run\.py .*?)</code>", page.read_text())
    assert commands[:2] == ["python run.py -m loss=dice,bce", "python run.py data=folder loss=bce seed=0"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")
def test_a_browser_opens_the_page(page, tmp_path):
    clicked = page.with_name("clicked.html")
    nonce = re.search("nonce-([^']+)", page.read_text())[1]
    click = f"<script nonce={nonce}>document.querySelectorAll('th button')[2].click()</script></body>"  # val/iou, the smallest first
    clicked.write_text(page.read_text().replace("</body>", click))
    quiet = "disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"
    command = [CHROMIUM, "--headless=new", "--no-sandbox", *(f"--{flag}" for flag in quiet.split())]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--window-size=1400,2400"]
    picture = tmp_path / "page.png"
    done = subprocess.run([*command, "--enable-logging=stderr", "--dump-dom", f"--screenshot={picture}", clicked.as_uri()],
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    drawn = done.stdout
    assert "Uncaught" not in done.stderr and "Content Security Policy" not in done.stderr
    # val/iou, two losses; by loss and by seed: plotly draws three layers a chart
    assert len(re.findall(r'class="chart js-plotly-plot"', drawn)) == 5
    assert len(re.findall(r'class="main-svg"', drawn)) >= 5
    body = drawn.partition("<tbody>")[2].partition("</tbody>")[0]
    assert [int(place) for place in re.findall(r'<tr data-job="(\d+)"', body)] == [4, 3, 2, 1, 0]
    assert 'aria-sort="ascending"><button type="button">val/iou' in drawn
    assert picture.stat().st_size > 20_000


def test_a_search_shows_its_history_importance_and_front_on_the_scales_that_it_drew(tmp_path):
    space = {"optimizer.lr": {"low": 1e-3, "high": 1e-2, "step": None, "log": True, "whole": False}}
    space |= {"loss": {"choices": ["dice", "bce"]}}
    ways = {"val/iou": "max", "latency_ms": "min"}
    record = {"space": space, "constant": [], "objectives": ways, "trials": 8, "left": 0}
    write_json(write_sweep(tmp_path) / "sweep.json", {"overrides": [], "hydra": [], "jobs": None, "search": record})
    for number, rate in enumerate((0.002, 0.001, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008)):  # the first one is pruned
        facts = {"status": "completed" if number else "pruned", "model": {"latency_ms": 10.0 - number // 4}}
        typed = [f"optimizer.lr={rate}", f"loss={('dice', 'bce')[number % 2]}"]
        write_run(tmp_path / f"{number}_x", 0.5 + 10 * rate, *typed, **facts)
    board = read([tmp_path])
    assert board.metrics[0] == "latency_ms" and board.jobs[0]["values"]["latency_ms"] == 9
    assert for_terminal(board)[0].split()[:3] == ["rank", "val/iou", "latency_ms"]
    told = search_data(board, board.keys)
    assert told["history"]["x"] == [*range(8)] and told["history"]["pruned"] == [True, *[False] * 7]
    assert [best for _, best in told["history"]["best"]] == pytest.approx([0.51, 0.53, 0.54, 0.55, 0.56, 0.57, 0.58])
    assert [key for key, _ in told["importance"]] == ["optimizer.lr", "loss"] and told["objectives"] == [*ways]
    assert told["front"] == [0]  # the first in the ranking: nothing is better, and nothing quicker
    rates = [axis["name"] for axis in told["axes"]].index("optimizer.lr")
    assert [line[rates] for line in told["lines"]][:2] == pytest.approx([1 / 3, 0])  # 1, 2, 4, 8: logarithmic
    (chart,) = (one for one in chart_data(board)["parameters"] if one["key"] == "optimizer.lr")
    assert chart["scale"] == "log" and chart["pruned"].count(True) == 1
