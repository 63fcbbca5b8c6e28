"""An exported file that comes from a stranger: what it claims is held against what it is, and it ends in time."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humanseg import terminal
from humanseg.inference import engines, exported, known, stranger
from humanseg.predictor import Predictor

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402

FACTS = {
    "image_size": 32,
    "pad_value": 0,
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "classes": ["background", "person"],
    "precision": "fp32",
    "end_to_end": False,
}
AXES = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
MEAN = helper.make_node("ReduceMean", ["image", "axes"], ["logits"], keepdims=1)  # the mean of the three colours
FLOAT, BYTE, LONG = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64


def model(nodes=(MEAN,), weights=(AXES,), facts=FACTS, taken=("n", 3, "h", "w"), given=("n", 1, "h", "w"), **other):
    """An ONNX model that is what mode=export writes, but for what is changed."""
    inputs = [helper.make_tensor_value_info(other.get("name", "image"), other.get("taken_as", FLOAT), taken)]
    outputs = [helper.make_tensor_value_info("logits", other.get("given_as", FLOAT), given), *other.get("more", ())]
    graph = helper.make_graph(list(nodes), "graph", inputs, outputs, list(weights))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    for key, value in said(facts).items():
        made.metadata_props.add(key=key, value=value)
    return made


def said(facts: dict) -> dict[str, str]:
    """Facts as a file has them."""
    return {key: json.dumps(value) for key, value in facts.items()}


def written(path: Path, made: "onnx.ModelProto", own: bool = False) -> Path:
    path.write_bytes(made.SerializeToString())
    if own:  # then it runs in this process, which takes no second
        known.note(exported.read(path))
    return path


def chain(*nodes, **weights) -> dict:
    """The model with nodes between `mean`, the mean of the colours, and the output `logits`."""
    first = helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=1)
    return {"nodes": [first, *nodes], "weights": [AXES, *weights.values()]}


def scalar(name: str, kind: int, value) -> "onnx.TensorProto":
    return helper.make_tensor(name, kind, [], [value])


def loop(times: str, go: str) -> "onnx.NodeProto":
    """A node that repeats `mean` into `logits`."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [value("i", LONG, []), value("go", TensorProto.BOOL, []), value("x", FLOAT, None)],
        [value("goes", TensorProto.BOOL, []), value("y", FLOAT, None)],
    )
    return helper.make_node("Loop", [times, go, "mean"], ["logits"], body=body)


