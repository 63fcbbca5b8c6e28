"""What `pip install .` installs works without the checkout; a system that it can't work on is told so."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version

import pytest
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_packed():
    found = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "humanseg").rglob("*.py")}
    assert {*PROJECT["tool"]["setuptools"]["packages"]} == found | {"humanseg.conf"}


@pytest.mark.skipif(
    int(version("setuptools").split(".")[0]) < 77, reason="setuptools is older than the project asks for"
)
def test_a_package_brings_its_configs_and_a_command_but_nothing_of_this_machine(tmp_path):
    project = tmp_path / "project"
    for name in ("humanseg", "conf"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    (project / "conf" / "local").mkdir(exist_ok=True)
    (project / "conf" / "local" / "default.yaml").write_text("out: /this/machine\n")
    (project / "humanseg" / "zoo" / "tiny.pt").write_bytes(b"weights")
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=project, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    own = {file.relative_to(ROOT / "conf") for file in (ROOT / "conf").rglob("*.yaml")}
    packed = {file.relative_to(site / "humanseg" / "conf") for file in (site / "humanseg" / "conf").rglob("*.yaml")}
    assert packed == {file for file in own if file.parts[0] != "local"}
    zoo = {file.name for file in (site / "humanseg" / "zoo").iterdir() if file.suffix != ".py"}
    assert zoo == {file.name for file in (project / "humanseg" / "zoo").iterdir() if file.suffix in (".md", ".pt")}
    assert "tiny.pt" in zoo
    (entry,) = site.glob("*.dist-info/entry_points.txt")
    assert "humanseg = humanseg.__main__:main" in entry.read_text()

    def called(*arguments: str) -> str:
        command = [sys.executable, "-m", "humanseg", *arguments]
        environment = os.environ | {"PYTHONPATH": str(site)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    assert "humanseg mode=test ckpt=PATH" in called("mode=test", "--help")
    assert called("--cfg", "job", "--package", "out", "out=2024").strip().endswith("2024")


def test_a_system_without_fcntl_is_told_so_in_one_sentence():
    code = "import sys, runpy; sys.modules['fcntl'] = None; runpy.run_path('run.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: humanseg runs on Linux and macOS")
    assert done.stderr.count("\n") == 1
    code = "import sys; sys.modules['fcntl'] = None; import humanseg.predictor"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "ImportError: humanseg runs on Linux and macOS" in done.stderr
    systems = [name for name in PROJECT["project"]["classifiers"] if name.startswith("Operating System")]
    assert systems == ["Operating System :: POSIX :: Linux", "Operating System :: MacOS"]
