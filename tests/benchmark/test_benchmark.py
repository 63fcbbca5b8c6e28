"""mode=benchmark: every figure has a unit and is in the table and the JSON, and follows from what it says; no timings."""

import json
import math
import re
import time

import pytest
import torch
from conftest import TINY

from humanseg.benchmark import figures, memory, network
from humanseg.benchmark.figures import Figure
from humanseg.processes.hardware import give_memory_back

SMALL = [
    item for item in TINY if not item.startswith(("data.samples", "data.val_split", "trainer.steps", "trainer.epochs"))
]
QUICK = ["mode=benchmark", "people=10", "seconds=0.01", *SMALL, "data.val_split=4", "trainer.epochs=2"]


def found(folder) -> tuple[dict[tuple[str, str], dict], dict]:
    written = json.loads((folder / "benchmark.json").read_text())
    return {(one["part"], one["name"]): one for one in written["figures"]}, written


@pytest.mark.parametrize("parts", ["model,ceiling", "data,training"])
def test_each_figure_is_finite_has_a_unit_and_is_in_the_table(run, parts, monkeypatch):
    monkeypatch.setattr("humanseg.benchmark.bench.cores", lambda: 1)  # fewer numbers of workers
    monkeypatch.setattr("humanseg.benchmark.bench.recipes", lambda: ["none", "portrait"])  # and of recipes
    monkeypatch.setattr(
        "humanseg.inference.engines.is_there", lambda backend: backend == "openvino"
    )  # ONNX takes ten seconds
    done = run(*QUICK, f"parts=[{parts}]")
    by_name, written = found(done.folder)
    assert len(by_name) == len(written["figures"]) and {part for part, _ in by_name} == set(parts.split(","))
    for (part, name), one in by_name.items():
        assert one["unit"] and math.isfinite(one["value"]) and all(map(math.isfinite, one["rounds"])), name
        (line,) = [line for line in done.stdout.splitlines() if re.match(rf"{part} +{re.escape(name)}  ", line)]
        assert line.endswith(f"  {one['unit']}") and figures.shown(one["value"]) in line
        if one["of"]:
            top, bottom = (by_name[part, other]["value"] for other in one["of"])
            assert one["value"] == pytest.approx(top / bottom)
    for recipe in ("none", "portrait") if "data" in parts else ():
        assert {("data", f"{recipe}, plain, {count} workers") for count in (0, 1)} < by_name.keys()
        assert [name for _, name in by_name if re.fullmatch(rf"{recipe}, .+ / plain, per core", name)]
    stated = {
        "device",
        "threads",
        "precision",
        "channels_last",
        "image_size",
        "batch_size",
        "versions",
        "date",
        "recipe",
    }
    assert stated < written["measured"].keys()


def test_photographs_of_ones_own_a_checkpoint_and_the_templates_row(run, tiny_once, people, monkeypatch):
    monkeypatch.setattr("humanseg.inference.engines.is_there", lambda backend: False)
    own = [f"ckpt={tiny_once}", "data=folder", f"data.root={people}"]
    done = run("mode=benchmark", "seconds=0.01", "parts=[model]", *own)
    by_name, written = found(done.folder)
    assert not (done.folder / "people").exists() and written["measured"]["image_size"] == 32
    assert written["row"].keys() == {"Model", "Parameters", "FLOPs", "CPU time", "GPU time", "mIoU"}
    assert written["row"]["Parameters"] == "2.65M" and written["row"]["GPU time"] == "-"
    assert written["row"]["mIoU"] == f"{100 * by_name['model', network.MIOU]['value']:.2f}%"
    assert "| Model | Parameters | FLOPs | CPU time | GPU time | mIoU |\n" in done.stdout
    assert "| " + " | ".join(written["row"].values()) + " |" in done.stdout


@pytest.mark.slow
def test_several_processes_are_measured_beside_one(run):
    done = run(*QUICK, "parts=[scaling]", "trainer.devices=2", "optimizer.lr=1e-6")  # two faces a process learn nothing
    by_name, _ = found(done.folder)
    names = ["1 process", "2 processes", "2 processes / 1 process"]
    assert [name for _, name in by_name] == names and all(len(one["rounds"]) == 3 for one in by_name.values())


@pytest.mark.slow
def test_the_start_is_measured_in_processes_of_their_own(run):
    by_name, _ = found(run(*QUICK, "people=16", "parts=[start]").folder)
    bare, ours = by_name["start", "--cfg job of a bare Hydra app"], by_name["start", "--cfg job"]
    assert bare["value"] > 0 and ours["value"] > 0
    assert len(by_name["start", "a sweep's job beyond its training"]["rounds"]) == 3
    assert by_name["start", "to the end of the first step, saved"]["value"] > ours["value"]


def test_the_step_is_measured_with_and_without_the_compiler_and_traced_as_json(run, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: None)  # which takes minutes
    done = run(*QUICK, "parts=[ceiling]", "trainer.compile=true", "trace=true")
    (gain,) = [one for one in found(done.folder)[0].values() if one["of"]]
    assert gain["of"][0] == "step, compiled"
    events = json.loads((done.folder / "trace.json").read_text())["traceEvents"]
    assert any("convolution" in event.get("name", "") for event in events)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("parts=[modle]", "give a list of model, ceiling"),
        ("seconds=0", "seconds=0: give a number above 0"),
        ("parts=[scaling]", "give trainer.devices=N"),
    ],
)
def test_wrong_options_are_refused(run, typed, sentence):
    assert sentence in run("mode=benchmark", typed, "people=8", "data.batch_size=4", code=1).stderr


def test_peers_take_turns():
    order = []
    figures.in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b", "a", "b"]


def test_a_figure_is_the_median_and_a_ratio_that_of_its_parts():
    top, bottom = figures.figure("x", "top", "s", [1.0, 5.0, 3.0]), figures.figure("x", "bottom", "s", [1.0, 2.0, 2.0])
    assert top.value == 3 and figures.ratio("r", top, bottom) == Figure(
        "x", "r", "x", 1.5, (1, 2.5, 1.5), ("top", "bottom")
    )


def test_percentiles():
    assert figures.percentile([1.0, 2.0, 3.0], 50) == 2 and figures.percentile(list(range(101)), 95) == 95


def test_the_best_batch_is_the_one_with_the_most_images_a_second(monkeypatch):
    seconds = {1: 1.0, 2: 1.0, 4: 1.5, 8: 8.0, 16: 99.0, 32: 99.0}
    tried = []
    monkeypatch.setattr(network, "durations", lambda call, device, given: [seconds[tried[-1]]])
    assert network.best_batch(tried.append, torch.device("cpu"), 60) == 4 and tried == [1, 2, 4, 8, 16, 32]


@pytest.mark.skipif(not memory.resident(), reason="there is no /proc here")
def test_peak_memory_counts_what_was_there_and_is_gone():
    give_memory_back()  # or the block would take what an earlier run in this process has kept
    before, end = memory.resident(), time.monotonic() + 30
    with memory.watched(torch.device("cpu")) as peaks:
        block = torch.ones(2**26)
        while peaks.get("host", 0) < before + 2**27 and time.monotonic() < end:
            time.sleep(0.01)
        del block
    assert before + 2**27 < peaks["host"] < before + 2**31


def test_less_than_one_batch_is_refused(run):
    told = run(*QUICK, "parts=[data]", "data.batch_size=16", code=1).stderr
    assert "6 training samples don't fill one batch: data.batch_size=16" in told and "Traceback" not in told
