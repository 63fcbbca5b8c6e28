"""The one table of keys: what each may be, and when it may change."""

import pytest
from conftest import composed

from humanseg.config_rules import KEYS, flat, key, of_machine, refuse_other_run, refuse_wrong_values


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("seed", "fixed"), ("model.encoder_name", "fixed"), ("model.encoder_weights", "free"), ("data.limit", "fixed"),
        ("data.val_root", "free"), ("data.pairs", "free"), ("data.val_batch_size", "machine"), ("loss.loss.smooth", "free"),
        ("optimizer.lr", "free"), ("optimizer._target_", "fixed"), ("optimizer.parts.encoder.lr", "free"),
        ("optimizer.parts.encoder._target_", "fixed"), ("optimizer.parts.head.decay_norms_and_biases", "fixed"),
        ("augment.transforms", "free"), ("callbacks.previews.every", "free"), ("metrics", "free"),
        ("trainer.epochs", "free"), ("trainer.accumulate", "fixed"), ("loss.terms.bce.pos_weight", "fixed"), ("trainer.threads", "machine"),
        ("sweep.gpus", "machine"), ("hydra/launcher", "machine"), ("hydra.launcher.n_jobs", "machine"),
    ],
)  # fmt: skip
def test_when_a_key_may_change(name, change):
    assert key(name).change == change


def test_a_key_that_nobody_has_named_is_fixed():
    assert key("fold").change == key("data.new").change == key("trainer.new").change == "fixed"
    with pytest.raises(ValueError, match=r"another fold \(0 -> 1\)"):
        refuse_other_run({"fold": 0}, {"fold": 1})


def test_what_is_free_for_a_run_or_the_machines_own_makes_no_other_run():
    before = composed()
    after = composed("optimizer.lr=1", "trainer.epochs=3", "loss=bce", "data.val_batch_size=1", "trainer.threads=1")
    refuse_other_run(before, after)
    with pytest.raises(ValueError, match="seed .0 -> 5.*data.image_size|data.image_size.*seed"):
        refuse_other_run(before, composed("seed=5", "data.image_size=96"))


def test_every_key_that_the_table_names_is_known_by_one_word():
    assert {known.change for known in KEYS.values()} == {"fixed", "free", "machine"}
    assert {"data.num_workers", "data.val_batch_size", "trainer.devices"} < set(of_machine())


def test_all_wrong_values_are_named_at_once():
    config = composed() | {"seed": -1}
    config["trainer"] |= {"epochs": 0}
    with pytest.raises(ValueError, match="seed=-1: give .*\ntrainer.epochs=0: give"):
        refuse_wrong_values(config)
    del config["trainer"]["ema"]
    with pytest.raises(ValueError, match="trainer.ema is missing"):
        refuse_wrong_values(config)


@pytest.mark.parametrize("name", composed()["trainer"])
def test_nonsense_is_refused_in_each_key_of_the_trainer(name):
    config = composed()
    refuse_wrong_values(config)
    config["trainer"][name] = {"no": "sense"}
    with pytest.raises(ValueError, match=rf"trainer\.{name}=.*: give "):
        refuse_wrong_values(config)


def test_the_table_names_no_key_that_is_gone():
    config = composed()
    known = {*config, *(f"{group}.{key}" for group, node in config.items() if isinstance(node, dict) for key in node)}
    assert {name for name, rule in KEYS.items() if "*" not in name and not rule.optional} <= known


def test_nested_dicts_as_one():
    assert flat({"a": {"b": {"c": 1}, "d": [1]}, "e": None}) == {"a.b.c": 1, "a.d": [1], "e": None}
