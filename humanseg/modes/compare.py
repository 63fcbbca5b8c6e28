"""``mode=compare``: whether one network is better than another on the same photographs, and how sure that is."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from humanseg import build, metrics, terminal
from humanseg.compare import page, pairs, scores
from humanseg.compare.pairs import Pair, Side
from humanseg.compare.pictures import panels
from humanseg.compare.scores import Scores
from humanseg.config_rules import refuse_wrong_values
from humanseg.data.loading import Data
from humanseg.evaluation import choose_split, found_in, measure
from humanseg.modes import test
from humanseg.predictor import Predictor
from humanseg.runs import find
from humanseg.runs.atomic import write_table, write_text
from humanseg.runs.find import TABLE
from humanseg.runs.job import Job
from humanseg.runs.overrides import key_of
from humanseg.runs.summary import load_summary, numbers
from humanseg.value_rules import SWITCH, Rule, one_of, or_null, whole

log = logging.getLogger(__name__)

SHARED, RANKED = False, False

ONE = Rule(
    lambda value: isinstance(value, str) and value,
    "a checkpoint, a run's, sweep's or test's folder, `latest`, or a name of the zoo",
)
RULES = {
    "a": ONE,
    "b": Rule(
        lambda value: ONE.holds(value) or (isinstance(value, list) and value and all(map(ONE.holds, value))),
        f"{ONE.words}, or several as [B,C]",
    ),
    "draws": whole(100, 1_000_000),
    "shown": whole(0, 100),
    "backend": or_null(one_of("auto", "torch", "onnxruntime", "openvino")),
    "refine": SWITCH,
}
# What may be typed without any effect on the scores that a test has left.
NO_SCORES = {"mode", "a", "b", "draws", "shown", "metrics", "name", "tags", "out"}
SAME = 1e-6  # up to here a table has the values of its summary
ENDED = ("test", "val_full_size")  # where trainer.test=true leaves its scores, as split=auto would choose


@dataclass(frozen=True)
class Network:
    """What is compared, and how its photographs are opened."""

    label: str
    given: str
    path: Path  # the checkpoint, the exported file, or the folder of a test

    @property
    def is_test(self) -> bool:
        return self.path.is_dir()


def run(config: dict, job: Job) -> float:
    """Compare `a` with each `b`; returns the difference of the first metric, of the first of them."""
    refuse_wrong_values(config, rules=RULES)
    functions = metrics.find(config["metrics"])
    networks = _networks(config)
    begun = job.begin(a=str(networks[0].path), b=[str(one.path) for one in networks[1:]])
    log.info("run        %s", job.folder)

    opened = _opener(config, job.typed, networks)
    sides = _sides(networks, functions, job, opened)
    first, others = sides[0], [_matched(sides[0], side) for side in sides[1:]]
    log.info("compared   %d photographs, %d draws", len(first.scores), config["draws"])
    for side in sides:
        log.info("%-10s %s, %s", side.label, side.path, side.told)

    names, draws = list(functions), config["draws"]
    found = [pairs.compared(first, side, names, draws, config["seed"]) for side in others]
    facts = {"photographs": len(first.scores), "draws": draws, "seed": config["seed"]}
    pairs.write(found, names[0], job.folder, facts)
    drawn = _drawer(opened, networks)
    write_text(job.folder / "compare.html", page.draw(found, names[0], draws, config["shown"], drawn))

    whole = found[0].found[pairs.WHOLE][names[0]]
    begun.update(
        status="completed", **facts, metric=names[0], difference=whole.difference, interval=[whole.low, whole.high]
    )
    log.info("%s", terminal.lines(pairs.for_terminal(found, names[0])))
    log.info("table      %s", job.folder / "compare.csv")
    log.info("page       %s", job.folder / "compare.html")
    told = (names[0], found[0].second.label, pairs.signed(whole.difference), pairs.between(whole))
    log.info("result     %s of %s - a: %s (%s)", *told)
    return whole.difference


def _networks(config: dict) -> list[Network]:
    """What `a` and `b` mean: checkpoints as `ckpt=` does, or folders of tests."""
    others = config["b"] if isinstance(config["b"], list) else [config["b"]]
    labels = ["a", *([f"b{number}" for number in range(1, len(others) + 1)] if len(others) > 1 else "b")]
    given = [config["a"], *others]
    paths = [
        find.test(one) or find.checkpoint(one, config["out"], label[0])
        for label, one in zip(labels, given, strict=True)
    ]
    return [Network(*one) for one in zip(labels, given, paths, strict=True)]


Opened = Callable[[Network], tuple[dict, Predictor, Data, str]]  # its config, the predictor, the data and the split


def _opener(config: dict, typed: list[str], networks: list[Network]) -> Opened:
    """A function that opens a network and its photographs, once: its config, the predictor, and the split.

    An exported file without data of its own is for the photographs of the first checkpoint.
    """
    checkpoints = [one for one in networks if not one.is_test and not find.is_exported(one.path)]

    @cache
    def opened(network: Network) -> tuple[dict, Predictor, Data, str]:
        if find.is_exported(network.path) and "data" not in map(key_of, typed) and checkpoints:
            data = {key: opened(checkpoints[0])[0][key] for key in ("data", "seed")}
            cfg, predictor, _ = test.exported(network.path, config | data)
        else:
            cfg, predictor, _ = test.opened(network.path, config, typed)
        data = build.data(cfg["data"], None, cfg["model"]["classes"], cfg["seed"])
        return cfg, predictor, data, choose_split(data, config["split"])

    return opened


def _sides(networks: list[Network], functions: dict, job: Job, opened: Opened) -> list[Side]:
    """The scores of each network: those that a test has left, or scored now. What is to be scored is opened first."""
    changed = sorted(key for key in {*map(key_of, job.typed)} - NO_SCORES if not key.startswith("hydra."))
    left = [_left(one, list(functions), changed) for one in networks]
    _refuse_others([one for one, side in zip(networks, left, strict=True) if not side], opened)
    return [side or _scored(one, functions, job, opened) for one, side in zip(networks, left, strict=True)]


def _left(network: Network, wanted: list[str], changed: list[str]) -> Side | None:
    """The scores that a test has left of a network; None where there are none that count.

    Args:
        changed: the typed keys that change scores.
    """
    if network.is_test and changed:
        raise ValueError(
            f"{network.label}={network.given} is the folder of a test, whose scores stay as they are: leave out "
            f"{', '.join(changed)}, or give its checkpoint"
        )
    try:
        if not changed and (file := _table(network)):
            return Side(network.label, network.path, f"scores of {file}", _read(network, file, wanted))
    except ValueError as error:
        if network.is_test:
            raise ValueError(f"{network.label}: {error}; give the checkpoint to score it anew") from error
        log.info("scores     %s anew: %s", network.label, error)
    return None


def _refuse_others(networks: list[Network], opened: Opened) -> None:
    """Refuse other photographs before any is scored, as far as their sources and the names of their files tell."""
    names = []
    for network in networks:
        _, _, data, split = opened(network)
        own = data.splits[split]
        names.append(Counter((own.source_of(place), own.name(place).rpartition("/")[2]) for place in range(len(own))))
    for network, own in zip(networks[1:], names[1:], strict=True):
        with _told_of(networks[0].label, network.label):
            scores.refuse_alone({networks[0].label: [*(names[0] - own)], network.label: [*(own - names[0])]})


def _scored(network: Network, functions: dict, job: Job, opened: Opened) -> Side:
    """A network's scores, which are kept in this run's folder."""
    _, predictor, data, split = opened(network)
    rows = [row for row in measure(predictor, data, split, functions)[1] if row]
    if not rows:
        raise ValueError(
            f"{network.label}: none of its photographs can be scored: they can't be read, or all of them is ignored"
        )
    folder = job.folder / network.label
    folder.mkdir(exist_ok=True)
    write_table(folder / TABLE, list(rows[0]), rows)
    return Side(network.label, network.path, f"scored now on {split}", scores.of_rows(rows, str(folder / TABLE)))


def _table(network: Network) -> Path | None:
    """What a test, or the end of training, has left of a network; None where there is nothing."""
    if network.is_test:
        return find.scores(network.path, "")
    run = find.run_of(network.path)
    if run is None or load_summary(run).get("status") != "completed":
        return None
    return next(filter(None, (find.scores(run, name) for name in ENDED)), None)


def _read(network: Network, file: Path, wanted: list[str]) -> Scores:
    """The scores in a table.

    Raises:
        ValueError: they are of an earlier version, or of another state of the network, or lack a metric.
    """
    found, called = scores.read(file), "test" if network.is_test else file.parent.name
    told = load_summary(network.path) if network.is_test else load_summary(file.parent.parent)
    values = numbers(told.get("metrics") if network.is_test else told.get("best"))
    for name in filter(found.has, metrics.OF_SUMS):
        value = values.get(f"{called}/{name}")
        if value is not None and abs(value - found.value(name)) > SAME:
            raise ValueError(f"{file} gives {name} {found.value(name):.4f}, and summary.json {value:.4f}")
    if missing := [name for name in wanted if not found.has(name)]:
        raise ValueError(f"{file} has no {', '.join(missing)}")
    return found


def _matched(first: Side, side: Side) -> Side:
    """A side with its photographs in the order of the first.

    Raises:
        ValueError: they are others.
    """
    with _told_of(first.label, side.label):
        return replace(side, scores=scores.matched(first.scores, side.scores, (first.label, side.label)))


@contextmanager
def _told_of(first: str, second: str) -> Iterator[None]:
    """What differs between the photographs of two networks is told with what to type."""
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"{second} and {first} are scored on other photographs: {error}; type what both are to be scored on, as "
            "data=folder data.test_root=DIR"
        ) from error


def _drawer(opened: Opened, networks: list[Network]) -> page.Drawn:
    """A function that draws a photograph with what both networks of a pair find in it.

    The numbers need no photographs: where they can't be opened any more, that is said once.
    """
    by_label, troubles = {one.label: one for one in networks}, []

    @cache
    def places() -> dict[tuple[str, str], int]:
        _, _, data, split = opened(networks[0])
        samples = data.splits[split]
        return {(samples.source_of(place), samples.name(place)): place for place in range(len(samples))}

    def picture(pair: Pair, place: int) -> list[np.ndarray]:
        both = [by_label[side.label] for side in (pair.first, pair.second)]
        if tests := [one for one in both if one.is_test]:
            raise ValueError(f"{tests[0].label} is a test's folder, without its network")
        own = pair.first.scores
        name = own.sources[place], own.images[place]
        if name not in places():
            raise ValueError(f"{name[1]} is no longer there")
        _, _, data, split = opened(both[0])
        image, mask = data.splits[split][places()[name]]
        if scores.mark(mask) != own.truths[place]:
            raise ValueError(f"the mask of {name[1]} has changed since it was scored")
        return panels(image, mask, *(found_in(opened(one)[1], image) for one in both))

    def drawn(pair: Pair, place: int) -> list[np.ndarray] | None:
        if troubles:
            return None
        try:
            return picture(pair, place)
        except ValueError as error:
            troubles.append(error)
            log.warning("the page shows no photographs: %s", error)
            return None

    return drawn
