"""What is typed arrives as it was meant: paths as they are, everything else in Hydra's grammar, flags at any place."""

import os
import shlex
import subprocess

import pytest
from conftest import TINY, composed, jobs, the_sweep, write_people
from hydra.core.override_parser.overrides_parser import OverridesParser

from humanseg.cli import grammar


def read(override: str):
    return OverridesParser.create().parse_override(override).value()


@pytest.mark.parametrize(
    "name",
    [
        "2024_01_15", "2024_11", "2024", "007", "1e3", "nan", "true", "photo (1).jpg", "caf\u00e9.jpg", "a#b", "a=b",
        "rtsp://cam/s?channel=1", "it's.jpg", "x'y\"z", "a, b.jpg", "[1].jpg", "[a", "{a}", "{a:1}", "glob(*)", "a\nb",
        " a ", "a\\b", "it's\\", "'", '"a', "$5", "a&b;c", "*.jpg", "-x", "0", os.fsdecode(b"caf\xe9.jpg"),
    ],
)  # fmt: skip
def test_a_path_arrives_as_it_was_typed(name):
    for key in ("input", "output", "runs", "ckpt", "out", "data.root", "+data.val_root", "data.pairs", "hydra.run.dir"):
        (override,) = grammar.with_paths_as_typed([f"{key}={name}"])
        assert read(override) == name
        assert grammar.with_paths_as_typed([override]) == [override]


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("0.1", 0.1), ("9", 9), ("train", "train"), ("null", None), ("1e-1", 0.1), ("'2024'", "2024"), ("true", "true"),
        ("lists/val (1).txt", "lists/val (1).txt"), ("2024_01.txt", "2024_01.txt"), ("[0.1]", [0.1]),
    ],
)  # fmt: skip
def test_a_list_of_names_may_have_any_path_where_a_number_is_a_number(typed, value):
    for key in ("data.val_split", "+data.test_split"):
        (override,) = grammar.with_paths_as_typed([f"{key}={typed}"])
        assert read(override) == value and type(read(override)) is type(value)


@pytest.mark.parametrize(
    "pattern", [r"^(.*)_\d+", r"images/([a-z]+)\.", r"(?:a|b)\((\w)\)", "(a)$", "2024", "folder", "~(x)"]
)
def test_a_pattern_arrives_as_it_was_typed(pattern):
    (override,) = grammar.with_paths_as_typed([f"data.group_by={pattern}"])
    assert read(override) == pattern and grammar.with_paths_as_typed([override]) == [override]
    assert grammar.with_paths_as_typed(["-m", f"data.group_by=null,{pattern}"])[1].startswith("data.group_by=null,")
    assert grammar.with_paths_as_typed(["data.group_by=null"]) == ["data.group_by=null"]


@pytest.mark.parametrize(
    "override",
    [
        "input=null", "input=", "input=[a,b]", "input=[1,2]", "data.pairs=/x/f${fold}.txt", "input='a b'", 'input="a (1)"',
        "input=a.jpg", "ckpt=latest", "background=blur:25", "background=color:00b140", "input=a\\,b", "name=2024_01",
        "trainer.epochs=1_0", "resume=2024_01", "~data.root", "data=folder", "--cfg=job", "input=[a (1),b]",
    ],
)  # fmt: skip
def test_what_stays_in_hydras_grammar(override):
    assert grammar.with_paths_as_typed([override]) == [override]


def test_a_sweep_keeps_its_commas_and_functions():
    computed = ["--multirun", "data.root=${f:a,b},${g:c}/x,b_1", "out=c"]
    assert grammar.with_paths_as_typed(computed) == computed
    typed = ["-m", "data.root=a (1),2024_01,[x,y],'q,r', b", "ckpt=choice(a,b)", "out=a", "input=range(1,3)"]
    assert grammar.with_paths_as_typed(typed) == [
        "-m", "data.root='a (1)','2024_01',[x,y],'q,r',b", "ckpt=choice(a,b)", "out=a", "input=range(1,3)",
    ]  # fmt: skip
    in_a_file = ["experiment=[portrait,sweep_lr_loss]", "data.root=1_1,b"]
    assert grammar.with_paths_as_typed(in_a_file)[1] == "data.root='1_1',b"
    assert grammar.with_paths_as_typed(["experiment=portrait", "data.root=1_1,b"])[1] == "data.root='1_1,b'"


