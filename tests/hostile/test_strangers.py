"""What comes from a stranger, a checkpoint or a run's folder, runs nothing, writes nowhere else and is told in a sentence."""

import copy
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import ON_FILES, call_run_py, summary, write_people
from hydra import compose, initialize_config_dir
from PIL import Image

from humanseg import checkpoint
from humanseg.cli.recorded_overrides import usable
from humanseg.data.pictures import read_image
from humanseg.predictor import Predictor
from humanseg.runs import conf, locks
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
    "an argument that no YAML has": ("model.activation", "sigmoid", "model.activation"),
    "a metric": ("metrics", ["iou", "os.getcwd"], "os.getcwd"),
    "an encoder of a hub": ("model.encoder_name", "tu-hf-hub:a/b", "the name of an encoder"),
    "an encoder from a folder": ("model.encoder_name", "tu-local-dir:/etc", "the name of an encoder"),
    "a wide decoder": ("model.decoder_channels", [10**6] * 5, "model.decoder_channels"),
    "many classes of a second output": ("model.aux_params", {"classes": 10**9}, "model.aux_params.classes"),
    "many classes": ("model.classes", 10**9, "model.classes"),
    "a large square": ("data.image_size", 2**20, "data.image_size"),
    "deep nesting": ("model.decoder_channels", json.loads("[" * 40 + "]" * 40), "nested"),
    "a wide upsampling": ("model.upsampling", 1024, "model.upsampling"),
    "a name that is a list": ("model._target_", ["os.mkdir"], "model._target_"),
    "a node in data": ("data.samples", {"_target_": "os.mkdir", "path": MARKER}, "data.samples"),
    "a long text": ("model.encoder_name", "x" * 100_000, "characters"),
}


def put(config: dict, key: str, value) -> None:
    *path, last = key.split(".")
    for name in path:
        config = config[name]
    config[last] = value


@pytest.mark.parametrize("attack", CONFIGS)
def test_a_checkpoints_config_chooses_no_code(run, folder, honest, tmp_path, attack):
    key, value, sentence = CONFIGS[attack]
    value = json.loads(json.dumps(value).replace(MARKER, str(tmp_path / "marker")))
    path = changed(folder, lambda payload: put(payload["config"], key, value))
    readers = [
        ["mode=test", f"ckpt={path}"],
        ["mode=export", f"ckpt={path}"],
        ["mode=benchmark", f"ckpt={path}", "parts=[ceiling]", "seconds=0.01"],
        [f"resume={folder}", "trainer.epochs=3"],
    ]
    if not key.startswith("data.samples"):  # these two build nothing of the data
        readers += [["mode=predict", f"ckpt={path}", f"input={honest}/people/images", f"output={tmp_path}/drawn"]]
        with pytest.raises(ValueError, match=re.escape(sentence)):
            Predictor(path)
    for typed in readers:
        told = run(*typed, code=1).stderr
        assert sentence in told and "Traceback" not in told, (typed, told)
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
    "hydra/sweeper=../other",
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
            told = {"jobs": [["seed=0"]], "overrides": ["seed=0"], "hydra": [], "status": "running"}
            (told["hydra"] if override.startswith("hydra") else told["jobs"][0]).append(override)
            write_json(folder / "sweep.json", told)
    before = content(folder)
    told = run(f"resume={folder}", code=1).stderr
    assert "recorded overrides" in told and "Traceback" not in told, told
    assert content(folder) == before and not (tmp_path / "marker").exists()


def node(tmp_path: Path) -> dict:
    return {"_target_": "os.mkdir", "path": str(tmp_path / "marker")}


@pytest.mark.parametrize(
    ("typed", "change"),
    [
        ("trainer.epochs=3", lambda p, t: put(p["config"], "augment", {"_target_": "albumentations.Compose", "transforms": (node(t),)})),
        ("data.limit=6", lambda p, t: (p["choices"].update({"data.limit": "x"}), put(p["config"], "data.limit", node(t)))),
        ("~augment", lambda p, t: put(p["config"], "augment", node(t))),
        ("scheduler.curve.peak=0.4", lambda p, t: p["config"]["scheduler"].update({"curve.peak": node(t)})),
        ("trainer.epochs=3", lambda p, t: p.update(history=[p["history"]] * 3)),
        ("trainer.epochs=3", lambda p, t: p.update(epoch=node(t))),
    ],
    ids=["a tuple", "a choice that is a key", "a group that is taken away", "a key with a dot", "a history", "an epoch"],
)  # fmt: skip
def test_what_is_typed_beside_it_hides_nothing(run, folder, tmp_path, typed, change):
    changed(folder, lambda payload: change(payload, tmp_path))
    told = summary(folder)
    write_json(folder / "summary.json", told | {"choices": {}})
    run(f"resume={folder}", typed, code=1)
    assert not (tmp_path / "marker").exists()