HUGE = scalar("huge", LONG, 2**62)
SECOND = helper.make_tensor_value_info("second", FLOAT, ["n", 1, "h", "w"])
LIES = {
    "another name": (model([helper.make_node("ReduceMean", ["x", "axes"], ["logits"], keepdims=1)], name="x"), "promises one input"),
    "another type": (model([helper.make_node("Cast", ["image"], ["logits"], to=FLOAT)], (), taken_as=BYTE, given=("n", 3, "h", "w")), "'image' uint8"),
    "no batch": (model(taken=(1, 3, "h", "w"), given=(1, 1, "h", "w")), "promises one input"),
    "four channels": (model(taken=("n", 4, "h", "w")), "promises one input"),
    "another size": (model(taken=("n", 3, 100_000, 100_000), given=("n", 1, 100_000, 100_000)), "100000x100000"),
    "another rank": (model(taken=("n", 3, "h"), given=("n", 1, "h")), "promises one input"),
    "two outputs": (model([MEAN, helper.make_node("Neg", ["logits"], ["second"])], more=[SECOND]), "has 2: 'logits'"),
    "a whole number": (model(**chain(helper.make_node("Cast", ["mean"], ["logits"], to=LONG)), given_as=LONG), "promises one output"),
    "end to end": (model(facts=FACTS | {"end_to_end": True}), "promises one input, 'image' uint8"),
    "more classes": (model(facts=FACTS | {"classes": ["a", "b", "c"]}), "promises one output, 'logits' float32 ?x3x32x32"),
    "no number": (model(**chain(helper.make_node("Log", ["mean"], ["logits"]))), "are not finite"),
    "a smaller result": (model(**chain(helper.make_node("MaxPool", ["mean"], ["logits"], kernel_shape=[2, 2]))), "and gives float32 (1, 1, 31, 31)"),
    "a batch of its own": (model(**chain(helper.make_node("Concat", ["mean", "mean"], ["logits"], axis=0))), "and gives float32 (2, 1, 32, 32)"),
    "what fails": (model(**chain(helper.make_node("Gather", ["mean", "five"], ["logits"], axis=1), five=helper.make_tensor("five", LONG, [1], [5]))), "fails on 1x3x32x32"),
    "an operator of its own": (model([helper.make_node("Evil", ["image"], ["logits"], domain="evil.so")]), "can't be read by onnxruntime"),
    "no metadata": (model(facts={}), "was not written by mode=export: its metadata has no image_size"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_model_is_held_against_its_metadata(tmp_path, lie):
    made, sentence = LIES[lie]
    with pytest.raises(ValueError) as error:
        Predictor(written(tmp_path / "model.onnx", made, own=True), "cpu", "fp32", "onnxruntime")(
            np.zeros((32, 32, 3), np.uint8)
        )
    assert sentence in str(error.value) and "model.onnx" in str(error.value) and "\n" not in str(error.value)


def test_what_mode_export_could_have_written_runs(tmp_path):
    for own in (True, False):
        predictor = Predictor(written(tmp_path / "model.onnx", model(), own), "cpu", "fp32", "onnxruntime", False)
        found = predictor(np.full((20, 40, 3), 255, np.uint8))
        np.testing.assert_allclose(found, 1 / (1 + np.exp(-1)), atol=1e-6)  # (1 - mean) / std


WRONG = {
    "image_size": ["64", 100, 2**40, True, None, [32], 32.5, -32],
    "pad_value": [-1, 256, "0", {}],
    "mean": [[0.5], [0.5] * 4, "abc", [1e999] * 3, [float("nan")] * 3, [10**400] * 3, [[0.5]] * 3, [None] * 3],
    "std": [[0] * 3, [-1] * 3, [1e-320, 1, float("nan")]],
    "classes": [[], ["person"], ["a", 1], ["a", "\x1b[2J"], ["a"] * 256, ["a", "b" * 5000]],
    "precision": ["fp64", ["fp32"], 32],
    "end_to_end": [0, 1, "false", None],
}


@pytest.mark.parametrize("name", WRONG)
def test_metadata_is_plain_and_bounded(name):
    for value in WRONG[name]:
        with pytest.raises(ValueError, match="^some.onnx has "):
            exported.facts_of(said(FACTS | {name: value}), Path("some.onnx"))
    for text in ("", "{", "[" * 5000, "9" * 5000, '"' + "a" * 20_000 + '"', "\x1b[2J", "${oc.env:HOME}"):
        with pytest.raises(ValueError, match="^some.onnx has [ -~]*$"):
            exported.facts_of(said(FACTS) | {name: text}, Path("some.onnx"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([*FACTS.values()]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
TEXTS = JSON.map(json.dumps) | st.text(max_size=40) | st.sampled_from([json.dumps(value) for value in FACTS.values()])


@settings(max_examples=int(os.environ.get("FUZZ", 200)), deadline=None, database=None)
@given(st.dictionaries(st.sampled_from([*FACTS]), TEXTS | JSON, max_size=7))
def test_any_metadata_is_refused_in_a_sentence_or_within_bounds(changes):
    try:
        facts = exported.facts_of(said(FACTS) | changes, Path("a.onnx"))
    except ValueError as error:
        assert str(error).startswith("a.onnx ") and terminal.visible(error) == str(error) and len(str(error)) < 500
    else:
        assert 32 <= facts["image_size"] <= 4096 and all(np.isfinite(facts["mean"] + facts["std"]))
        assert all(shape[0] is None for shape in exported.shapes(facts, exported.promised_input(facts).shape))


GOOD = model().SerializeToString()
FILES = {
    "empty": (b"", "is empty"),
    "truncated": (GOOD[:-40], "model.onnx"),
    "a half": (GOOD[: len(GOOD) // 2], "can't be read"),
    "a pickle": (pickle.dumps({"model": 1}), "can't be read"),
    "a text": (b"model: person\n" * 100, "can't be read"),
    "zeros": (bytes(5000), "can't be read"),
    "lengths that overflow": (b"\x3a" + b"\xff" * 9 + b"\x01", "can't be read"),
    "deep graphs": (b"\x3a\x7f" * 5000, "can't be read"),
}


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_one_sentence(tmp_path, file):
    content, sentence = FILES[file]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    how = exported.How("onnxruntime", False, "fp32", 1)
    with pytest.raises(ValueError, match="model.onnx") as error:
        stranger.refuse_external_data(exported.read(path)[0], path)
        exported.opened(path, exported.read(path), how)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_file_is_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    (tmp_path / "folder.xml").mkdir()
    with (tmp_path / "large.onnx").open("wb") as sparse:
        sparse.truncate(10 * 2**30)
    (tmp_path / "memory.onnx").symlink_to("/proc/self/environ")
    for name, sentence in (
        ("pipe.onnx", "no regular file"),
        ("zero.onnx", "no regular file"),
        ("folder.xml", "no regular file"),
        ("large.onnx", "has 10737 MB"),
        ("memory.onnx", "is empty"),
        ("none.onnx", "no such file"),
    ):
        with pytest.raises(ValueError, match=f"{name}.* {sentence}|{name}: {sentence}"):
            engines.open_file(tmp_path / name, "auto", "cpu", "fp32")


@pytest.mark.parametrize("kind", ["absolute", "upwards", "beside", "in a branch", "in an attribute"])
def test_weights_in_other_files_are_not_opened(tmp_path, kind):
    (tmp_path / "weights").write_bytes(bytes(40))
    tensor = TensorProto(name="far", data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(
        key="location", value={"absolute": "/etc/passwd", "upwards": "../../etc/passwd"}.get(kind, "weights")
    )
    inner = helper.make_graph(
        [helper.make_node("Identity", ["far"], ["out"])],
        "branch",
        [],
        [helper.make_tensor_value_info("out", FLOAT, [1])],
        [tensor],
    )
    if kind == "in a branch":
        made = model([MEAN, helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner)])
    elif kind == "in an attribute":
        made = model([MEAN, helper.make_node("Constant", [], ["c"], value=tensor)])
    else:
        made = model(weights=[AXES, tensor])
    path = written(tmp_path / "model.onnx", made)
    with pytest.raises(ValueError, match="has weights in other files"):
        stranger.refuse_external_data(exported.read(path)[0], path)
    if kind == "absolute":
        with pytest.raises(ValueError, match="has weights in other files"):
            Predictor(path, "cpu")


def test_what_never_ends_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(stranger, "SECONDS", 1)
    made = model(**chain(loop("huge", "go"), huge=HUGE, go=scalar("go", TensorProto.BOOL, True)))
    with pytest.raises(ValueError, match="model.onnx took more than 1 s and was stopped"):
        Predictor(written(tmp_path / "model.onnx", made), "cpu", "fp32", "onnxruntime")


def test_what_waits_for_a_bright_picture_to_never_end_is_stopped_then(tmp_path, monkeypatch):
    top = helper.make_node("ReduceMax", ["image"], ["top"], keepdims=0)
    greater = helper.make_node("Greater", ["top", "most"], ["go"])
    made = model(**chain(top, greater, loop("huge", "go"), huge=HUGE, most=scalar("most", FLOAT, 0.9)))
    predictor = Predictor(written(tmp_path / "model.onnx", made), "cpu", "fp32", "onnxruntime")
    assert predictor(np.zeros((32, 32, 3), np.uint8)).shape == (32, 32)
    monkeypatch.setattr(stranger, "SECONDS", 1)
    for _ in range(2):  # it stays stopped
        with pytest.raises(ValueError, match="model.onnx took more than 1 s and was stopped"):
            predictor(np.full((32, 32, 3), 255, np.uint8))


def test_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(stranger, "MEMORY", 2**30)
    fill = helper.make_node("ConstantOfShape", ["side"], ["many"], value=helper.make_tensor("v", FLOAT, [1], [1.0]))
    most = helper.make_node("ReduceMax", ["many"], ["most"], keepdims=0)
    side = helper.make_tensor("side", LONG, [2], [40_000, 40_000])
    made = model(**chain(fill, most, helper.make_node("Add", ["mean", "most"], ["logits"]), side=side))
    for backend in ("onnxruntime", "openvino"):
        with pytest.raises(ValueError, match="model.onnx (fails on|can't be|has ended)"):
            Predictor(written(tmp_path / "model.onnx", made), "cpu", "fp32", backend)


def test_a_plain_script_in_a_strangers_folder_predicts(tmp_path):
    """It has no `if __name__ == "__main__"`, and the folder holds modules that nobody means to import."""
    written(tmp_path / "model.onnx", model())
    for name in ("onnx.py", "json.py", "openvino.py"):
        (tmp_path / name).write_text("open('marker', 'w')")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "script.py").write_text(
        "import numpy as np\nfrom humanseg.predictor import Predictor\n"
        "print(Predictor('model.onnx', 'cpu', 'fp32')(np.zeros((20, 30, 3), np.uint8)).shape)\n"
    )
    done = subprocess.run([sys.executable, "scripts/script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "(20, 30)\n", done.stderr
    assert not (tmp_path / "marker").exists()


def test_the_process_ends_with_the_predictor(tmp_path):
    run = stranger.open_apart(written(tmp_path / "a.onnx", model()), exported.How("onnxruntime", False, "auto", 1)).run
    process = run.__self__._process
    assert process.poll() is None
    del run
    assert process.poll() is not None


def test_only_this_user_notes_a_file(tmp_path, own_state):
    content = exported.read(written(tmp_path / "model.onnx", model(facts=FACTS | {"epoch": 1})))
    assert not known.is_known(content)
    known.note(content)
    record = known.record()
    assert known.is_known(content) and record.is_relative_to(own_state) and record.stat().st_mode & 0o777 == 0o600
    assert not known.is_known((content[0] + b"\0",)) and not known.is_known((*content, b""))
    try:
        record.chmod(0o666)
        assert not known.is_known(content)
        record.chmod(0o600)
        record.rename(tmp_path / "elsewhere")
        record.symlink_to(tmp_path / "elsewhere")
        assert not known.is_known(content)
        with pytest.raises(OSError):
            known.note(content)
    finally:
        record.unlink()


XML = '<?xml version="1.0"?><!DOCTYPE net [{doctype}]><net name="{name}" version="11"><layers/><edges/></net>'
BOMB = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))


@pytest.mark.parametrize(
    ("xml", "weights", "sentence"),
    [
        (XML.format(doctype='<!ENTITY a0 "lol">' + BOMB, name="&a9;"), b"", "can't be read|was not written"),
        (XML.format(doctype='<!ENTITY a SYSTEM "file:///etc/passwd">', name="&a;"), b"", "can't be read|was not written"),
        ("<net" * 100_000, b"", "can't be read"),
        (XML.format(doctype="", name="x"), None, "model.bin: no such file; .*model.xml needs it"),
    ],
    ids=["a bomb", "an entity", "no end", "no weights"],
)  # fmt: skip
def test_an_xml_is_one_sentence(tmp_path, xml, weights, sentence):
    (tmp_path / "model.xml").write_text(xml)
    if weights is not None:
        (tmp_path / "model.bin").write_bytes(weights)
    with pytest.raises(ValueError, match=sentence) as error:
        Predictor(tmp_path / "model.xml", "cpu")
    assert "\n" not in str(error.value)


def test_an_onnx_file_that_is_named_xml_is_not_read(tmp_path):
    (tmp_path / "model.xml").write_bytes(GOOD)
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="model.xml is no OpenVINO model"):
        Predictor(tmp_path / "model.xml", "cpu")


def test_an_xmls_weights_are_no_link(tmp_path):
    (tmp_path / "model.xml").write_text("<net/>")
    (tmp_path / "model.bin").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="model.bin can't be read: it is a link"):
        Predictor(tmp_path / "model.xml", "cpu")


@pytest.mark.parametrize(
    "typed",
    [["mode=predict", "input=model.onnx"], pytest.param(["mode=test", "data=synthetic"], marks=pytest.mark.slow)],
    ids=lambda typed: typed[0],
)
def test_a_mode_tells_it_in_a_sentence(run, tmp_path, monkeypatch, typed):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "model.onnx", LIES["more classes"][0])
    told = run(*typed, "ckpt=model.onnx", code=1).stderr
    assert told.startswith("error: model.onnx: its metadata promises one output") and "Traceback" not in told
