"""The house keeps its shape: imports point one way and in no circle, Hydra stays at the top, the style holds."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "humanseg"

# A part imports parts of the layers below its own; within a layer too, but in no circle. A part is a package, or a module
# at the root of humanseg/.
LAYERS = (
    "__main__",
    "cli",
    "modes",
    "check report benchmark export evaluation compare compositing predictor distillation",
    "averaging callbacks logs inference build monitor encoders restoring checkpoint weights finetune freezing loop sizes tally hardness losses cross_entropies connectivity networks schedules history ema pictures compute metrics media markup offline_page normalisation",
    "data",
    "runs config_rules value_rules zoo",
    "processes terminal",
)
KNOW_HYDRA = {"cli", "build.py", "benchmark"}


@cache
def imports(file: Path) -> set[str]:
    """Dotted names of all that a file imports, at its top and inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part(file: Path, package: Path = PACKAGE) -> str:
    """The package in a package, or the module at its root, that a file belongs to."""
    return file.relative_to(package).with_suffix("").parts[0]


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]
PARTS = {part(file) for file in FILES}


def arrows(package: Path = PACKAGE) -> dict[tuple[str, str], str]:
    """(importing part, imported part) -> an import that makes it, among the parts of a package."""
    within = package.relative_to(ROOT).parts
    files = [file for file in FILES if file.is_relative_to(package)]
    parts, found = {part(file, package) for file in files}, {}
    for file in files:
        own = part(file, package)
        for name in imports(file):
            whole = (*name.split("."), "")
            if whole[: len(within)] == within and (other := whole[len(within)]) in parts - {own}:
                found[own, other] = f"{file.relative_to(ROOT)} imports {name}"
    return found


def test_every_part_has_a_layer():
    assert sorted(" ".join(LAYERS).split()) == sorted(PARTS)


def test_imports_point_down():
    layer = {name: number for number, names in enumerate(LAYERS) for name in names.split()}
    upwards = [told for (above, below), told in arrows().items() if layer[below] < layer[above]]
    assert not upwards, "\n".join(upwards)


@pytest.mark.parametrize("package", [PACKAGE, PACKAGE / "data"], ids=lambda package: package.name)
def test_imports_make_no_circle(package):
    left = arrows(package)
    while free := {above for above, _ in left} - {below for _, below in left}:  # nobody left imports them
        left = {arrow: told for arrow, told in left.items() if arrow[0] not in free}
    while leaves := {below for _, below in left} - {above for above, _ in left}:  # they import nobody left
        left = {arrow: told for arrow, told in left.items() if arrow[1] not in leaves}
    assert not left, "a circle of\n" + "\n".join(left.values())


def test_hydra_and_omegaconf_stay_at_the_top():
    knowing = {file for file in FILES if {name.split(".")[0] for name in imports(file)} & {"hydra", "omegaconf"}}
    where = {file.relative_to(PACKAGE).parts[0] for file in knowing}
    assert where == KNOW_HYDRA


def test_instantiate_is_called_in_build_alone():
    callers = {file.name for file in FILES if "hydra.utils.instantiate" in imports(file)}
    assert callers == {"build.py"}


def test_composing_a_config_imports_no_heavy_package():
    heavy = "torch,cv2,albumentations,segmentation_models_pytorch,tensorboard,numpy,mlflow,wandb"
    code = (
        "import sys; sys.argv=['run.py', '--cfg', 'job']; import runpy\n"
        "runpy.run_path('run.py', run_name='__main__')\n"
        f"found = set('{heavy}'.split(',')) & set(sys.modules); assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


LONGEST_FILE, LONGEST_FUNCTION = 300, 50  # lines


def test_files_and_functions_are_of_a_size_that_a_person_reads():
    long = [f"{file.relative_to(ROOT)}" for file in FILES if len(file.read_text().splitlines()) > LONGEST_FILE]
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= LONGEST_FUNCTION:
                long.append(f"{file.relative_to(ROOT)}: {node.name} has {node.end_lineno - node.lineno + 1} lines")
    assert not long, "\n".join(long)


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_content(command):
    done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
