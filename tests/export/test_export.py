"""``mode=export`` and the backends: what runs elsewhere finds the same people."""

import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from conftest import ON_FILES, call_run_py, summary, write_people

from humanseg.compute import Compute
from humanseg.data.transforms import letterbox, unletterbox
from humanseg.export import writing
from humanseg.inference import engines, packages, runtimes
from humanseg.inference.convert import EndToEnd, OnSquares
from humanseg.predictor import Predictor

KINDS = [(format, whole) for format in ("onnx", "openvino") for whole in (False, True)]
SMALL = ["model.encoder_name=resnet18", "+model.encoder_depth=3", "+model.decoder_channels=[16,8,8]"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """A folder with `people`, `photo.png` and a small network, trained once in `run`."""
    folder = tmp_path_factory.mktemp("export")
    people = write_people(folder / "people", 12)
    (folder / "photo.png").write_bytes((people / "images" / "003.png").read_bytes())
    settings = [*ON_FILES, *SMALL, "data=folder", f"data.root={people}", "trainer.epochs=8", "optimizer.lr=0.05"]
    with pytest.MonkeyPatch.context() as patch:
        call_run_py(patch, f"hydra.run.dir={folder}/run", f"out={folder}/out", *settings)
    return folder


@pytest.fixture(scope="module")
def exported(suite):
    """Export once a kind; gives the folder that it lies in."""

    def call(format: str, end_to_end: bool):
        folder = suite / f"{format}_{end_to_end}"
        if not folder.exists():
            typed = [f"ckpt={suite}/run", f"format={format}", f"end_to_end={end_to_end}", f"hydra.run.dir={folder}"]
            with pytest.MonkeyPatch.context() as patch:
                call_run_py(patch, "mode=export", f"out={suite}/out", *typed)
        return folder

    return call


def photo(suite) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(suite / "photo.png")), cv2.COLOR_BGR2RGB)


def file_of(folder, format):
    return folder / f"model{writing.SUFFIXES[format]}"


@pytest.mark.parametrize(("format", "end_to_end"), KINDS)
def test_an_exported_file_finds_what_the_checkpoint_finds(suite, exported, format, end_to_end):
    folder = exported(format, end_to_end)
    told = summary(folder)
    assert told["status"] == "completed" and told["checked_on"] == "6 photographs of the validation split"
    assert abs(told["check"]["iou_exported"] - told["check"]["iou_checkpoint"]) <= 0.001
    image = photo(suite)
    expected = Predictor(suite / "run", "cpu", "fp32", "torch", closer=False)(image)
    found = Predictor(file_of(folder, format), "cpu", "fp32", exporting_runtime(format))(image)
    assert found.shape == expected.shape and np.abs(found - expected).max() < 1e-3


def exporting_runtime(format: str) -> str:
    return engines.READERS[writing.SUFFIXES[format]][0]


@pytest.mark.parametrize(("format", "end_to_end"), KINDS)
def test_the_example_beside_it_needs_nothing_of_this_project(suite, exported, format, end_to_end, tmp_path):
    folder, mask = exported(format, end_to_end), tmp_path / "mask.png"
    # -I: neither the working directory nor the environment brings the project in
    code = (
        "import runpy, sys; sys.modules['humanseg'] = sys.modules['torch'] = None; "
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    )
    command = [sys.executable, "-I", "-c", code, folder / "example.py", suite / "photo.png", mask]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = Predictor(suite / "run", "cpu", "fp32", "torch", refine=False, closer=False)(photo(suite)) > 0.5
    found = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) > 0
    assert found.shape == expected.shape and (found == expected).mean() > 0.97
    assert len((folder / "example.py").read_text().splitlines()) <= 22


