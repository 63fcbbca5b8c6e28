"""What the YAMLs of conf/ compute: names of folders, and values that follow from others."""

import os
import re
import secrets

from omegaconf import OmegaConf

from humanseg.normalisation import of_encoder
from humanseg.runs.conf import CONF, PROGRAM

LONGEST_FOLDER = 80


def job_folder(number: int | str, overrides: str) -> str:
    """A job's folder: its number and overrides in letters, digits, `.`, `_` and `-`, 80 characters at most."""
    plain = re.sub(r"-{2,}", "-", re.sub(r"[^A-Za-z0-9._-]+", "-", re.sub("[+~]", "", overrides)))
    return f"{number}_{plain}"[:LONGEST_FOLDER].rstrip("_-.")


def name_suffix(name: str | None) -> str:
    """`_NAME` in the same letters; nothing for no name."""
    return "_" + re.sub(r"[^A-Za-z0-9._-]+", "-", str(name)) if name else ""


def console_level(verbose: bool | str, mode: object) -> str:
    """The jobs of a sweep leave the terminal to the sweep."""
    return "DEBUG" if verbose else "WARNING" if "MULTIRUN" in str(mode) else "INFO"


def modes() -> str:
    """The modes that exist, a line each: the name and the first sentence of the YAML in conf/mode."""
    lines = []
    for file in sorted((CONF / "mode").glob("*.yaml")):
        comments = [line[2:].strip() for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
        told = [comment for comment in comments if not comment.startswith("@")][:1]
        lines.append(f"  {file.stem:<10} {' '.join(told).partition('. ')[0].rstrip('.')}")
    return "\n".join(lines)


OmegaConf.register_new_resolver("program", lambda: PROGRAM)
OmegaConf.register_new_resolver("modes", modes)
OmegaConf.register_new_resolver("of_encoder", lambda what, encoder, weights: of_encoder(encoder, weights)[what])
OmegaConf.register_new_resolver("home", lambda path: os.path.expanduser(str(path)))
OmegaConf.register_new_resolver("job_folder", job_folder)
OmegaConf.register_new_resolver("unguessable", lambda: secrets.token_hex(8))
OmegaConf.register_new_resolver("name_suffix", name_suffix)
OmegaConf.register_new_resolver("console_level", console_level)
OmegaConf.register_new_resolver("smp_mode", lambda classes: "binary" if classes == 1 else "multiclass")
