"""One table of the config's keys: what each may be, when it may change, and which of them are paths.

A key that the table does not name may have any value, and is fixed.
"""

import re
from fnmatch import fnmatchcase
from math import inf
from typing import Any, Literal, NamedTuple

from humanseg import terminal
from humanseg.value_rules import (
    ANYTHING,
    BAND,
    CALLBACKS,
    CATEGORIES,
    DEVICES,
    ENCODER,
    FILES,
    GPUS,
    GROUP,
    LIST,
    MISPLACED,
    NAMES,
    PLENTY,
    SIZE,
    SIZES,
    SMALL,
    SOURCES,
    SWITCH,
    WEIGHT,
    WEIGHTS,
    WORD,
    WORDS,
    Rule,
    colours,
    number,
    one_of,
    or_auto,
    or_null,
    whole,
)

AT_ONCE = 2**30  # values in one layer: a batch of 1024 pictures of 1024 pixels' side


class Key(NamedTuple):
    """What is known of a key.

    `change` says when it may change: a ``fixed`` key never, for the weights, the order of the samples or best.pt would no
    longer be one run's; a ``free`` one when a run goes on; a ``machine`` one when a run or a sweep goes on, for it says how
    this machine does the work and not what is done. An `optional` one need not be there. The value of a `path` is the
    name of a file or folder, which may hold any character. So may a `text`, as a pattern, which is no name of a file.
    Where a path may be a `number` too, what reads as a number is one.
    """

    rule: Rule = ANYTHING
    change: Literal["fixed", "free", "machine"] = "fixed"
    optional: bool = False
    path: bool = False
    text: bool = False
    number: bool = False


OF_SOURCE = re.compile(r"^data\.sources\.[^.]+\.(?=.)")  # what a key of a source in a mix begins with
PLACES = ("data.*root", "data.*pairs", "data.*annotations", "data.*images")  # where the data lies, not what is in it