def test_a_recorded_command_writes_nowhere_else(run, folder, honest, tmp_path):
    (tmp_path / "victim.png").write_text("precious")
    predict = ["mode=predict", f"ckpt={honest}/run", f"input={honest}/people/images/000.png", "overwrite=true"]
    write_json(folder / "summary.json", {"overrides": [*predict, f"output={tmp_path}/victim.png"], "status": "running"})
    assert "recorded overrides" in run(f"resume={folder}", code=1).stderr
    assert (tmp_path / "victim.png").read_text() == "precious"


def test_a_recorded_place_that_is_elsewhere_is_not_used(run, folder, tmp_path):
    told = summary(folder)
    extra = [f"out={tmp_path}/evil", f"data.cache_dir={tmp_path}/evil"]
    write_json(folder / "summary.json", told | {"overrides": [*told["overrides"], *extra]})
    run(f"resume={folder}", "trainer.epochs=3")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "sweep",
    [{"jobs": [["seed=range(0,1000000000)"]]}, {"jobs": [["seed=1,2"]]}, {"jobs": 5}, {"jobs": []}, {"overrides": 3},
     {"jobs": [["seed=1"]] * 10_001}, {"constant": [{"a": 1}]}, {"jobs": [["seed=1", "data.num_workers=5000"]]},
     {"hydra": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=900"]},
     {"jobs": [[f"seed={n}"] for n in range(500)], "hydra": ["hydra/launcher=submitit_local"]},
     {"hydra": ["hydra/launcher=submitit_local", "hydra.launcher.submitit_folder=MARKER"]},
     {"hydra": ["hydra/launcher=joblib", "hydra.launcher.n_jobs='900'"]},
     {"hydra": ["hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=900"]},
     {"jobs": [["seed=1", "~mode"]]}, {"jobs": [["sweep=5"]]},
     {"jobs": [["seed=1", "hydra/launcher=submitit_local"]]}, {"hydra": ["seed=2"]}],
    ids=lambda told: str(told)[:60],
)  # fmt: skip
def test_a_sweep_that_lies_is_one_sentence(run, tmp_path, sweep):
    (tmp_path / "sweep").mkdir()
    told = {"jobs": [["seed=1"]], "overrides": [], "hydra": [], "status": "running"}
    write_json(tmp_path / "sweep" / "sweep.json", told | sweep)
    told = run(f"resume={tmp_path}/sweep", code=1).stderr
    assert told.startswith("error: ") and "Traceback" not in told
    assert [file.name for file in (tmp_path / "sweep").iterdir()] == ["sweep.json"] and not Path("MARKER").exists()


def test_a_pipe_in_a_runs_folder_makes_nobody_wait(run, folder):
    (folder / ".lock").unlink()
    os.mkfifo(folder / ".lock")
    assert "neither a file nor a folder" in run(f"resume={folder}", code=1).stderr


def test_a_job_brings_no_setting_of_the_launcher_that_is_typed(run, tmp_path):
    """A typed setting takes the place of the launcher's recorded one, and of none that hides among the jobs'."""
    (tmp_path / "sweep").mkdir()
    hidden = f"hydra.launcher.constraint={{_target_:os.mkdir,path:{tmp_path}/marker}}"
    told = {"jobs": [["seed=1", hidden]], "overrides": [], "hydra": [], "status": "running"}
    write_json(tmp_path / "sweep" / "sweep.json", told)
    assert hidden in run(f"resume={tmp_path}/sweep", "hydra.launcher.constraint=a", code=1).stderr
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["submitit_local", "submitit_slurm"])
def test_submitit_opens_pickles_only_where_nobody_can_have_put_others(name):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    folders = []
    for _ in range(2):
        with initialize_config_dir(str(conf.CONF), version_base="1.3"):
            composed = compose("config", [f"hydra/launcher={name}", "hydra.sweep.dir=SWEEP"], return_hydra_config=True)
        folders.append(Path(composed.hydra.launcher.submitit_folder))
    assert all(folder.parts[:2] == ("SWEEP", ".submitit") and folder.name == "%j" for folder in folders)
    assert folders[0].parent != folders[1].parent


