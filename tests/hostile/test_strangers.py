"""What comes from a stranger, a checkpoint or a run's folder, runs nothing, writes nowhere else and is told in a sentence."""

import copy
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import ON_FILES, call_run_py, summary, write_people
from PIL import Image

from humanseg import checkpoint
from humanseg.data.pictures import read_image
from humanseg.predictor import Predictor
from humanseg.runs import locks
from humanseg.runs.atomic import write_json


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    """A folder with a run's folder `run` and its photographs `people`; tests copy what they change."""
    root = tmp_path_factory.mktemp("honest")
    people = write_people(root / "people", 12)
    with pytest.MonkeyPatch.context() as patch:
        call_run_py(patch, *ON_FILES, "data=folder", f"data.root={people}", f"hydra.run.dir={root}/run", f"out={root}")
    return root


@pytest.fixture
def folder(honest, tmp_path) -> Path:
    """A copy of the run, as one that a kill has left."""
    shutil.copytree(honest / "run", tmp_path / "run")
    write_json(tmp_path / "run" / "summary.json", summary(tmp_path / "run") | {"status": "running"})
    return tmp_path / "run"


def changed(folder: Path, change) -> Path:
    """The run's checkpoints with a change to what they hold; returns one of them."""
    for name in ("last.pt", "best.pt"):
        path = folder / "checkpoints" / name
        payload = torch.load(path, weights_only=True)
        change(payload)
        torch.save(payload, path)
    (folder / "checkpoints" / "previous.pt").unlink(missing_ok=True)
    return folder / "checkpoints" / "best.pt"


def content(folder: Path) -> dict[Path, bytes]:
    return {
        file: file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name not in (".lock", "run.log")
    }


MARKER = "{marker}"
CONFIGS = {
    "an interpolation": ("model.encoder_name", "${oc.env:HOME}", "interpolation"),
    "a resolver that creates": ("model.classes", "${oc.create:1}", "interpolation"),
    "another class": ("model._target_", "os.mkdir", "model._target_=os.mkdir"),
    "a nested node": ("model.decoder_channels", {"_target_": "os.mkdir", "path": MARKER}, "os.mkdir"),
    "a node in a list": ("model.decoder_channels", [{"_target_": "os.mkdir", "path": MARKER}], "os.mkdir"),
    "positional arguments": ("model._args_", [1], "model._args_"),
    "a partial": ("model._partial_", True, "model._partial_"),
    "an argument that no YAML has": ("model.aux_params", {"classes": 1}, "model.aux_params"),
    "a metric": ("metrics", ["iou", "os.getcwd"], "os.getcwd"),
    "an encoder of a hub": ("model.encoder_name", "tu-hf-hub:a/b", "no encoder"),
    "an encoder from a folder": ("model.encoder_name", "tu-local-dir:/etc", "no encoder"),
    "a wide decoder": ("model.decoder_channels", [10**6] * 5, "model.decoder_channels"),
    "many classes": ("model.classes", 10**9, "model.classes"),
    "a large square": ("data.image_size", 2**20, "data.image_size"),
    "deep nesting": ("model.decoder_channels", json.loads("[" * 40 + "]" * 40), "nested"),
    "a long text": ("model.encoder_name", "x" * 100_000, "characters"),
}


def put(config: dict, key: str, value) -> None:
    *path, last = key.split(".")
    for name in path:
        config = config[name]
    config[last] = value


@pytest.mark.parametrize("reader", ["Predictor", "predict", "test", "export", "resume"])
@pytest.mark.parametrize("attack", CONFIGS)
def test_a_checkpoints_config_chooses_no_code(run, folder, honest, tmp_path, attack, reader):
    key, value, sentence = CONFIGS[attack]
    value = json.loads(json.dumps(value).replace(MARKER, str(tmp_path / "marker")))
    path = changed(folder, lambda payload: put(payload["config"], key, value))
    if reader == "Predictor":
        with pytest.raises(ValueError, match=sentence.replace("$", r"\$")):
            Predictor(path)
    else:
        arguments = {
            "predict": ["mode=predict", f"ckpt={path}", f"input={honest}/people/images", f"output={tmp_path}/drawn"],
            "test": ["mode=test", f"ckpt={path}"],
            "export": ["mode=export", f"ckpt={path}"],
            "resume": [f"resume={folder}", "trainer.epochs=3"],
        }[reader]
        told = run(*arguments, code=1).stderr
        assert sentence in told and "Traceback" not in told, told
    assert not (tmp_path / "marker").exists() and not (tmp_path / "drawn").exists()


@pytest.mark.parametrize(
    "choices",
    [{"--config-dir=/tmp": "x"}, {"model": "/etc/passwd"}, {"model": "../evil"}, {"model": "a b"}, {"model@x/y": "unet_mbv2"},
     {"model": ["unet_mbv2"]}, ["model"]],
    ids=str,
)  # fmt: skip
def test_a_checkpoints_choices_become_no_arguments(run, folder, choices):
    path = changed(folder, lambda payload: payload.update(choices=choices))
    for mode in ("test", "predict"):
        told = run(
            f"mode={mode}", f"ckpt={path}", "input=x.png"[: 11 * (mode == "predict")] or "worst=1", code=1
        ).stderr
        assert "are no names of conf/" in told and "Traceback" not in told