# Keys may be patterns; of several that match, the longest counts.
KEYS = {
    "seed": Key(whole(0, 2**63 - 1)),
    "name": Key(ANYTHING, "free"),
    "tags": Key(or_null(LIST), "free", optional=True),
    "metrics": Key(WORDS, "free"),
    "out": Key(ANYTHING, "machine", path=True),
    **dict.fromkeys(("ckpt", "resume"), Key(path=True)),
    "distill": Key(or_null(WORD), optional=True, path=True),
    # Options of modes.
    **dict.fromkeys(("input", "output", "background", "runs", "a", "b"), Key(optional=True, path=True)),
    **dict.fromkeys(("local", "experiment"), Key(MISPLACED, optional=True)),
    "hydra*": Key(ANYTHING, "machine"),
    **dict.fromkeys(("hydra.run.dir", "hydra.sweep.dir"), Key(ANYTHING, "machine", optional=True, path=True)),
    "sweep*": Key(ANYTHING, "machine"),
    "sweep.changed": Key(one_of("refuse", "keep"), "machine"),
    "sweep.max_failures": Key(or_null(whole(1)), "machine"),
    "sweep.gpus": Key(or_null(or_auto(GPUS)), "machine"),
    "model": Key(GROUP),
    "model.classes": Key(whole(1, 255)),
    "model.in_channels": Key(whole(1, 64), optional=True),
    "model.encoder_depth": Key(whole(1, 8), optional=True),
    "model.upsampling": Key(whole(1, 32), optional=True),
    "model.encoder_name": Key(ENCODER, optional=True),
    "model.deep_outputs": Key(whole(1, 7), optional=True),
    "model.aux_params": Key(or_null(GROUP), optional=True),
    "model.*aux_params.classes": Key(whole(1, 255), optional=True),
    "model.*aux_params.pooling": Key(one_of("avg", "max"), optional=True),
    "model.*aux_params.dropout": Key(number(0, 1), optional=True),
    **dict.fromkeys(("model.decoder_*", "model.encoder_output_*", "model.psp_*"), Key(SMALL, optional=True)),
    "model.encoder_weights": Key(ANYTHING, "free", path=True),  # a run that goes on has its own weights
    "data": Key(GROUP),
    "data.image_size": Key(SIZE),
    "data.split_seed": Key(whole(0, 2**63 - 1)),
    "data.duplicates": Key(one_of("together", "ignore")),
    **dict.fromkeys(("data.val_split", "data.test_split"), Key(path=True, number=True)),
    "data.exclude": Key(or_null(FILES), "free", optional=True, path=True),
    "data.drop_duplicates": Key(SWITCH, "free", optional=True),
    "data.on_error": Key(one_of("raise", "skip"), "free", optional=True),
    "data.split_by": Key(or_null(one_of("name")), optional=True),
    "data.group_by": Key(or_null(WORD), optional=True, text=True),
    "data.folds": Key(or_null(whole(2, 1000)), optional=True),
    "data.fold": Key(or_null(whole(0, 999)), optional=True),
    "data.sources": Key(SOURCES, optional=True),
    "data.sources.*.weight": Key(WEIGHT, optional=True),
    "data.sources.*.only": Key(or_null(one_of("train", "val", "test")), optional=True),
    "data.sources.*.band": Key(or_null(whole(1, 32)), optional=True),
    "data.weights": Key(or_null(WEIGHTS), optional=True),
    "data.samples": Key(whole(1, 10**6), optional=True),
    "data.longest": Key(whole(64, 4096), optional=True),
    "data.batch_size": Key(whole(1, 2**16)),
    "data.val_batch_size": Key(whole(1, 2**16), "machine"),
    "data.num_workers": Key(or_auto(whole(0, 2**14)), "machine"),
    "data.cache": Key(SWITCH, "machine"),
    "data.cache_dir": Key(WORD, "machine", path=True),
    "data.mask_suffix": Key(WORD, "free", optional=True),
    "data.*categories": Key(CATEGORIES, optional=True),
    "data.*min_area": Key(number(0), optional=True),
    "data.*empty": Key(one_of("keep", "drop"), optional=True),
    "data.*image_set": Key(or_null(WORD), optional=True),
    "data.*alpha": Key(or_null(WORD), optional=True),
    "data.*ignore": Key(or_null(BAND), optional=True),
    "data.*labels": Key(CATEGORIES, optional=True),
    **dict.fromkeys(("data.*ignored", "data.*unlabelled_tags"), Key(WORDS, optional=True)),
    **dict.fromkeys(("data.*people", "data.*places"), Key(NAMES, optional=True)),
    "data.pad_value": Key(whole(0, 255)),
    "data.mean": Key(colours(-PLENTY)),
    "data.std": Key(colours(1e-9, "numbers above 0")),
    **dict.fromkeys(PLACES, Key(ANYTHING, "free", path=True)),
    "augment": Key(or_null(GROUP), "free"),
    "augment.*": Key(ANYTHING, "free"),
    "loss": Key(GROUP, "free"),
    "loss.*": Key(ANYTHING, "free"),
    **dict.fromkeys(("loss.pos_weight", "loss.weight"), Key(optional=True)),
    **dict.fromkeys(
        ("loss.label_smoothing", "loss.terms.*.label_smoothing"), Key(or_null(number(0, 1)), optional=True)
    ),
    **dict.fromkeys(("loss.terms.*.pos_weight", "loss.terms.*.weight"), Key(optional=True)),
    "optimizer": Key(GROUP, "free"),
    "optimizer.*": Key(ANYTHING, "free"),
    "optimizer.parts": Key(GROUP, "free", optional=True),
    **dict.fromkeys(("optimizer.*_target_", "optimizer.*decay_norms_and_biases"), Key()),
    **dict.fromkeys(
        ("optimizer.*fused", "optimizer.*foreach", "optimizer.*nesterov", "optimizer.*amsgrad"), Key(SMALL, "free")
    ),
    "optimizer.*eps": Key(number(0, 1), "free"),
    **dict.fromkeys(("optimizer.*lr", "optimizer.*weight_decay"), Key(number(0, inf), "free")),
    "optimizer.*momentum": Key(or_null(number(0, inf)), "free"),
    "scheduler": Key(GROUP, "free"),
    "scheduler.*": Key(ANYTHING, "free"),
    "callbacks": Key(CALLBACKS, "free"),
    "callbacks.*": Key(ANYTHING, "free"),
    "callbacks.strict": Key(SWITCH, "free", optional=True),
    "callbacks.*.wait": Key(number(0, 3600), "free", optional=True),
    "trainer": Key(GROUP),
    "trainer.epochs": Key(whole(1), "free"),
    "trainer.steps_per_epoch": Key(or_null(whole(1))),
    "trainer.device": Key(WORD, "machine"),
    "trainer.devices": Key(DEVICES, "machine"),
    "trainer.sync_batchnorm": Key(SWITCH, "free"),
    "trainer.max_restarts": Key(whole(0), "machine"),
    "trainer.join_minutes": Key(number(0.01), "machine"),
    "trainer.precision": Key(WORD, "free"),
    "trainer.channels_last": Key(SWITCH, "free"),
    "trainer.compile": Key(SWITCH, "free"),
    "trainer.deterministic": Key(SWITCH, "free"),
    "trainer.threads": Key(or_null(whole(1, 2**14)), "machine"),
    "trainer.memory_fraction": Key(or_null(number(0.01, 1)), "machine"),
    "trainer.accumulate": Key(whole(1)),
    "trainer.output_weights": Key(or_null(WEIGHTS)),
    "trainer.sizes": Key(or_null(SIZES)),
    "trainer.size_order": Key(or_null(one_of("random"))),
    "trainer.hard": Key(or_null(number(0.01, 1))),
    "trainer.grad_clip": Key(or_null(number(0)), "free"),
    "trainer.ema": Key(number(0, 0.999999), "free"),
    **dict.fromkeys(
        ("trainer.freeze_encoder", "trainer.average_last", "trainer.reestimate_batchnorm"),
        Key(or_null(whole(1, PLENTY))),
    ),
    "trainer.val_every": Key(whole(1), "free"),
    "trainer.log_every": Key(whole(0), "free"),
    "trainer.monitor": Key(or_null(WORD)),
    "trainer.monitor_mode": Key(one_of("auto", "max", "min")),
    "trainer.early_stop": Key(whole(0), "free"),
    "trainer.save_minutes": Key(or_null(number(0)), "machine"),
    "trainer.save_every": Key(whole(0), "free"),
    "trainer.test": Key(SWITCH, "free"),
}


