"""A file of weights takes no more memory than it has bytes, and holds tensors or is refused in a sentence."""

import io
import os
import struct
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from humanseg import checkpoint, config_rules, encoders, finetune
from humanseg.restoring import refuse_lacking
from humanseg.weights import open_weights_only


def saved(value: object, before_zip: bool = False) -> bytes:
    held = io.BytesIO()
    torch.save(value, held, _use_new_zipfile_serialization=not before_zip)
    return held.getvalue()


def zipped(members: dict[str, bytes], method: int) -> tuple[bytes, bytearray, bytearray]:
    """The members, their list and the end of a zip file."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    begins = archive.start_dir
    return held.getvalue()[:begins], bytearray(held.getvalue()[begins:-22]), bytearray(held.getvalue()[-22:])


def compressed(value: object) -> bytes:
    with zipfile.ZipFile(io.BytesIO(saved(value))) as archive:
        return b"".join(zipped({name: archive.read(name) for name in archive.namelist()}, zipfile.ZIP_DEFLATED))


def with_two_lists(value: object) -> bytes:
    """zipfile finds empty members, which are stored; torch reads compressed ones."""
    with zipfile.ZipFile(io.BytesIO(saved(value))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    packed, listed, end = zipped(members, zipfile.ZIP_DEFLATED)
    empty, decoy, _ = zipped(dict.fromkeys(members, b""), zipfile.ZIP_STORED)
    at = 0
    while at < len(decoy):
        (place,) = struct.unpack_from("<L", decoy, at + 42)
        struct.pack_into("<L", decoy, at + 42, place + len(packed) - len(empty))
        at += 46 + sum(struct.unpack_from("<3H", decoy, at + 28))
    struct.pack_into("<2L", end, 12, len(decoy), len(packed))
    return packed + listed + empty + decoy + end


BOMB = {"weight": torch.zeros(1_000_000), "bias": torch.zeros(1)}
FILES = {
    "compressed": compressed(BOMB),
    "two lists of members": with_two_lists(BOMB),
    "a list": saved([1]),
    "a tensor": saved(torch.zeros(3)),
    "numbers as names": saved({5: torch.zeros(3)}),
    "texts": saved({"weight": "x"}),
    "a sparse tensor": saved({"weight": torch.zeros(3).to_sparse()}),
    "an older file's list": saved([1], before_zip=True),
    "nothing": b"",
    "a text": b"weights",
    "the start of a zip file": b"PK\3\4" + bytes(200),
}


@pytest.mark.parametrize("file", FILES)
def test_a_strangers_encoder_weights_are_one_sentence(tmp_path, file):
    (tmp_path / "weights.pth").write_bytes(FILES[file])
    with pytest.raises(ValueError, match=r"^model\.encoder_weights=.*weights\.pth is no state dict: [^\n]+$"):
        encoders.load_weights(nn.Linear(2, 2), tmp_path / "weights.pth")


@pytest.mark.parametrize("file", ["compressed", "two lists of members"])
def test_a_checkpoint_that_grows_is_refused_however_it_hides_it(tmp_path, file):
    (tmp_path / "last.pt").write_bytes(FILES[file])
    with pytest.raises(ValueError, match="it holds (compressed data|two lists)"):
        checkpoint.load(tmp_path / "last.pt")


@pytest.mark.parametrize("before_zip", [False, True])
def test_honest_encoder_weights_are_loaded(tmp_path, before_zip):
    given, encoder = nn.Linear(2, 2), nn.Linear(2, 2)
    (tmp_path / "weights.pth").write_bytes(saved(given.state_dict(), before_zip))
    encoders.load_weights(encoder, tmp_path / "weights.pth")
    assert torch.equal(encoder.weight, given.weight)


def test_a_pipe_in_the_place_of_weights_makes_nobody_wait(tmp_path):
    os.mkfifo(tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="no regular file"):
        open_weights_only(tmp_path / "weights.pth", before_zip=True)


@pytest.mark.parametrize("weights", [[1], None, {5: torch.zeros(1)}, {"segmentation_head.0.weight": "x"}], ids=str)
def test_a_run_starts_from_tensors_alone(weights):
    before = finetune.Origin(Path("x.pt"), {"architecture": "x", "ema": None, "model": weights, "config": {}})
    with pytest.raises(ValueError, match=r"x\.pt: its weights are no plain tensors"):
        finetune.load_weights(nn.Linear(1, 1), before, {})


@pytest.mark.parametrize(
    "key, value", [("data.batch_size", 128), ("model.classes", 255), ("model.upsampling", 32)], ids=str
)
def test_values_that_take_the_machine_together_are_refused(key, value):
    group, name = key.split(".")
    config = {"data": {"image_size": 4096}, "model": {}, "trainer": {}}
    config[group][name] = value
    with pytest.raises(ValueError, match=f"{key} with data.image_size=4096"):
        config_rules.refuse_wrong_values(config, complete=False)
    config_rules.refuse_wrong_values(config | {"data": config["data"] | {"image_size": 1024}}, complete=False)


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.RMSprop, partial(torch.optim.SGD, momentum=0.9)])
def test_an_optimizer_that_lacks_what_its_step_reads_is_refused(make):
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = make([weight], lr=0.1)
    refuse_lacking(optimizer)
    weight.grad = torch.ones(2, 2)
    optimizer.step()
    before = {name: value.clone() for name, value in optimizer.state[weight].items()}
    refuse_lacking(optimizer)
    assert all(torch.equal(value, before[name]) for name, value in optimizer.state[weight].items())
    optimizer.state[weight].popitem()
    with pytest.raises(ValueError, match="its optimizer lacks"):
        refuse_lacking(optimizer)
