"""Which networks judge which samples: one all of them, or of a sweep over data.folds each those that it has not seen."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from humanseg import checkpoint, terminal
from humanseg.check.disagree import Judge
from humanseg.check.scan import Scanned
from humanseg.data import mix
from humanseg.data.photographs import digest
from humanseg.data.splits.parts import Split
from humanseg.inference.engines import READERS
from humanseg.predictor import Predictor
from humanseg.runs import find, recorded
from humanseg.runs.summary import is_sweep, read_jobs

log = logging.getLogger(__name__)


class Network(NamedTuple):
    """A checkpoint: its file, what it holds, and its config with what is typed."""

    path: Path
    payload: dict[str, Any]
    config: dict[str, Any]


def networks(ckpt: str, config: dict[str, Any], typed: list[str]) -> list[Network]:
    """The checkpoints that `ckpt=` means: one, or of a sweep over data.folds one for each fold.

    Args:
        config: as Hydra composed it. typed: the overrides of this command line.

    Raises:
        ValueError: there is none, one can't be used, or some folds have none or several.
    """
    path, folder = find.checkpoint(ckpt, config["out"]), Path(ckpt)
    if folder.is_dir() and is_sweep(folder):
        files = [job["folder"] / "checkpoints" / "best.pt" for job in read_jobs(folder)]
        each = (_opened(file, config, typed) for file in files if file.is_file())  # a sweep may have hundreds
        if folded := [one for one in each if one.config["data"].get("folds")]:
            _refuse_parted(ckpt, folded)
            return folded
    if find.is_exported(path):
        raise ValueError(
            f"ckpt={path}: mode=check takes a checkpoint (.pt), a run's folder or a sweep's, and no {'/'.join(READERS)}"
        )
    return [_opened(path, config, typed)]


def _opened(path: Path, config: dict[str, Any], typed: list[str]) -> Network:
    payload = checkpoint.load(path)
    cfg = recorded.checkpoint_config(payload, config, typed, ("model", "data"))
    return Network(path, payload, cfg)


def _refuse_parted(ckpt: str, folded: list[Network]) -> None:
    """Refuse a sweep that has not one checkpoint for each of its folds."""
    data = [one.config["data"] for one in folded]
    numbers, wanted = sorted(one["fold"] for one in data if one.get("fold") is not None), data[0]["folds"]
    if numbers != [*range(wanted)]:
        raise ValueError(
            f"ckpt={ckpt}: it has checkpoints of the folds {', '.join(map(str, numbers))}, and each of 0 to {wanted - 1} is "
            "needed once: let it end, or name the checkpoint of one run"
        )


def judges(chosen: list[Network], opened: dict, scanned: list[Scanned]) -> list[Judge]:
    """Each network with the samples that it judges.

    Args:
        opened: the sources by name and side, as `build.sources` gives them.

    Raises:
        ValueError: the folds were drawn over other samples.
    """
    found = []
    for one in chosen:
        predictor = Predictor.of_checkpoint(*one)
        if len(chosen) == 1:
            samples = [(source, source.sound()) for source in scanned]
            if _trained_on(one, opened):
                log.warning("network    %s has trained on most of these and may have learnt their mistakes: a sweep over "
                            "data.folds judges each by a network that has not seen it", one.path)  # fmt: skip
        else:
            held = _splits(one, opened)["val"]
            samples = [(source, _unseen(one, held, source)) for source in scanned]
        found.append(Judge(predictor, f"{digest(str(one.path))} {predictor.size}", samples))
    return found


def _splits(network: Network, opened: dict) -> dict[str, Split]:
    """The samples as the network's run divided them, without those that it left out.

    Raises:
        ValueError: they can't be divided so.
    """
    data, began, problems = network.config["data"], network.payload["config"]["data"], []
    nodes = {name: node for name, node in mix.nodes(data).items() if name in opened}
    with terminal.without_warnings():  # the check itself has divided them, and has told how
        parts = mix.of_each(nodes, lambda name: mix.divided(name, nodes, opened), problems, by_key=True)
    if problems:
        raise ValueError(terminal.lines(problems))
    typed_then = data | {"exclude": began.get("exclude")}  # another list may be typed now
    parts, _ = mix.leave_out(parts, typed_then, nodes, network.payload.get("broken"))
    return mix.together(parts, data.get("duplicates", "together"))


def _trained_on(network: Network, opened: dict) -> bool:
    """Whether the training samples are those that a network was trained on, by their names."""
    try:
        train = _splits(network, opened).get("train")
    except ValueError:  # the split is refused, which is among the findings
        return False
    return train is not None and network.payload.get("samples", {}).get("train") == train.fingerprint()


def _unseen(network: Network, held: Split, one: Scanned) -> np.ndarray:
    """Indices of the samples of a source that a network of a sweep validated on, and did not see.

    Raises:
        ValueError: it validated on others.
    """
    if network.payload.get("samples", {}).get("val") not in (None, held.fingerprint()):
        raise ValueError(
            f"{network.path}: its fold had other samples than these: check the data that the sweep trained on"
        )
    own = [np.asarray(part.indices) for part in held.parts if part.source is one.source]
    return np.intersect1d(np.concatenate(own), one.sound()) if own else np.zeros(0, np.int64)