def key(name: str) -> Key:
    """What the table says of a key. A key of a source in a mix is what it is for that source alone."""
    names = {name, OF_SOURCE.sub("data.", name)}
    matching = [pattern for pattern in KEYS if any(fnmatchcase(one, pattern) for one in names)]
    return KEYS[max(matching, key=len)] if matching else Key()


def has_rule(name: str) -> bool:
    """Whether the table says what a key may be."""
    return key(name).rule is not ANYTHING


def is_place(name: str) -> bool:
    """Whether a key says where the data lies."""
    return any(fnmatchcase(name, pattern) for pattern in PLACES)


def of_machine() -> list[str]:
    """The keys of the table, and patterns, that say how this machine does the work."""
    return [name for name, known in KEYS.items() if known.change == "machine" and not known.optional]


def refuse_wrong_values(config: dict, complete: bool = True, rules: dict[str, Rule] | None = None) -> None:
    """Hold a resolved config against rules.

    Args:
        complete: whether all keys must be there; an older checkpoint's config lacks some.
        rules: by key; None: those of `KEYS`.

    Raises:
        ValueError: values of another kind, out of range or missing; a line each.
    """
    problems, whole_table = [], rules is None
    if whole_table:
        rules = {name: known.rule for name, known in KEYS.items() if "*" not in name and known.rule is not ANYTHING}
        given = {name: value for name, value in flat(config).items() if name not in rules}
        wrong = {name: value for name, value in given.items() if not key(name).rule.holds(value)}
        problems += [f"{name}={value}: give {key(name).rule.words}" for name, value in wrong.items()]
    for name, rule in rules.items():
        group, _, last = name.rpartition(".")
        holder = config.get(group, {}) if group else config
        if not isinstance(holder, dict):
            continue  # the group's own rule says so
        if last not in holder and complete and not KEYS.get(name, Key()).optional:
            problems.append(f"{name} is missing: give {rule.words}")
        elif last in holder and not rule.holds(holder[last]):
            problems.append(f"{name}={holder[last]}: give {rule.words}")
    if whole_table and not problems:
        problems = _too_large_together(config.get("data", {}), config.get("model", {}))
    if problems:
        raise ValueError(terminal.lines(problems))


def _too_large_together(data: dict, model: dict) -> list[str]:
    """Values that are fine each alone, and with the size of the square take more memory than a machine has."""
    size = data.get("image_size", 0)
    taken = {
        "data.batch_size": data.get("batch_size", 0) * size**2,
        "model.classes": model.get("classes", 0) * size**2,
        "model.upsampling": (model.get("upsampling", 0) * size) ** 2,
    }
    together = f"with data.image_size={size} makes more than {AT_ONCE} values at once: give less of one of them"
    return [f"{name} {together}" for name, values in taken.items() if values > AT_ONCE]


def refuse_other_run(before: dict, after: dict) -> None:
    """Refuse to go on with a run under a config that would make another run of it.

    Raises:
        ValueError: fixed keys differ; all are listed.
    """
    old, new = flat(before), flat(after)
    differ = [
        f"{name} ({old.get(name)} -> {new.get(name)})"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
        and key(name).change == "fixed"
        and not _moved(name, old.get(name), new.get(name))
    ]
    if differ:
        raise ValueError(
            f"a run can't go on with another {', '.join(differ)}: start a new one from its weights with ckpt=PATH"
        )


def _moved(name: str, old: Any, new: Any) -> bool:
    """Whether a list of samples, or a teacher, may only lie elsewhere; a run that goes on compares it with that before."""
    return (key(name).number or name == "distill") and isinstance(old, str) and isinstance(new, str)


def flat(node: dict, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one with dotted keys."""
    found = {}
    for name, value in node.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found
