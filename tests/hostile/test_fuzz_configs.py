"""Recorded configs and plans of sweeps with anything in them: a clean refusal, or a result that names nothing of its own.

`HUMANSEG_FUZZ=100000 pytest tests/hostile/test_fuzz_configs.py` tries so many of each kind.
"""

import copy
import json
import os
from pathlib import Path

import pytest
import yaml
from conftest import composed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from humanseg.cli import resume
from humanseg.runs import conf, overrides, recorded, trust
from humanseg.runs.reading import is_config

TRIED = settings(
    max_examples=int(os.environ.get("HUMANSEG_FUZZ", 200)),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
OWN = yaml.safe_load((Path(__file__).parents[1] / "runs" / "recorded_by_a67b389.yaml").read_text())["config"]
MARKER = "os.mkdir"
NODES = st.sampled_from(
    [
        {"_target_": MARKER, "path": "marker"},
        {"_target_": "torch.optim.SGD", "lr": 1},
        {"_partial_": True},
        {"_args_": [MARKER]},
        MARKER,
        "${oc.env:HOME}",
        (MARKER,),
        b"x",
        10**30,
        -1,
        float("nan"),
        "x" * 20_000,
    ]
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | NODES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def places(node, path=()) -> list[tuple]:
    """All paths in a config."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for name, item in inner for place in places(item, (*path, name)))]


def targets(node) -> set[str]:
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    own = {node["_target_"]} if isinstance(node, dict) and "_target_" in node else set()
    return own.union(*map(targets, inner))


PLACES = st.sampled_from([place for place in places(OWN) if place])
KNOWN = {name for group in trust.GROUPS for names in conf.shape(group).targets.values() for name in names}


@pytest.fixture(scope="module")
def today() -> dict:
    return composed()


@TRIED
@given(st.lists(st.tuples(PLACES, PLAIN, st.booleans()), min_size=1, max_size=3))
def test_a_changed_config_is_refused_or_names_nothing_of_its_own(today, changes):
    config = copy.deepcopy(OWN)
    for (*path, last), value, beside in changes:
        node = config
        for name in path:
            node = node[name] if isinstance(node, dict) and name in node else {}
        if isinstance(node, dict):
            node[f"{last}_x" if beside else last] = value
    if not is_config(config):
        return  # whoever reads a record refuses it before
    try:
        merged = recorded.with_overrides(config, {}, today, [])
    except ValueError as refused:
        assert str(refused)
        return
    assert targets(merged) <= KNOWN and "${" not in json.dumps(merged)


TEXTS = st.sampled_from(
    ["seed=1", "seed=1,2", "optimizer.lr=0.1", "loss=dice", "loss=../x", f"+callbacks.x._target_={MARKER}", "~loss", "-m",
     "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.launcher.n_jobs=2000", "hydra.run.dir=/x", "out=/x",
     "name='${seed}'", "trainer.epochs=choice(1,2)", "mode=predict", "mode=test", "tags=[a,b]", "data.cache_dir=/x"]
) | st.text(max_size=20)  # fmt: skip
LISTS = st.lists(TEXTS, max_size=4)
SWEEPS = st.fixed_dictionaries(
    {"jobs": st.lists(LISTS, max_size=4) | PLAIN, "overrides": LISTS | PLAIN, "hydra": LISTS | PLAIN},
    optional={"status": PLAIN, "constant": LISTS | PLAIN, "started": PLAIN, "environment": PLAIN},
)


@TRIED
@given(SWEEPS)
def test_a_plan_of_a_sweep_is_refused_or_becomes_literal_overrides(tmp_path, told):
    (tmp_path / "sweep.json").write_text(json.dumps(told, default=str))
    try:
        plan = resume.plan([f"resume={tmp_path}"])
    except ValueError as refused:
        assert str(refused)
        return
    assert plan.arguments[0] == "-m" and plan.folder == tmp_path
    read = [overrides.parse(text) for text in plan.arguments[1:]]
    assert MARKER not in str(read) and not {"data.cache_dir", "hydra.run.dir"} & {one.key for one in read}
