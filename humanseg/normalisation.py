"""The mean and standard deviation of the photographs that an encoder was pretrained on."""

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
IN_TIMM = {  # encoders of SMP with other values than ImageNet's, by the names of their weights in timm
    "inceptionresnetv2": "inception_resnet_v2",
    "inceptionv4": "inception_v4",
    "xception": "legacy_xception",
    "dpn68b": "dpn68b.mx_in1k",
    **{name: name for name in ("dpn68", "dpn92", "dpn98", "dpn107", "dpn131")},
}


def of_encoder(encoder: str | None, weights: str | None) -> dict[str, list[float]]:
    """`mean` and `std`, each for red, green and blue in [0, 1]; ImageNet's where nobody has trained the encoder.

    SMP keeps its encoders' values beside their weights, on a server. timm has the same ones in its code.

    Args:
        encoder, weights: `model.encoder_name` and `model.encoder_weights`.
    """
    name = _in_timm(str(encoder), weights)
    if not name:
        return IMAGENET
    from timm.models import get_pretrained_cfg  # it imports torch, which composing a config need not wait for

    trained = get_pretrained_cfg(name, allow_unregistered=True)
    if trained is None or len(trained.mean) != 3:
        return IMAGENET
    return {"mean": [*trained.mean], "std": [*trained.std]}


def _in_timm(encoder: str, weights: str | None) -> str | None:
    kind, _, name = encoder.partition("-")
    if kind == "tu":
        return name
    if encoder.startswith("timm-efficientnet-"):  # the weights decide; only those of one kind have values of their own
        return f"tf_efficientnet_{encoder.rpartition('-')[2]}.ap_in1k" if weights == "advprop" else None
    if kind == "timm":
        return name
    return IN_TIMM.get(encoder)
