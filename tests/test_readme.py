"""What the READMEs say runs, and what they name is there."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import ON_FILES, ROOT, TINY, broken_off, call_run_py, film
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from humanseg.modes import predict

TEXT = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, re.S))
COMMANDS = [line for line in BLOCKS.splitlines() if line.startswith("python run.py ")]
OTHERS = [f"{folder}/README.md" for folder in ("conf", "humanseg", "tests", "humanseg/zoo")]
CARDS = ["humanseg/zoo/portrait.md", "humanseg/zoo/realtime.md"]
READMES = {name: (ROOT / name).read_text() for name in ("README.md", *OTHERS, *CARDS)}


def test_it_can_be_read_in_one_sitting():
    assert len(TEXT.splitlines()) <= 170
    assert "pip install -e . && python run.py\n" in TEXT and 'pip install -e ".[test]" && pytest\n' in TEXT
    assert len(COMMANDS) >= 8


def test_its_pictures_are_there_and_small():
    pictures = [ROOT / path for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", TEXT)]
    assert pictures and all(picture.is_file() for picture in pictures)
    assert sum(file.stat().st_size for file in (ROOT / ".github" / "readme").iterdir()) <= 1_000_000


@pytest.fixture(scope="module")
def sweep_once(tmp_path_factory) -> Path:
    """A finished sweep of two jobs, of which commands get copies."""
    root = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        call_run_py(patch, "-m", *TINY, "trainer.epochs=1", "seed=0,1", f"out={root}", f"hydra.sweep.dir={root}/sweep")
    return root / "sweep"


def marked(command: str):
    """Exports take ten seconds each, and tests/export makes some in any case."""
    return pytest.param(command, marks=[pytest.mark.slow] * ("mode=export" in command or "MODEL" in command))


@pytest.mark.parametrize("command", map(marked, COMMANDS))
def test_a_command(command, run, sweep_once, finished, people, tmp_path):
    replaced = re.sub(r"\bDIR\b", str(people), command).replace(
        " model.encoder_weights=imagenet", ""
    )  # no download here
    replaced = replaced.replace("outputs/train/DATE/TIME", str(finished))
    if "multirun/DATE/TIME" in command:
        sweep = shutil.copytree(sweep_once, tmp_path / "outputs" / "multirun" / "day" / "time")
        replaced = replaced.replace("outputs/multirun/DATE/TIME", str(sweep))
    if "resume=latest" in command:
        broken_off(finished)
    photographs = people / "images"
    named = {"PHOTOS": photographs, "PHOTO": photographs / "001.png", "BEHIND": photographs / "002.png"}
    if "VIDEO" in command or "input=0" in command:  # a file plays the camera
        named |= {"VIDEO": film(tmp_path / "film.mp4"), "input=0": f"input={tmp_path}/film.mp4 live=true"}
    if "MODEL" in command:
        run("mode=export", f"ckpt={finished}", "format=openvino", f"output={tmp_path}/model.xml")
        named |= {"MODEL": tmp_path / "model.xml"}
    for name, value in named.items():
        replaced = re.sub(rf"\b{name}(?=\s|$)", str(value), replaced)
    replaced = replaced.replace("output=", f"output={tmp_path}/")
    arguments = shlex.split(replaced, comments=True)[2:]
    if "hydra/sweeper=optuna" in arguments:
        arguments += ["hydra.sweeper.n_trials=2"]
    if "mode=benchmark" in arguments:
        arguments += [*ON_FILES, "seconds=0.01", "parts=[ceiling]"]
    elif not any(argument.startswith(("mode=", "resume=")) for argument in arguments):
        small = ON_FILES if any("root=" in argument for argument in arguments) else TINY
        own = any(argument.startswith("model=") for argument in arguments)  # which takes no decoder of U-Net's
        arguments = [*(item for item in small if not own or not item.startswith("+model.")), *arguments]
    assert re.search(r"^(next|result|live)\b|is finished$", run(*arguments).stdout, re.M)


def test_its_mix_is_a_choice_of_data(tmp_path):
    (tmp_path / "data").mkdir()
    (yaml,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
    (tmp_path / "data" / "everything.yaml").write_text(yaml)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        data = compose("config", ["data=everything", f"hydra.searchpath=['file://{tmp_path}']"]).data
    assert {name: (node.root, node.get("weight", 1)) for name, node in data.sources.items()} == {
        "coco": ("/data/coco", 0.5),
        "mine": ("/data/mine", 3),
        "streets": ("/data/streets", 1),
    }


def named_files(text: str) -> set[str]:
    """Paths with a folder, and links to other documents; not what a run's folder or a user's own has."""
    paths = re.findall(r"`((?:conf|humanseg|tests)/[a-z0-9_/]+\.(?:py|yaml|md|html))\b", text)
    return {*paths} - {"conf/local/default.yaml"}


@pytest.mark.parametrize("name", READMES)
def test_the_files_that_a_readme_names_are_there(name):
    named, folder = named_files(READMES[name]), (ROOT / name).parent
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", READMES[name]) if "://" not in link}
    assert links and (named or name in CARDS)
    assert not [path for path in named if not (ROOT / path).is_file()]
    assert not [link for link in links - {""} if not (folder / link).is_file()]


def test_the_house_is_described_as_it_is():
    rows = re.findall(r"^\|[^|]*\| `([a-z_]+(?:\.py|/))`", READMES["humanseg/README.md"], re.M)
    parts = {path.name + "/" * path.is_dir() for path in (ROOT / "humanseg").iterdir() if path.name[0] not in "_."}
    assert {*rows} - {"run.py"} == {part for part in parts if part.endswith((".py", "/"))}


def test_the_headings_that_links_name_are_there():
    for name, text in READMES.items():
        for path, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", text):
            there = ((ROOT / name).parent / path).read_text() if path else text
            headings = re.findall(r"^#+ (.+)$", there, re.M)
            anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{name} links to {path}#{anchor}"


GROUPS = "|".join(folder.name for folder in sorted((ROOT / "conf").iterdir()) if folder.is_dir())


@pytest.mark.parametrize(("group", "choice"), sorted(set(re.findall(rf"\b({GROUPS})=([a-z_0-9/]+)", TEXT))))
def test_a_choice_it_names_is_there(group, choice):
    assert (ROOT / "conf" / group / f"{choice}.yaml").is_file()


@pytest.mark.parametrize(
    "group", ["model", "data", "augment", "loss", "optimizer", "scheduler", "callbacks", "experiment"]
)
def test_each_choice_of_a_group_is_told(group):
    folder, told = ROOT / "conf" / group, READMES["conf/README.md"]
    choices = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]
    assert choices and not [choice for choice in choices if f"`{choice}`" not in told]


def test_it_says_how_many_photographs_torch_draws():
    assert f"Fewer than {predict.FEW:,} photographs are left to torch" in READMES["conf/README.md"]


def test_this_machines_own_defaults_are_read(tmp_path):
    shutil.copytree(ROOT / "conf", tmp_path / "project" / "conf")
    (tmp_path / "project" / "conf" / "local").mkdir(exist_ok=True)
    (tmp_path / "project" / "conf" / "local" / "default.yaml").write_text("# @package _global_\nseed: 7\n")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(tmp_path / "project" / "conf"), version_base="1.3"):
        assert compose("config").seed == 7
