"""What a result depends on besides the config: code, versions, machine, command."""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNTRACKED = ("*.py", "*.yaml", "*.yml")  # nothing else: a file that nobody has looked at may hold secrets
ENVIRONMENT = "/pyvenv.cfg"  # it lies in a virtual environment, whose files are no work of the user's
MOST, LARGEST = 200, 1_000_000  # of these files in a patch, and their bytes
VERSIONED = ("torch", "segmentation-models-pytorch", "albumentations", "hydra-core", "numpy")


def environment() -> dict:
    """Command, commit, versions and machine, for summary.json."""
    return {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),  # sys.argv has been put in order for Hydra
        "commit": git("rev-parse", "HEAD"),
        "versions": versions(),
        "machine": f"{platform.node()}, {os.cpu_count()} CPUs",
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the main packages."""
    from importlib.metadata import version  # it imports an e-mail parser, which composing a config need not wait for

    return {"python": platform.python_version()} | {name: version(name) for name in VERSIONED}


def uncommitted() -> tuple[str, dict]:
    """What git has not committed, as a patch that `git apply` takes, and what summary.json says of it.

    It holds the changes to the files that git tracks, and the Python and YAML files that it does not track yet. Files that
    git ignores and those of virtual environments are left out, and of the others those beyond MOST and LARGEST.
    """
    found = git("ls-files", "--others", "--exclude-standard", "-z", "--", *UNTRACKED, f"*{ENVIRONMENT}") or ""
    names = sorted(filter(None, found.split("\0")))
    environments = tuple(name.removesuffix(ENVIRONMENT) + "/" for name in names if name.endswith(ENVIRONMENT))
    taken, left, size = [], [], 0
    for name in (name for name in names if not name.startswith(environments)):
        bytes_ = os.lstat(ROOT / name).st_size
        fits = len(taken) < MOST and size + bytes_ <= LARGEST
        (taken if fits else left).append(name)
        size += bytes_ * fits
    patches = [git("diff", "HEAD"), *(git("diff", "--no-index", "/dev/null", name, differs=True) for name in taken)]
    facts = {"untracked": len(taken), "limit": f"{MOST} files, {LARGEST // 10**6} MB", "left_out": left[:MOST]}
    return "".join(f"{patch}\n" for patch in patches if patch), facts


def git(*arguments: str, differs: bool = False) -> str | None:
    """The output of a git command in the project's folder; None where it fails, as outside of a repository.

    Args:
        differs: it ends with 1 where it finds a difference.
    """
    try:
        done = subprocess.run(
            ["git", "-C", ROOT, *arguments], capture_output=True, encoding="utf-8", errors="surrogateescape"
        )
    except OSError:
        return None
    return done.stdout.strip("\n") if done.returncode in (0, int(differs)) else None
