"""What is borrowed from private parts of other packages is there; one that is gone is named in a sentence."""

import importlib
import re

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException

from humanseg.cli import hydra_private, launchers
from humanseg.processes import torch_private
from humanseg.runs.conf import CONF


@pytest.mark.parametrize(
    ("borrower", "owner", "name"),
    [
        ("humanseg/processes/torch_private.py", "torch.cpu", "_is_amx_tile_supported"),
        ("humanseg/processes/torch_private.py", "torch.cpu", "_is_avx512_bf16_supported"),
        ("humanseg/processes/torch_private.py", "torch", "_foreach_lerp_"),
        ("humanseg/processes/torch_private.py", "torch.nn.modules.batchnorm", "_NormBase"),
        ("humanseg/processes/torch_private.py", "torch:UntypedStorage", "_new_shared"),
        ("humanseg/processes/torch_private.py", "torch.utils.tensorboard:SummaryWriter", "_get_file_writer"),
        ("humanseg/processes/elastic.py", "torch.distributed.elastic.multiprocessing", "DefaultLogsSpecs"),
        ("humanseg/processes/elastic.py", "torch.distributed.elastic.multiprocessing", "SignalException"),
        ("humanseg/processes/elastic.py", "torch.distributed.elastic.multiprocessing.errors", "ProcessFailure"),
        ("humanseg/cli/hydra_private.py", "hydra._internal.core_plugins.basic_sweeper:BasicSweeper", "split_arguments"),
        ("humanseg/cli/hydra_private.py", "hydra.core.global_hydra:GlobalHydra", "config_loader"),
        (
            "humanseg/cli/hydra_private.py",
            "hydra._internal.config_loader_impl:ConfigLoaderImpl",
            "_apply_overrides_to_config",
        ),
        ("humanseg/cli/hydra_private.py", "hydra.core.utils", "configure_log"),
        ("humanseg/runs/trials.py", "optuna.distributions:FloatDistribution", "_contains"),
        ("humanseg/cli/launchers.py", "submitit.core.job_environment:SignalHandler", launchers.REQUEUE),
    ],
)
def test_a_private_part_is_still_there(borrower, owner, name):
    module, _, kind = owner.partition(":")
    holder = importlib.import_module(module)
    holder = getattr(holder, kind) if kind else holder
    assert hasattr(holder, name), f"{owner} has no {name} any more: {borrower} needs another way"


@pytest.mark.parametrize(
    ("override", "pattern"), [("seeed=1", hydra_private.UNKNOWN_KEY), ("+seed=1", hydra_private.KNOWN_KEY)]
)
def test_hydras_errors_still_name_the_key(override, pattern):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(ConfigCompositionException) as told:
        compose("config", [override])
    assert re.search(pattern, str(told.value)), f"humanseg/cli/hydra_private.py does not know: {told.value}"


def test_shared_bytes_can_be_written():
    block = torch_private.shared_bytes(6)
    block[:] = torch.arange(6, dtype=torch.uint8)
    assert block.is_shared() and block.tolist() == [0, 1, 2, 3, 4, 5]
