"""The table of a paper, and how experiments differ: by seeds, by photographs, or unpaired."""

import math
import shutil
import statistics
import subprocess
from pathlib import Path

import pytest
from scipy import stats
from test_metrics import counted, some_logits
from test_report import table, write_run, write_sweep

from humanseg import report
from humanseg.compare import scores
from humanseg.report.board import read
from humanseg.report.paper import LATEX, MARKDOWN
from humanseg.runs.atomic import write_json, write_table

VALUES = {"dice": (0.80, 0.81, 0.85), "bce_dice": (0.84, 0.86, 0.88)}


@pytest.fixture
def sweep(tmp_path) -> Path:
    """Two losses with three seeds each, tested at their end."""
    planned = [[f"loss={loss}", f"seed={seed}"] for loss in VALUES for seed in range(3)]
    folder = write_sweep(tmp_path / "sweep", *planned)
    for number, overrides in enumerate(planned):
        value = VALUES[overrides[0][5:]][number % 3]
        best = {
            "epoch": 3,
            "val/iou": value,
            "test/iou": value - 0.1,
            "test/boundary_iou": value / 2,
            "val/loss": 1 - value,
        }
        write_run(folder / f"{number}_x", value, *overrides, seed=number % 3, best=best)
    return folder


def test_experiments_are_paired_by_their_seeds(sweep):
    text = report.write([sweep], sweep)
    gains = [a - b for a, b in zip(VALUES["dice"], VALUES["bce_dice"], strict=True)]
    ends = stats.t.interval(0.95, 2, statistics.fmean(gains), statistics.stdev(gains) / math.sqrt(3))
    assert f"{statistics.fmean(gains):+.4f} ({ends[0]:+.4f} to {ends[1]:+.4f}, by seeds)  dice" in text
    first, second = table(sweep, "seeds.csv")
    assert (first["difference"], second["paired by"]) == ("", "seeds")
    assert [float(second[name]) for name in ("low", "high")] == pytest.approx(ends)
    if (sweep / "report.html").exists():
        assert "by seeds" in (sweep / "report.html").read_text()


def test_seeds_that_only_one_experiment_has_are_not_paired(sweep):
    for number in (3, 4, 5):
        told = (sweep / f"{number}_x" / "summary.json").read_text()
        (sweep / f"{number}_x" / "summary.json").write_text(told.replace(f'"seed": {number - 3}', f'"seed": {number}'))
    gap = read([sweep]).groups[1]["gap"]
    welch = stats.ttest_ind(VALUES["dice"], VALUES["bce_dice"], equal_var=False).confidence_interval(0.95)
    assert (gap.by, gap.low, gap.high) == ("", pytest.approx(welch.low), pytest.approx(welch.high))


def test_what_a_machine_decides_is_no_experiment(tmp_path):
    for number, device in enumerate(("cuda:0", "cuda:1", "cpu")):
        planned = ["loss=dice", f"seed={number}", f"trainer.device={device}", "trainer.threads=2"]
        write_run(tmp_path / str(number), 0.8, *planned, seed=number)
    (group,) = read([tmp_path]).groups
    assert group["n"] == 3 and group["settings"] == {"loss": "dice"} and group["repeats"] == ["seeds"]
    for number in range(3):  # again, with more threads: no six seeds
        write_run(tmp_path / f"{number}_again", 0.7, "loss=dice", f"seed={number}", "trainer.threads=4", seed=number)
    assert sorted(group["n"] for group in read([tmp_path]).groups) == [1, 1, 1, 3]


def write_test(folder: Path, missed: int, *overrides: str, trained: list[str], seed: int = 0) -> Path:
    """A run of mode=test with its photographs; so many pixels of the first person are missed beside others."""
    told = []
    for number, (logits, mask) in enumerate(zip(*some_logits(1), strict=True)):
        told.append({"image": f"{number}.png"} | scores.facts(counted(logits[None], mask[None]), mask[None], True))
    told[0]["confusion/1/1"] -= missed
    told[0]["confusion/1/0"] += missed
    value = scores.of_rows(told, "x").value("iou")
    folder.mkdir()
    facts = {"status": "completed", "mode": "test", "monitor": "test/iou", "monitored": value, "seed": seed}
    facts |= {"overrides": ["mode=test", *overrides], "metrics": {"test/iou": value}, "trained": trained}
    write_json(folder / "summary.json", facts)
    write_table(folder / "per_image.csv", list(told[0]), told)
    return folder


def test_single_runs_are_paired_by_their_photographs(tmp_path):
    write_test(tmp_path / "a", 0, "ckpt=A", trained=["loss=dice"])
    write_test(tmp_path / "b", 20, "ckpt=B", trained=["loss=bce"])
    text = report.write(
        [tmp_path], tmp_path, {"metrics": ["test/iou"], "over": ["seed"], "baseline": [], "form": "csv"}
    )
    first, second = table(tmp_path, "table.csv")
    assert "loss,n,test/iou mean" in text and (first["loss"], second["loss"]) == ("dice", "bce")
    assert second["test/iou paired by"] == "photographs"
    assert float(second["test/iou difference"]) == pytest.approx(
        float(second["test/iou mean"]) - float(first["test/iou mean"])
    )


