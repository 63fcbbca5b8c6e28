"""The house keeps its shape: imports point one way, Hydra stays at the top, the style holds."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "humanseg"

# A module may import from its own layer and those after it.
LAYERS = [
    {"commandline", "launch", "parallel_jobs", "resolvers", "resume", "sweeps"},
    {"modes"},
    {"build", "loop", "checkpoint", "runs", "logs", "predictor", "engines", "export", "report", "benchmark"}
    | {"journal", "drawing", "media", "video", "live"},
    {"data", "losses", "metrics", "callbacks", "schedules", "device", "rules", "recorded", "interrupts", "distributed"}
    | {"tally", "workers"},
]
HYDRA_LIVES_IN = {"commandline", "launch", "parallel_jobs", "resolvers", "resume", "sweeps", "modes", "build"}


def layer(module: str) -> int:
    (found,) = [number for number, names in enumerate(LAYERS) if module in names]
    return found


def imports(file: Path) -> set[str]:
    """Dotted names of everything that a file imports, at its top and inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_one_way(file):
    own = file.relative_to(PACKAGE).with_suffix("").parts[0]
    for name in imports(file):
        parts = name.split(".")
        if parts[0] == "humanseg" and len(parts) > 1 and parts[1] != "__version__":
            assert layer(parts[1]) >= layer(own), f"{own} imports {parts[1]}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_hydra_and_omegaconf_stay_at_the_top(file):
    own = file.relative_to(PACKAGE).with_suffix("").parts[0]
    if own not in HYDRA_LIVES_IN:
        assert not {name.split(".")[0] for name in imports(file)} & {"hydra", "omegaconf"}


def test_instantiate_is_called_in_build_alone():
    callers = {file.name for file in FILES if "hydra.utils.instantiate" in imports(file)}
    assert callers == {"build.py"}


def test_composing_a_config_imports_no_heavy_package():
    heavy = "torch,cv2,albumentations,segmentation_models_pytorch,tensorboard,numpy"
    code = (
        "import sys; sys.argv=['run.py', '--cfg', 'job']; import runpy\n"
        "runpy.run_path('run.py', run_name='__main__')\n"
        f"found = set('{heavy}'.split(',')) & set(sys.modules); assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_content(command):
    done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
