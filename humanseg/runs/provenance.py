"""What a result depends on besides the config: code, versions, machine, command."""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

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


def git(*arguments: str) -> str | None:
    """The output of a git command in the project's folder; None outside of a repository."""
    root = Path(__file__).parents[2]
    try:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
