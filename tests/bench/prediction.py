"""How fast mode=predict is, beside the network alone. Run by hand, on a quiet machine:

    python tests/bench/prediction.py CKPT FOLDER VIDEO

Prints the network's latency by backend, in turn; what mode=predict reaches on the folder and on the video (which is given
a sound first), and the network alone at the same batch.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from statistics import median

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import av
import numpy as np
import torch

from humanseg.predictor import Predictor

RUN = Path(__file__).parents[2] / "run.py"
WAYS = [("torch", "fp32"), ("torch", "bf16"), ("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")]
ROUNDS, TIMES = 5, 10


def latencies(ckpt: str) -> None:
    """Milliseconds of one square through each backend; the backends take turns."""
    predictors = {way: Predictor(ckpt, "cpu", way[1], way[0]) for way in WAYS}
    size = next(iter(predictors.values())).size
    square = torch.randint(0, 256, (1, size, size, 3), dtype=torch.uint8)
    found = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way, predictor in predictors.items():
            predictor.on_squares(square)
            for _ in range(TIMES):
                began = time.perf_counter()
                predictor.on_squares(square)
                found[way].append(1000 * (time.perf_counter() - began))
    for (backend, precision), times in found.items():
        print(f"{backend} {precision}: {median(times):.1f} ms at {size} px", flush=True)
    best = min(median(times) for times in found.values())
    print(f"best / eager fp32: {best / median(found['torch', 'fp32']):.2f}", flush=True)


def alone(ckpt: str, seconds: float = 10) -> float:
    """Squares a second of the network that `backend=auto` chooses."""
    predictor = Predictor(ckpt)
    square = torch.randint(0, 256, (1, predictor.size, predictor.size, 3), dtype=torch.uint8)
    predictor.on_squares(square)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        predictor.on_squares(square)
        count += 1
    return count / (time.perf_counter() - began)


def with_sound(path: str, folder: Path) -> Path:
    """A copy of a video with a tone of its length."""
    result = folder / "sound.mp4"
    with av.open(path) as source, av.open(str(result), "w") as target:
        picture = source.streams.video[0]
        stream, tone = target.add_stream_from_template(picture), target.add_stream("aac", 44100, layout="mono")
        wave = np.sin(np.arange(1024) * 2 * np.pi * 440 / 44100)[None].astype(np.float32) * 0.2
        for packet in source.demux(picture):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
        for number in range(int(float(picture.duration * picture.time_base) * 44100 / 1024)):
            frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 44100, 1024 * number, Fraction(1, 44100)
            target.mux(tone.encode(frame))
        target.mux(tone.encode(None))
    return result


def predict(ckpt: str, source: str | Path, folder: Path, *typed: str) -> float:
    """Run mode=predict; prints its lines and returns pictures a second."""
    command = [sys.executable, RUN, "mode=predict", f"ckpt={ckpt}", f"input={source}", f"out={folder}/out", *typed]
    done = subprocess.run(command, capture_output=True, text=True)
    told = re.findall(r"^(?:speed|     ).*|^flicker.*", done.stdout, re.M)
    print(" ".join(typed), "\n ", "\n  ".join(told) or done.stderr, flush=True)
    return float(re.search(r"^speed +([\d.]+)", done.stdout, re.M)[1])


def main(ckpt: str, photographs: str, video: str) -> None:
    latencies(ckpt)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        network = alone(ckpt)
        print(f"network alone: {network:.1f} squares/s", flush=True)
        for draw in ("mask", "matting"):
            rate = predict(ckpt, photographs, folder, f"draw={draw}", f"output={folder}/{draw}")
            print(f"folder / network alone: {rate / network:.2f}", flush=True)
        sounding = with_sound(video, folder)
        predict(ckpt, sounding, folder, "draw=matting", f"output={folder}/a.mp4")
        predict(
            ckpt, sounding, folder, "draw=background", "background=blur:25", f"output={folder}/b.mp4", "temporal=ema"
        )
        print(f"network alone: {alone(ckpt):.1f} squares/s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
