"""The encoders of the libraries, and their weights from a file."""

from pathlib import Path

from torch import nn

from humanseg.weights import are_plain_tensors, describe, mismatch, open_weights_only


def refuse_foreign(name: str | None) -> None:
    """Refuse a name that neither library lists: timm's may also be those of a hub's repository or of a local folder.

    Raises:
        ValueError: it is such a one.
    """
    import timm
    from segmentation_models_pytorch.encoders import encoders

    if name is not None and name not in encoders and not timm.is_model(str(name).removeprefix("tu-")):
        raise ValueError(f"model.encoder_name={name}: no encoder of segmentation-models-pytorch or timm (tu-NAME)")


def load_weights(encoder: nn.Module, path: Path) -> None:
    """Load a local state dict into an encoder; a classifier's keys are left out.

    Raises:
        ValueError: there is no such file, it is no state dict, or keys or shapes differ (listed).
    """
    if not path.is_file():
        raise ValueError(f"model.encoder_weights={path}: no such file; give null, imagenet or a state dict's path")
    try:
        given = open_weights_only(path, before_zip=True)
    except ValueError as error:
        raise ValueError(f"model.encoder_weights={path} is no state dict: {error}") from error
    if not are_plain_tensors(given):
        raise ValueError(f"model.encoder_weights={path} is no state dict: it holds other things than named tensors")
    expected = encoder.state_dict()
    parts = {key.split(".")[0] for key in expected}
    given = {key: value for key, value in given.items() if key.split(".")[0] in parts}
    counters = {key: value for key, value in expected.items() if key.endswith("num_batches_tracked")}
    given = counters | given  # old files lack the counters, which nothing reads
    if differences := mismatch(expected, given):
        raise ValueError(f"model.encoder_weights={path} does not fit the encoder: {describe(differences)}")
    encoder.load_state_dict(given)