OVERRIDES = [
    "hydra.job.env_set.LD_PRELOAD=/tmp/x.so",
    "--experimental-rerun=/tmp/x.pickle",
    "--config-dir=/tmp",
    "hydra.searchpath=[file:///tmp]",
    "+hydra.callbacks.x={_target_:os.mkdir,path:MARKER}",
    "hydra.job_logging.handlers.file.filename=MARKER",
    "hydra.sweeper._target_=os.mkdir",
    "+callbacks.x={_target_:os.mkdir,_partial_:false,path:MARKER}",
    "+callbacks.x._target_=os.mkdir",
    "model._target_=os.mkdir",
    "metrics=[iou,os.getcwd]",
    "model=/tmp/evil",
    "model=../evil",
    "model@x/y=unet_mbv2",
    "+seed2=${oc.env:HOME}",
    "name='${oc.env:HOME}'",
    "hydra/launcher=/tmp/evil",
    "hydra/sweeper=other",
    "hydra.launcher.setup=['touch MARKER']",
    "hydra.launcher.additional_parameters={wrap:'touch MARKER'}",
    "hydra.launcher.partition='a; touch MARKER'",
]


@pytest.mark.parametrize("kind", ["run", "bare", "sweep"])
@pytest.mark.parametrize("override", OVERRIDES)
def test_recorded_overrides_are_no_language(run, folder, tmp_path, override, kind):
    override = override.replace("MARKER", str(tmp_path / "marker"))
    if kind == "run":
        told = summary(folder)
        write_json(folder / "summary.json", told | {"overrides": [*told["overrides"], override]})
    else:
        folder = tmp_path / kind
        folder.mkdir()
        if kind == "bare":
            write_json(folder / "summary.json", {"overrides": [override], "status": "running"})
        else:
            jobs = {"jobs": [["seed=0"]], "overrides": ["seed=0", override], "hydra": [], "status": "running"}
            write_json(folder / "sweep.json", jobs)
    before = content(folder)
    told = run(f"resume={folder}", code=1).stderr
    assert "recorded overrides" in told and "Traceback" not in told, told
    assert content(folder) == before and not (tmp_path / "marker").exists()


def test_a_name_in_the_runs_own_records_types_nothing(run, folder):
    changed(folder, lambda payload: put(payload["config"], "loss._target_", "os.mkdir"))
    told = summary(folder)
    write_json(folder / "summary.json", told | {"overrides": [*told["overrides"], "name=os.mkdir"]})
    assert "loss._target_=os.mkdir" in run(f"resume={folder}", code=1).stderr
    assert (
        "loss._target_=os.mkdir" in run(f"resume={folder}", "name=os.mkdir", code=1).stderr
    )  # nor does a path typed now


@pytest.mark.parametrize(
    "name",
    [".lock", "summary.json", "run.log", "metrics.csv", "config.yaml", "checkpoints/last.pt", ".hydra/overrides.yaml"],
)
def test_a_link_in_a_runs_folder_leads_nowhere(run, folder, tmp_path, name):
    victim = tmp_path / "victim"
    path = folder / name
    victim.write_bytes(path.read_bytes() or b"precious")
    before = victim.read_bytes()
    path.unlink()
    path.symlink_to(victim)
    assert f"{path} is a link" in run(f"resume={folder}", code=1).stderr
    assert victim.read_bytes() == before


def test_taking_a_lock_truncates_and_follows_nothing(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        locks.take(tmp_path / "link")
    with locks.take(tmp_path / "victim"):
        assert (tmp_path / "victim").read_text() == "precious"


def test_a_name_that_can_be_guessed_is_not_written_to(tmp_path):
    (tmp_path / "victim").write_text("precious")
    for name in ("a.json.part", ".a.json.part"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    (tmp_path / "a.json").symlink_to(tmp_path / "victim")
    write_json(tmp_path / "a.json", {"x": 1})
    assert (tmp_path / "victim").read_text() == "precious" and json.loads((tmp_path / "a.json").read_text()) == {"x": 1}


def test_postscript_that_is_named_a_photograph_starts_no_program(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    started = []
    monkeypatch.setattr("subprocess.check_call", lambda *arguments, **options: started.append(arguments))
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **options: started.append(arguments))
    with pytest.raises(ValueError, match="a.jpg can't be read"):
        read_image(tmp_path / "a.jpg")
    assert not started


def test_a_checkpoint_that_grows_when_it_is_opened_is_refused(folder):
    path, packed = folder / "checkpoints" / "best.pt", folder / "packed.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    with pytest.raises(ValueError, match="compressed data"):
        checkpoint.load(packed)


def test_weights_of_another_shape_are_refused_before_the_network_takes_memory(folder, monkeypatch):
    def wider(payload: dict) -> None:
        payload["config"]["model"]["decoder_channels"] = [1024] * 5

    made, real = [], torch.nn.init.kaiming_uniform_

    def noted(tensor: torch.Tensor, *arguments, **options) -> torch.Tensor:
        made.append(tensor.device.type)
        return real(tensor, *arguments, **options)

    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", noted)
    with pytest.raises(ValueError, match="does not fit"):
        Predictor(changed(folder, wider))
    assert set(made) == {"meta"}


def test_an_honest_run_is_not_refused(run, folder, honest):
    kept = copy.deepcopy(summary(folder)["overrides"])
    run(f"resume={folder}", "trainer.epochs=3")
    assert summary(folder)["status"] == "completed" and summary(folder)["overrides"][: len(kept) - 1] != []
    assert "result" in run("mode=test", f"ckpt={folder}").stdout