def test_a_file_says_what_it_is(exported):
    for format, end_to_end in KINDS:
        if format == "onnx":
            import onnx

            model = onnx.load(file_of(exported(format, end_to_end), format))
            told = {item.key: json.loads(item.value) for item in model.metadata_props}
            dimensions = [side.dim_param or side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
            assert dimensions == (["batch", "height", "width", 3] if end_to_end else ["batch", 3, "height", "width"]), (
                dimensions
            )
        else:
            model = runtimes.openvino_core().read_model(file_of(exported(format, end_to_end), format))
            names = ("classes", "image_size", "metrics", "end_to_end", "source_run", "humanseg", "mean")
            told = {name: json.loads(model.get_rt_info(["humanseg", name]).value) for name in names}
        assert told["classes"] == ["background", "person"] and told["image_size"] == 32
        assert told["end_to_end"] is end_to_end and 0 <= told["metrics"]["val/iou"] <= 1
        assert told["source_run"].endswith("run") and told["mean"] == [0.485, 0.456, 0.406] and told["humanseg"]


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_file_takes_batches_of_any_size(exported, format):
    backend = exporting_runtime(format)
    rng = np.random.default_rng(0)
    run, *_ = engines.open_file(file_of(exported(format, True), format), backend, "cpu", "fp32")
    for shape in ((3, 50, 40, 3), (1, 20, 70, 3), (2, 32, 32, 3), (1, 1, 1, 3)):
        batch = rng.integers(0, 255, shape, dtype=np.uint8)
        (together,) = run(batch)
        assert together.shape == shape[:3]
        np.testing.assert_allclose(together[-1], run(batch[-1:])[0][0], atol=1e-5)
    run, *_ = engines.open_file(file_of(exported(format, False), format), backend, "cpu", "fp32")
    assert run(np.zeros((2, 3, 64, 96), np.float32))[0].shape == (2, 1, 64, 96)


@pytest.mark.parametrize("size", [(48, 40), (40, 133), (200, 31), (31, 20), (32, 32), (7, 64), (1, 1), (2, 90)])
def test_the_letterbox_in_a_file_is_the_suites_own(size):
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 2, 3, padding=1)
    end_to_end = EndToEnd(OnSquares(network, [0.5] * 3, [0.2] * 3), 32, 7, stages=True)
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    with torch.inference_mode():
        squares, logits, probability = end_to_end(torch.from_numpy(image)[None])
    expected, _ = letterbox(image, np.zeros(size, np.uint8), 32, 7)
    assert np.abs(squares[0].numpy() - expected).max() <= 1
    enlarged = unletterbox(logits[0], *size).softmax(0)[1]
    torch.testing.assert_close(probability[0], enlarged, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_fp16_takes_half_the_space(run, suite, exported, format, tmp_path):
    file = tmp_path / "small" / f"people{writing.SUFFIXES[format]}"
    done = run("mode=export", f"ckpt={suite}/run", f"format={format}", "precision=fp16", f"output={file}")
    assert f"next       python {tmp_path}/small/people_example.py photo.jpg mask.png\n           python" in done.stdout
    names = {"onnx": ["people.onnx"], "openvino": ["people.bin", "people.xml"]}[format]
    assert sorted(path.name for path in file.parent.iterdir()) == sorted([*names, "people_example.py"])
    full = sum(path.stat().st_size for path in exported(format, False).glob("model.*"))
    assert sum((file.parent / name).stat().st_size for name in names) < 0.7 * full
    found, expected = (
        Predictor(file, "cpu")(photo(suite)),
        Predictor(suite / "run", "cpu", "fp32", "torch", closer=False)(photo(suite)),
    )
    assert np.abs(found - expected).max() < 0.05


def test_where_openvino_is_installed_a_cpu_runs_it():
    assert engines.choose_backend("auto", torch.device("cpu"), "fp32") == "openvino"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_checkpoint_runs_on_every_backend(suite, backend):
    images = [photo(suite), photo(suite)[:20, ::2].copy()]
    sizes = backend == "openvino"  # for ONNX Runtime each size is an export of seconds
    in_torch, predictor = (Predictor(suite / "run", "cpu", "fp32", one, closer=sizes) for one in ("torch", backend))
    assert predictor.engine.backend == backend
    expected, larger = in_torch.probabilities(images), in_torch.squares(images, 2 * in_torch.size)
    if sizes:
        torch.testing.assert_close(predictor.on_squares(larger), in_torch.on_squares(larger), atol=1e-3, rtol=1e-3)
    for one, other in zip(predictor.probabilities(images), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_batches_that_run_side_by_side_get_their_own_answers(backend):
    torch.set_num_threads(2)  # conftest sets one again
    network, compute = torch.nn.Conv2d(3, 1, 3, padding=1), Compute(torch.device("cpu"), "fp32", False, [0.5], [0.2])
    alone, beside = (engines.of_network(network, compute, 32, backend, "fp32", each) for each in (False, True))
    assert (alone.streams, beside.streams) == (1, 2)
    squares = [torch.randint(0, 256, (1, side, side, 3), dtype=torch.uint8) for side in (32, 64) * 20]
    with ThreadPoolExecutor(4) as pool:
        torch.testing.assert_close(list(pool.map(beside, squares)), list(map(alone, squares)))


def test_openvino_harms_no_signals_and_calls_nobody(tmp_path):
    """Its plugin sets a stack for signals; of several plugins one put a freed one back, for the next handler.

    Its telemetry writes a number of its own into the home before it calls.
    """
    code = """if True:
        import gc, signal, subprocess, torch
        from humanseg.inference.engines import openvino_run
        from humanseg.inference.convert import to_openvino
        model = to_openvino(torch.nn.Conv2d(3, 1, 3), torch.zeros(2, 3, 8, 8))
        runs = [openvino_run(model, "fp32")[0] for _ in range(3)]
        while runs:
            runs.pop(0)
            gc.collect()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        memory = [bytearray(b"\\xff" * 11568) for _ in range(2000)]
        for _ in range(50):
            subprocess.run(["true"])
        assert all(one.count(255) == len(one) for one in memory)
    """
    at_home = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=at_home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_auto_takes_what_is_installed(monkeypatch):
    cpu = torch.device("cpu")
    assert engines.choose_backend("auto", cpu, "auto") == "openvino"
    assert engines.choose_backend("auto", torch.device("cuda"), "auto") == "torch"
    monkeypatch.setattr(engines, "installed", lambda package: package != "openvino")
    assert engines.choose_backend("auto", cpu, "fp32") == "onnxruntime"
    assert engines.choose_backend("auto", cpu, "bf16") == "torch"
    monkeypatch.setattr(engines, "installed", lambda package: False)
    assert engines.choose_backend("auto", cpu, "fp32") == "torch"


@pytest.mark.slow
def test_an_exported_file_is_scored(run, suite, exported):
    own = ["data=folder", f"data.test_root={suite}/people", "trainer.precision=fp32"]
    expected = summary(run("mode=test", f"ckpt={suite}/run", *own).scored)["metrics"]
    for format, end_to_end in KINDS[1:3]:
        done = run("mode=test", f"ckpt={file_of(exported(format, end_to_end), format)}", *own)
        assert f"runs in    {exporting_runtime(format)}, fp32" in done.stdout
        assert summary(done.scored)["metrics"]["test/iou"] == pytest.approx(expected["test/iou"], abs=1e-3)
    typed = run("mode=test", f"ckpt={suite}/run", "backend=openvino", *own)
    assert summary(typed.scored)["metrics"]["test/iou"] == pytest.approx(expected["test/iou"], abs=1e-3)


def test_where_the_photographs_are_gone_people_are_drawn(run, suite, tmp_path):
    done = run("mode=export", f"ckpt={suite}/run", "format=openvino", "data.root=nowhere")
    assert "nowhere/images does not exist: it is checked on drawn people" in done.stdout
    assert "checked    on 24 drawn people" in done.stdout


def conv(end_to_end: bool) -> writing.Recipe:
    """The least network there is."""
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 1, 3, padding=1)
    return writing.Recipe(network, "openvino", "fp32", end_to_end, 32, 0, [0.5] * 3, [0.2] * 3)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(monkeypatch, tmp_path):
    def full(*_):
        raise RuntimeError("basic_ios::clear: iostream error")  # as OpenVINO says it

    monkeypatch.setattr(writing, "write", full)
    with pytest.raises(ValueError, match=r"model.xml can't be written, perhaps because the disk is full"):
        writing.export(conv(False), {}, tmp_path / "model.xml", [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_of_several_outputs_a_file_has_the_first(format):
    class Two(torch.nn.Conv2d):
        def forward(self, image):
            return super().forward(image), super().forward(image).mean((2, 3))

    recipe = dataclasses.replace(conv(False), network=Two(3, 1, 3, padding=1), format=format)
    model, free = writing.convert(recipe)
    assert free and len(model.graph.output if format == "onnx" else model.outputs) == 1


@pytest.mark.slow
@pytest.mark.parametrize("end_to_end", [False, True])
def test_a_file_that_is_not_the_checkpoints_is_not_left_behind(monkeypatch, tmp_path, end_to_end):
    class Other(torch.nn.Module):
        def __init__(self, network, *_):
            super().__init__()
            self.network = network

        def forward(self, image):
            return self.network(image) + 4

    recipe, facts = conv(end_to_end), {"classes": ["background", "person"]}
    photographs = [(np.full((40, 30, 3), 100, np.uint8), np.ones((40, 30), np.uint8))]
    found = writing.export(recipe, facts, tmp_path / "good" / "model.xml", photographs)
    assert found["iou_exported"] == found["iou_checkpoint"] and found["free_size"]
    assert len(list((tmp_path / "good").iterdir())) == 2
    monkeypatch.setattr(writing.Recipe, "module", lambda recipe, stages=False: module(Other(recipe.network), stages))

    def module(network, stages):
        return EndToEnd(OnSquares(network, recipe.mean, recipe.std), 32, 0, stages) if end_to_end else network

    with pytest.raises(ValueError, match="the exported fp32 model is not the checkpoint's: IoU .* network"):
        writing.export(recipe, facts, tmp_path / "bad" / "model.xml", photographs)
    assert not list((tmp_path / "bad").iterdir())


@pytest.mark.parametrize("stage", ["preprocessing", "upsampling"])
def test_the_stage_that_differs_is_named(monkeypatch, stage):
    class Broken(EndToEnd):
        def _axis(self, pixel, longest):
            forth, inside, back = super()._axis(pixel, longest)
            return (
                forth * (0.9 if stage == "preprocessing" else 1),
                inside,
                back * (1.1 if stage == "upsampling" else 1),
            )

    monkeypatch.setattr(writing, "EndToEnd", Broken)
    image = np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8)
    assert f"the stage that differs: {stage} (" in writing.differing_stage(conv(end_to_end=True), image)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["format=tflite"], "format=tflite: give onnx, openvino"),
        (["precision=bf16"], "precision=bf16: give fp32, fp16"),
        (["output=people.pt"], "output=people.pt: format=onnx is written to a file that ends in .onnx"),
        (["ckpt=null"], "mode=export needs ckpt=PATH"),
        (["ckpt=model.onnx"], "ckpt=model.onnx is exported already: give a checkpoint"),
    ],
)
def test_what_an_export_needs(run, suite, monkeypatch, tmp_path, typed, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").touch()
    assert sentence in run("mode=export", f"ckpt={suite}/run", *typed, code=1).stderr


def test_a_package_that_is_not_installed_is_named_with_its_extra(run, suite, monkeypatch):
    monkeypatch.setattr(packages, "installed", lambda package: False)
    onnx = run("mode=export", f"ckpt={suite}/run", code=1)
    assert 'onnx is not installed: pip install -e ".[export]"' in onnx.stderr
    with pytest.raises(ValueError, match=r'openvino is not installed: pip install -e "\.\[openvino\]"'):
        Predictor(suite / "run", "cpu", backend="openvino")


@pytest.mark.slow
def test_what_a_backend_can_not_do_is_said(suite, exported, tmp_path):
    onnx_file, xml_file = (file_of(exported(format, True), format) for format in ("onnx", "openvino"))
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(onnx_file.read_bytes()[:5000])
    for arguments, sentence in (
        ((suite / "run", "cpu", "auto", "tvm"), "backend=tvm: give auto, torch, onnxruntime, openvino"),
        ((suite / "run", "cpu", "bf16", "onnxruntime"), "precision=bf16: onnxruntime computes in the model's own fp32"),
        ((onnx_file, "cpu", "auto", "torch"), "backend=torch can't run model.onnx: give onnxruntime or openvino"),
        ((xml_file, "cpu", "auto", "onnxruntime"), "backend=onnxruntime can't run model.xml: give openvino"),
        ((onnx_file, "cpu", "fp16", "onnxruntime"), "precision=fp16: onnxruntime computes in the model's own fp32"),
        ((damaged, "cpu", "auto", "onnxruntime"), "damaged.onnx can't be read: it is damaged, or no ONNX file"),
        ((tmp_path / "none.xml",), "none.xml: no such checkpoint"),
    ):
        with pytest.raises(ValueError) as error:
            Predictor(*arguments)
        assert sentence in str(error.value) and "\n" not in str(error.value)


def test_an_exported_file_brings_no_data(run, exported):
    sentence = "says nothing of its data: type it, as data=folder data.test_root=DIR"
    assert sentence in run("mode=test", f"ckpt={file_of(exported('onnx', True), 'onnx')}", code=1).stderr


def test_a_file_from_elsewhere_is_not_taken_for_ours(tmp_path):
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Relu", ["image"], ["logits"])
    values = [onnx.helper.make_tensor_value_info(name, 1, [1, 3, 8, 8]) for name in ("image", "logits")]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "strange", values[:1], values[1:]), ir_version=9)
    onnx.save(model, tmp_path / "strange.onnx")
    with pytest.raises(ValueError, match="was not written by mode=export: its metadata has no image_size"):
        Predictor(tmp_path / "strange.onnx")
