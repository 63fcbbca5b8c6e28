"""The example beside an exported file: a program of some 15 lines that uses the file without this project."""

from humanseg.export.writing import Recipe

OPEN = {
    "onnx": (
        "onnxruntime",
        'model = onnxruntime.InferenceSession(Path(__file__).with_name("FILE"))',
        'model.run(None, {"image": IMAGE})[0][0]',
    ),
    "openvino": (
        "openvino",
        'model = openvino.compile_model(Path(__file__).with_name("FILE"), "CPU")',
        "model(IMAGE)[0][0]",
    ),
}
HEAD = """\
# python {name} photo.jpg mask.png: the people in a photograph, white on black. pip install numpy pillow {package}
import sys
from pathlib import Path

import numpy as np
import {package}
from PIL import Image, ImageOps

photo = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
{open}
"""
WHOLE = """\
probability = {run}
Image.fromarray((probability > 0.5).astype(np.uint8) * 255).save(sys.argv[2])
"""
PARTS = """\
scale = {size} / max(photo.size)
width, height = (max(round(side * scale), 1) for side in photo.size)
left, top = ({size} - width) // 2, ({size} - height) // 2
square = Image.new("RGB", ({size}, {size}), ({pad_value},) * 3)
square.paste(photo.resize((width, height), Image.BOX if scale < 1 else Image.BILINEAR), (left, top))
image = (np.float32(square) / 255 - np.float32({mean})) / np.float32({std})
logits = {run}[:, top : top + height, left : left + width]
person = {person}  # above 0 where a person is
Image.fromarray((np.array(Image.fromarray(person).resize(photo.size, Image.BILINEAR)) > 0)).save(sys.argv[2])
"""


def program(file: str, name: str, classes: int, recipe: Recipe) -> str:
    """The text of the example for an exported file beside it."""
    package, opened, run = OPEN[recipe.format]
    head = HEAD.format(name=name, package=package, open=opened.replace("FILE", file))
    if recipe.end_to_end:
        return head + WHOLE.format(run=run.replace("IMAGE", "np.array(photo)[None]"))
    return head + PARTS.format(
        size=recipe.image_size,
        pad_value=recipe.pad_value,
        mean=recipe.mean,
        std=recipe.std,
        run=run.replace("IMAGE", "image.transpose(2, 0, 1)[None]"),
        person="logits[0]" if classes == 1 else "logits[1] - np.delete(logits, 1, 0).max(0)",
    )
