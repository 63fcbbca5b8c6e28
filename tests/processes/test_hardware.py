"""Which devices `trainer.device` and `trainer.devices` mean, and what SLURM says of its tasks and nodes."""

import pytest
import torch

from humanseg.processes import hardware, slurm


@pytest.fixture
def eight_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [(1, None), (4, [0, 1, 2, 3]), ("all", [*range(8)]), ([2, 3], [2, 3]), ([5], [5])],
)
def test_devices_are_chosen_by_number_count_or_all(eight_gpus, wanted, chosen):
    assert hardware.choose_devices(wanted, "auto") == (len(chosen) if chosen else 1, chosen)


def test_a_run_that_was_given_gpus_chooses_among_them(eight_gpus):
    with hardware.given([6, 7], 4):
        assert str(hardware.choose_device("auto")) == "cuda:6" and str(hardware.choose_device("cuda:1")) == "cuda:1"
        assert hardware.choose_devices(2, "auto") == hardware.choose_devices("all", "cuda") == (2, [6, 7])
    assert str(hardware.choose_device("auto")) == "cuda"


@pytest.mark.parametrize("wanted", [9, [1, 1], [8]])
def test_gpus_that_are_not_there_are_refused(eight_gpus, wanted):
    with pytest.raises(ValueError, match="there are 8 CUDA device"):
        hardware.choose_devices(wanted, "auto")


def test_one_device_by_name_and_several_are_refused(eight_gpus):
    with pytest.raises(ValueError, match="trainer.device=cuda:1 is one device: give trainer.device=cuda"):
        hardware.choose_devices(2, "cuda:1")


@pytest.mark.parametrize(("text", "tasks"), [("2(x3),1", [2, 2, 2, 1]), ("8", [8]), ("4(x2)", [4, 4]), ("1,3", [1, 3])])
def test_slurms_tasks_are_counted_by_node(text, tasks):
    assert slurm.tasks_by_node(text) == tasks


@pytest.mark.parametrize(
    ("nodes", "first"), [("node[07-09,12],other", "node07"), ("alone", "alone"), ("a1,b2", "a1"), ("gpu-[3]", "gpu-3")]
)
def test_slurms_first_node_is_where_they_meet(nodes, first):
    assert slurm.first_host(nodes) == first


@pytest.mark.parametrize(
    ("shown", "preempted"),
    [("JobId=7 JobState=RUNNING Reason=None PreemptTime=2026-11-26T04:42:24 SuspendTime=None", True),
     ("JobId=7 JobState=CANCELLED Reason=None PreemptTime=2026-11-26T04:42:24 SuspendTime=None", False),
     ("JobId=7 JobState=RUNNING Reason=None PreemptTime=None SuspendTime=None", False), ("", False)],
)  # fmt: skip
def test_slurm_says_whether_it_pre_empts_a_job_that_runs(shown, preempted):
    assert slurm.is_preempted(shown) is preempted