def test_a_path_may_be_computed_and_hold_anything():
    (override,) = grammar.with_paths_as_typed(["data.pairs=/x (1)/it's/f${fold}.txt"])
    assert read(override) == "/x (1)/it's/f${fold}.txt"


def test_home_and_escapes(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/me (1)")
    assert read(grammar.with_paths_as_typed(["input=~/x"])[0]) == "/home/me (1)/x"
    assert grammar.in_order(["--config-dir", "~/own"]) == ["--config-dir=/home/me (1)/own"]
    assert (
        read(grammar.with_paths_as_typed(["-m", "input=~/x,~/y"])[1].split(",")[1].join(["a=", ""])) == "/home/me (1)/y"
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / r"a\,b").touch()  # this file is meant, and no escaped comma
    assert read(grammar.with_paths_as_typed([r"input=a\,b"])[0]) == r"a\,b"


def test_flags_may_stand_anywhere():
    typed = ["--cfg", "job", "mode=test", "-m", "--info", "defaults", "--config-dir", "a=b", "~loss"]
    assert grammar.in_order(typed) == ["--cfg=job", "-m", "--info=defaults", "--config-dir=a=b", "mode=test", "~loss"]


def test_a_flag_before_the_overrides_of_a_checkpoint(run, trained_once):
    for typed in (["--cfg", "job", "mode=test"], ["mode=test", "-c", "job"]):
        assert "folder" in run(*typed, f"ckpt={trained_once}").stdout


@pytest.mark.parametrize(
    "value", ["IMG (1).jpg", "it's (1).jpg", 'say "hi" (1)', "$HOME (1)", "[a (1),it's]", "a\\' (1)"]
)
def test_the_command_that_an_error_suggests_can_be_pasted(run, value):
    told = run("tags=[a]", f"name={value}", code=1).stderr.rpartition("once for Hydra: ")[2].strip()
    shell = subprocess.run(["bash", "-c", f"printf '%s' {told}"], capture_output=True, text=True, check=True).stdout
    assert shlex.split(told) == [shell]
    assert read(shell) == (["a (1)", "it's"] if value[0] == "[" else value)


def test_a_swept_key_that_a_path_interpolates(run, tmp_path):
    people = write_people(tmp_path / "people", 8)
    for fold in (0, 1):
        lines = (
            f"{people}/images/{number:03d}.png, {people}/masks/{number:03d}.png\n" for number in range(4 + 4 * fold)
        )
        (tmp_path / f"f{fold}.txt").write_text("".join(lines))
    small = [item for item in TINY if not item.startswith("data.samples")]
    options = ["data=pairs", "data.val_split=2", "data.batch_size=2", "trainer.epochs=1", "trainer.steps_per_epoch=1"]
    run("-m", *small, *options, "+fold=0,1", f"data.pairs={tmp_path}/f${{fold}}.txt")
    assert [job["status"] for job in jobs(the_sweep(tmp_path)).values()] == ["completed", "completed"]
    logs = [(file.parent / "run.log").read_text() for file in sorted(the_sweep(tmp_path).glob("*/summary.json"))]
    assert "2 train, 2 val" in logs[0] and "6 train, 2 val" in logs[1]


def test_a_mode_that_ranks_a_folder_with_a_number_for_a_name(run, tiny_once, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").symlink_to(tiny_once.parent)
    assert "1 completed" in run("mode=report", "runs=2024").stdout
    assert composed("mode=report", "runs='2024'")["runs"] == "2024"