def test_tests_of_a_sweep_are_grouped_by_what_was_trained(tmp_path):
    for number, (loss, seed) in enumerate((("dice", 0), ("dice", 1), ("bce", 0), ("bce", 1))):
        write_test(
            tmp_path / str(number),
            3 * number,
            f"ckpt=R{number}",
            "seed=7",
            trained=[f"loss={loss}", f"seed={seed}"],
            seed=seed,
        )
    text = report.write([tmp_path], tmp_path)
    assert "test/iou over seeds" in text and "by seeds" in text
    assert [(row["loss"], row["n"]) for row in table(tmp_path, "seeds.csv")] == [("dice", "2"), ("bce", "2")]


def write_paper(run, sweep: Path, *options: str) -> str:
    run("mode=report", f"runs={sweep}", "metrics=[test/iou,test/boundary_iou]", "over=seed", *options)
    return next(sweep.glob("table.*")).read_text()


def test_a_markdown_table_has_its_baseline_first_and_the_best_in_bold(run, sweep):
    head, _, first, second, _, caption = write_paper(run, sweep, "baseline=loss:dice").splitlines()
    assert [cell.strip() for cell in head.split("|")[1:4]] == ["loss", "n", "test/iou"]
    assert [cell.strip() for cell in first.split("|")[1:5]] == ["dice", "3", "0.720 ± 0.026", ""]
    cells = [cell.strip() for cell in second.split("|")[1:5]]
    assert cells[:3] == ["bce\\_dice", "3", "**0.760 ± 0.020**"] and cells[3].startswith("+0.040 [")
    assert caption.endswith("with 95 % intervals, by seeds.")


def test_a_latex_table_shows_names_as_they_are(run, sweep):
    write_run(sweep / "6_x", 0.5, r"loss='\input{x}_%$'", "seed=0", seed=0, best={"epoch": 1, "test/iou": 0.4, "test/boundary_iou": 0.2})  # fmt: skip
    text = write_paper(run, sweep, "baseline=loss:dice", "format=latex")
    assert r"\begin{tabular}{lrrrrr}" in text and r"\textbf{\boldmath $0.760 \pm 0.020$}" in text
    assert r"bce\_dice & 3" in text and r"\textbackslash{}input\{x\}\_\%\$ & 1 & $0.400$" in text


TEXTS = [r"a\b_c^d~e#f%g&h$i{j}", "<>|[x]*", "--a---b", "``x?`'", "[1,2]", "*", "$x$"]


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex: Debian's texlive-latex-recommended")
def test_latex_sets_names_as_they_are(run, sweep, tmp_path):
    for number, text in enumerate(TEXTS):
        write_run(
            sweep / f"{6 + number}_x", 0.5, f"loss='{text}'", "seed=0", seed=0, best={"epoch": 1, "test/iou": 0.4}
        )
    run("mode=report", f"runs={sweep}", "metrics=[test/iou]", "over=seed", "format=latex")
    page = ["\\documentclass{article}", "\\usepackage{booktabs,cmap}", "\\begin{document}"]
    page += [(sweep / "table.tex").read_text(), "\\end{document}"]
    (tmp_path / "page.tex").write_text("\n".join(page))
    subprocess.run(["pdflatex", "-halt-on-error", "page.tex"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "page.pdf").stat().st_size > 5000


def test_names_have_no_signs_of_latex_and_markdown_left():
    assert LATEX.text("--a---b ?`|") == "-{}-a-{}-{}-b ?{}`$|$"
    assert MARKDOWN.text("$a$ x^2^ |") == r"\$a\$ x\^2\^ \|"


def test_less_loss_is_better(run, sweep):
    run("mode=report", f"runs={sweep}", "metrics=[val/loss]", "over=seed")
    lines = (sweep / "table.md").read_text().splitlines()
    assert "bce" in lines[2] and "**0.140 ± 0.020**" in lines[2]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("metrics=[test/iuo]", "metrics: no completed run has test/iuo, did you mean test/iou?"),
        ("over=sed", "over=sed: no run has such an override, did you mean seed?"),
        (
            "baseline=loss:focal",
            "baseline=loss:focal: 0 experiments are so; name one by KEY:VALUE of loss:bce_dice, loss:dice",
        ),
        ("baseline=dice", "baseline=dice: give KEY:VALUE of an experiment"),
        ("format=word", "format=word: give markdown, latex, csv, or null"),
    ],
)
def test_what_a_table_needs(run, sweep, typed, sentence):
    others = [] if "metrics" in typed else ["metrics=[test/iou]"]
    told = run("mode=report", f"runs={sweep}", typed, *others, code=1).stderr
    assert sentence in told and len(told.strip().splitlines()) == 1