STATES = {
    "no step": lambda payload: payload.pop("step"),
    "a step that is a text": lambda payload: payload.update(step="x"),
    "random states of nothing": lambda payload: payload.update(random={}),
    "a random state of another size": lambda payload: payload["random"].update(torch=torch.zeros(3, dtype=torch.uint8)),
    "no optimizer": lambda payload: payload.update(optimizers=None),
    "a rate that is a text": lambda payload: payload["optimizers"]["model"]["param_groups"][0].update(lr="x"),
    "a decay of nothing": lambda payload: payload["optimizers"]["model"]["param_groups"][0].update(weight_decay=None),
    "a first rate of nothing": lambda payload: payload["optimizers"]["model"]["param_groups"][0].update(initial_lr=None),
    "a log that holds a text": lambda payload: payload["history"][-1].update({"val/iou": "x"}),
    "a log that is empty": lambda payload: payload["history"][-1].clear(),
    "other weights beside the average": lambda payload: payload.update(ema=payload["model"], model={"a": torch.ones(1)}),
    "sums of another shape": lambda payload: payload.update(
        tally={"sums": {"loss": torch.zeros(1).expand(10**6)}, "counts": None, "batches": 1, "seconds": 0, "waited": 0}
    ),
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_a_state_that_is_none_is_one_sentence(run, folder, state):
    changed(folder, STATES[state])
    told = run(f"resume={folder}", "trainer.epochs=3", code=1).stderr
    assert told.startswith("error: checkpoints/last.pt holds no state of this run"), told


CURVE = {"_target_": "humanseg.schedules.poly", "_partial_": True}
SETTINGS = {
    "no optimizer": ("optimizer", {}),
    "parts of nothing": ("optimizer", {"parts": 5}),
    "a part of nothing": ("optimizer", {"parts": {"encoder": None}}),
    "no schedule": ("scheduler", {}),
    "no loss": ("loss", {}),
    "a warm-up that is a text": ("scheduler.warmup", "x"),
    "no curve": ("scheduler.curve", None),
    "a power that is a text": ("scheduler.curve", CURVE | {"power": "x"}),
    "a division by zero": ("scheduler.curve", CURVE | {"_target_": "humanseg.schedules.onecycle", "div_factor": 0}),
    "a callback that is a number": ("callbacks", {"x": 5}),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_recorded_settings_of_another_kind_are_one_sentence(run, folder, setting):
    key, value = SETTINGS[setting]
    changed(folder, lambda payload: put(payload["config"], key, value))
    told = run(f"resume={folder}", "trainer.epochs=3", code=1).stderr
    assert told.startswith(f"error: {key.split('.')[0]}") and "Traceback" not in told, told


ODD = {
    "sparse": lambda tensor: tensor.to_sparse(),
    "without numbers": lambda tensor: tensor.to("meta"),
}


@pytest.mark.parametrize("kind", ODD)
def test_weights_that_are_no_plain_tensors_are_refused(folder, kind):
    def odd(payload: dict) -> None:
        payload["ema"] = {name: ODD[kind](value) for name, value in payload["model"].items()}

    with pytest.raises(ValueError, match="no plain tensors"):
        Predictor(changed(folder, odd))


@pytest.mark.parametrize("pickled", [b"\x80\x02.", b"\x80\x02h\x05.", b"\x80\x02ccollections\nOrderedDict\nK\x01R.",
                                     b"\x80\x02K\x01Q.", b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R."])  # fmt: skip
def test_a_pickle_that_breaks_off_is_one_sentence(tmp_path, pickled):
    with zipfile.ZipFile(tmp_path / "odd.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
    with pytest.raises(ValueError, match=r"odd\.pt is truncated, damaged or no checkpoint"):
        checkpoint.load(tmp_path / "odd.pt")


@pytest.mark.parametrize("key", ["model._target_", "model.classes", "data.image_size", "data.mean"])
def test_a_config_that_lacks_a_key_names_it(folder, key):
    group, name = key.split(".")
    with pytest.raises(ValueError, match=key):
        Predictor(changed(folder, lambda payload: payload["config"][group].pop(name)))


@pytest.mark.parametrize(
    "facts",
    [{"versions": 5}, {"machine": "x"}, {"samples": [1]}, {"ema": torch.zeros(3)}, {"reading": torch.zeros(3)}],
    ids=str,
)
def test_facts_that_are_none_are_refused(folder, facts):
    with pytest.raises(ValueError, match="is none of a run"):
        checkpoint.load(changed(folder, lambda payload: payload.update(facts)))


def test_a_folder_whose_name_is_a_line_of_a_script_is_refused(run, folder):
    strange = folder.rename(folder.with_name("a\ntouch marker"))
    assert "may hold no line breaks" in run(f"resume={strange}", code=1).stderr


def test_a_recorded_deletion_is_read(tmp_path):
    assert usable(["~loss.classes"], [], tmp_path) == ["~loss.classes"]
    for other in ("~mode", "~mode=train", "~hydra.callbacks", "~sweep"):
        with pytest.raises(ValueError, match="recorded overrides"):
            usable([other], [], tmp_path)


def test_a_command_to_copy_is_quoted_for_the_shell(run, folder):
    strange = folder.rename(folder.with_name("run; touch marker"))
    told = run(f"resume={strange}", "trainer.epochs=3").stdout
    assert f"ckpt='{strange}'" in told


def test_a_view_that_claims_memory_is_refused(run, folder):
    def wide(payload: dict) -> None:
        state = payload["optimizers"]["model"]["state"]
        state[next(iter(state))]["momentum_buffer"] = torch.zeros(1).expand(10**6)

    changed(folder, wide)
    assert "of another shape than its parameter" in run(f"resume={folder}", "trainer.epochs=3", code=1).stderr


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
