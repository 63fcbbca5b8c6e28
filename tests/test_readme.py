"""What the README says runs."""

import re
import shlex

import pytest
from conftest import ON_FILES, ROOT, TINY, film

TEXT = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, re.S))
COMMANDS = [line for line in BLOCKS.splitlines() if line.startswith("python run.py ")]


def test_it_can_be_read_in_one_sitting():
    assert len(TEXT.splitlines()) <= 300
    assert "pip install -e . && python run.py\n" in TEXT and 'pip install -e ".[test]" && pytest\n' in TEXT
    assert len(COMMANDS) >= 8


def test_its_pictures_are_there_and_small():
    pictures = [ROOT / path for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", TEXT)]
    assert pictures and all(picture.is_file() for picture in pictures)
    assert sum(file.stat().st_size for file in (ROOT / ".github" / "readme").iterdir()) <= 1_000_000


def marked(command: str):
    """Exports take ten seconds each, and tests/test_export.py makes some in any case."""
    return pytest.param(command, marks=[pytest.mark.slow] * ("mode=export" in command or "MODEL" in command))


@pytest.mark.parametrize("command", map(marked, COMMANDS))
def test_a_command(command, run, people, tmp_path):
    replaced = command.replace("=DIR", f"={people}").replace(" model.encoder_weights=imagenet", "")  # no download here
    if "multirun/DATE/TIME" in command:
        run("-m", *TINY, "seed=0,1")
        (sweep,) = (tmp_path / "outputs" / "multirun").glob("*/*")
        replaced = replaced.replace("outputs/multirun/DATE/TIME", str(sweep))
    elif "resume=" in command or "ckpt=" in command:
        folder = run(*TINY).folder
        replaced = replaced.replace("outputs/train/DATE/TIME", str(folder))
        if "resume=latest" in command:
            told = (folder / "summary.json").read_text()
            (folder / "summary.json").write_text(told.replace('"completed"', '"running"'))  # as a kill leaves it
    photographs = people / "images"
    named = {"PHOTOS": photographs, "PHOTO": photographs / "001.png", "BEHIND": photographs / "002.png"}
    if "VIDEO" in command or "input=0" in command:  # a file plays the camera
        named |= {"VIDEO": film(tmp_path / "film.mp4"), "input=0": f"input={tmp_path}/film.mp4 live=true"}
    if "MODEL" in command:
        run("mode=export", f"ckpt={run(*TINY).folder}", "format=openvino", f"output={tmp_path}/model.xml")
        named |= {"MODEL": tmp_path / "model.xml"}
    for name, value in named.items():
        replaced = re.sub(rf"\b{name}(?=\s|$)", str(value), replaced)
    replaced = replaced.replace("output=", f"output={tmp_path}/")
    arguments = shlex.split(replaced, comments=True)[2:]
    if "mode=benchmark" in arguments:
        arguments += [*ON_FILES, "seconds=0.01", "parts=[ceiling]"]
    elif not any(argument.startswith(("mode=", "resume=")) for argument in arguments):
        on_files = any(argument.startswith("data.root=") for argument in arguments)
        arguments = [*(ON_FILES if on_files else TINY), *arguments]
    assert re.search(r"^(next|result)\b|is finished$", run(*arguments).stdout, re.M)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:conf|humanseg)/[a-z_/]+\.(?:py|yaml))`", TEXT))))
def test_a_file_it_names_is_there(path):
    assert (ROOT / path).is_file() or path == "conf/local/default.yaml"  # that one is the user's own


GROUPS = "|".join(folder.name for folder in sorted((ROOT / "conf").iterdir()) if folder.is_dir())


@pytest.mark.parametrize(("group", "choice"), sorted(set(re.findall(rf"\b({GROUPS})=([a-z_0-9]+)", TEXT))))
def test_a_choice_it_names_is_there(group, choice):
    assert (ROOT / "conf" / group / f"{choice}.yaml").is_file()


def test_this_machines_own_defaults_are_read(run, monkeypatch, tmp_path):
    import shutil

    shutil.copytree(ROOT / "conf", tmp_path / "project" / "conf")
    (tmp_path / "project" / "conf" / "local").mkdir()
    (tmp_path / "project" / "conf" / "local" / "default.yaml").write_text("# @package _global_\nseed: 7\n")
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(tmp_path / "project" / "conf"), version_base="1.3"):
        assert compose("config").seed == 7
