"""``mode=predict``: drawings of photographs, folders and videos from a checkpoint, and what it refuses."""

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import film

from humanseg.compositing import studio
from humanseg.compositing.flow import Clock
from humanseg.data import colour
from humanseg.data.transforms import unletterbox
from humanseg.inference.temporal import Smoother
from humanseg.media import images
from humanseg.media.video_reader import Video
from humanseg.metrics import person_probability
from humanseg.modes import predict as predict_mode
from humanseg.predictor import Predictor

TORCH = ["backend=torch", "trainer.precision=fp32"]


@pytest.fixture
def predict(run, trained_once, tmp_path):
    """Call mode=predict; returns the output folder or file."""

    def call(*arguments: str, output: Path = tmp_path / "drawn", code: int = 0):
        done = run("mode=predict", f"ckpt={trained_once}", *TORCH, f"output={output}", *arguments, code=code)
        return done if code else output

    return call


def read(path: Path) -> np.ndarray:
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return found if found.ndim == 2 else cv2.cvtColor(found, cv2.COLOR_BGRA2RGBA if found.shape[2] == 4 else 4)


def test_a_photograph_has_the_mask_that_the_predictor_finds_at_its_own_size(predict, trained_once, people, tmp_path):
    photograph = people / "images" / "003.png"
    drawn = predict(f"input={photograph}", output=tmp_path / "mask.png")
    image = cv2.cvtColor(cv2.imread(str(photograph)), cv2.COLOR_BGR2RGB)
    values = Predictor(trained_once, precision="fp32", backend="torch")(image)
    assert read(drawn).tolist() == np.where(values >= 0.5, 255, 0).tolist()


def test_several_drawings_stand_beside_each_other(predict, people):
    names = "mask,matting,cutout,overlay,background,probability"
    folder = predict(f"input={people}/images/003.png", f"draw=[{names}]", "background=color:00b140", "bits=16")
    drawn = {name: read(folder / f"003_{name}.png") for name in names.split(",")}
    assert {name: picture.shape[2:] for name, picture in drawn.items()} == {
        **dict.fromkeys(("mask", "probability"), ()), **dict.fromkeys(("matting", "overlay", "background"), (3,)), "cutout": (4,)
    }  # fmt: skip
    assert drawn["probability"].dtype == np.uint16 and set(np.unique(drawn["mask"])) <= {0, 255}
    share, person = drawn["cutout"][..., 3:] / 255, drawn["cutout"][..., :3]
    for name, behind in (("matting", (255, 255, 255)), ("background", (0, 177, 64))):
        assert np.abs(drawn[name] - (share * person + (1 - share) * behind)).max() <= 2


def test_a_folder_keeps_its_structure_and_what_is_finished_is_skipped(run, predict, people, tmp_path):
    shutil.move(people / "images" / "000.png", people / "masks" / "x.png")
    (tmp_path / "deep" / "down").mkdir(parents=True)
    for name in ("001", "002"):
        shutil.copy(people / "images" / f"{name}.png", tmp_path / "deep" / f"{name}.png")
    shutil.copy(people / "images" / "003.png", tmp_path / "deep" / "down" / "003.png")
    folder = predict(f"input={tmp_path}/deep")
    drawn = {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
    assert drawn == {"001.png", "002.png", "down/003.png"}

    (folder / "002.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    predict(f"input={tmp_path}/deep")
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items()) and (folder / "002.png").exists()
    predict(f"input={tmp_path}/deep", "overwrite=true")
    assert all(path.stat().st_mtime_ns != stamp for path, stamp in before.items())


def test_what_a_photographs_own_alpha_hides_is_not_in_a_cutout(predict, people):
    image = read(people / "images" / "003.png")
    alpha = np.full((48, 40, 1), 255, np.uint8)
    alpha[:20], alpha[20:30] = 0, 102
    magenta = np.where(alpha, image, np.array([255, 0, 255], np.uint8))
    cv2.imwrite(str(people / "hidden.png"), np.dstack([magenta, alpha])[..., [2, 1, 0, 3]])
    folder = predict(f"input={people}/hidden.png", "draw=[cutout,matting,mask]", "threshold=0.02")
    cut, matting = read(folder / "hidden_cutout.png"), read(folder / "hidden_matting.png")
    assert (cut[:20] == 0).all() and cut[20:30, :, 3].max() <= 102 and cut[30:, :, 3].max() == 255
    assert (matting[:20] == 255).all() and (read(folder / "hidden_mask.png")[:20] == 0).all()
    shown = cut[20:30][cut[20:30, :, 3] > 0]
    assert np.isin(shown[:, :3], image[20:30]).all()  # its own colours, not mixed with what is behind


def test_a_large_photograph_is_drawn_in_strips_as_a_small_one_is(predict, people, tmp_path, monkeypatch):
    names = "draw=[mask,matting,cutout,overlay,background,probability]"
    cv2.imwrite(
        str(people / "images" / "large.png"), cv2.resize(cv2.imread(str(people / "images" / "003.png")), (400, 480))
    )
    for number, extra in enumerate(
        (["background=blur:3"], ["background=blur:9", "refine=false", "keep_largest=true", "fill_holes=true"])
    ):
        arguments = [f"input={people}/images", names, *extra]
        whole = predict(*arguments, output=tmp_path / f"whole{number}")
        monkeypatch.setattr(studio, "LARGE", 10_000)
        monkeypatch.setattr(predict_mode, "LARGE", 10_000)
        monkeypatch.setattr(colour, "STRIP", 20_000)
        strips = predict(*arguments, output=tmp_path / f"strips{number}")
        monkeypatch.undo()
        for name in sorted(path.name for path in whole.glob("*.png")):
            planes = [read(folder / name)[..., -1 if "cutout" in name else slice(None)] for folder in (whole, strips)]
            difference = np.abs(planes[0].astype(int) - planes[1])
            assert difference.mean() < 0.5 and (name.endswith("mask.png") or difference.max() <= 6), name


def test_photographs_that_are_too_large_are_told_and_the_others_drawn(predict, people):
    for name in ("first.bmp", "second.bmp"):
        cv2.imwrite(str(people / "images" / name), np.zeros((8, 8, 3), np.uint8))
        with open(people / "images" / name, "r+b") as file:
            file.seek(18)
            file.write((100_000).to_bytes(4, "little") * 2)
    done = predict(f"input={people}/images", code=1)
    assert (
        "2 of 14 photographs failed" in done.stderr and "first.bmp can't be read: it has 100000x100000" in done.stderr
    )
    assert len(list((people.parent / "drawn").glob("*.png"))) == 12


def test_results_within_the_input_are_not_taken_for_photographs(predict, people):
    for _ in range(2):
        predict(f"input={people}/images", output=people / "images" / "drawn")
    assert not (people / "images" / "drawn" / "drawn").exists()


def test_one_unreadable_photograph_does_not_stop_the_others(predict, people):
    (people / "images" / "005.png").write_bytes(b"")
    whole = (people / "images" / "007.png").read_bytes()
    (people / "images" / "007.png").write_bytes(whole[: len(whole) // 2])
    (people / "images" / "itself.png").symlink_to("itself.png")
    done = predict(f"input={people}/images", code=1)
    drawn = sorted(path.stem for path in (people.parent / "drawn").glob("*.png"))
    assert drawn == [f"{number:03d}" for number in range(12) if number not in (5, 7)]
    assert "3 of 13 photographs failed" in done.stderr
    assert all(f"{name}.png can't be read" in done.stderr for name in ("005", "007", "itself"))


def test_a_result_that_is_too_large_for_its_format_is_refused_before_the_network_runs(
    predict, people, monkeypatch, tmp_path
):
    monkeypatch.setattr(images, "LARGE", 100)
    monkeypatch.setattr(studio.Studio, "logits", lambda *_: pytest.fail("the network ran"))
    told = predict(f"input={people}/images/000.png", output=tmp_path / "a.webp", code=1).stderr
    assert "a.webp can't be written" in told and "give .png or .tif" in told and "Traceback" not in told


def test_a_full_disk_ends_it_at_the_first_photograph(predict, people, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(images, "write_bytes", full)
    told = predict(f"input={people}/images", code=1).stderr
    assert told.count("No space left on device") == 1 and "can't be written" in told and "Traceback" not in told


def test_mirrored_and_scaled_views_are_averaged(predict, trained_once, people, tmp_path):
    photograph = people / "images" / "003.png"
    kinds = ["draw=probability", "bits=16", f"input={photograph}", "refine=false"]
    plain, flipped, scaled = (
        read(predict(*kinds, f"tta={tta}", output=tmp_path / f"{name}.png")) / 65535
        for name, tta in (("plain", "[]"), ("flip", "flip"), ("scales", "[flip,2]"))
    )
    predictor = Predictor(trained_once, precision="fp32", backend="torch")
    image = cv2.cvtColor(cv2.imread(str(photograph)), cv2.COLOR_BGR2RGB)
    squares = predictor.squares([image])
    mean = (predictor.on_squares(squares) + predictor.on_squares(squares.flip(2)).flip(3)) / 2
    expected = person_probability(unletterbox(mean[0], *image.shape[:2])[None])[0].numpy()
    assert np.abs(expected - flipped).max() < 1e-4
    assert np.abs(plain - flipped).max() > 1e-3 and np.abs(scaled - flipped).max() > 1e-3


def test_photographs_alone_are_looked_at_twice(predict, people, tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(Predictor, "look_closer", lambda _, found, images: looked.append(len(images)) or list(found))
    photograph = people / "images" / "003.png"
    for what, tta, times in ((film(tmp_path / "film.mp4"), "auto", 0), (photograph, "[]", 0), (photograph, "auto", 1)):
        predict(f"input={what}", f"tta={tta}", output=tmp_path / f"drawn{tta}{what.suffix}")
        assert sum(looked) == times, (what, tta)


def test_a_view_at_a_larger_scale_sees_the_photographs_own_detail(trained_once, people):
    predictor = Predictor(trained_once, precision="fp32", backend="torch")
    image = cv2.cvtColor(cv2.imread(str(people / "images" / "003.png")), cv2.COLOR_BGR2RGB)
    drawing = studio.Studio(predictor, None, [1.0, 2.0], False, 1, Clock())
    picture = drawing.prepare(studio.Picture(image))
    large = predictor.squares([image], 2 * predictor.size)
    assert torch.equal(picture.square, large[0])
    found, own = drawing.logits(large), predictor.on_squares(large)
    assert found.shape == own.shape and torch.equal(replace(drawing, scales=[2.0]).logits(large), own)


def test_a_video_keeps_its_length_size_and_rate(predict, tmp_path):
    drawn = predict(f"input={film(tmp_path / 'film.mp4')}", output=tmp_path / "drawn.mp4")
    with Video(drawn) as video:
        frames = list(video)
        assert (video.width, video.height, video.rate, len(frames)) == (64, 48, 25, 12)
    folder = predict(f"input={tmp_path}/film.mp4", "draw=[mask,background]", "background=blur:5", "every=3")
    with Video(folder / "film_mask.mp4") as video:
        assert len(list(video)) == 4


def test_a_folder_of_videos_is_drawn_and_what_is_finished_is_skipped(predict, tmp_path):
    (tmp_path / "films" / "sub").mkdir(parents=True)
    for name in ("a.mp4", "a.mov", "sub/b.mkv"):
        film(tmp_path / "films" / name, frames=3)
    (tmp_path / "films" / "bad.mp4").write_text("no video")
    done = predict(f"input={tmp_path}/films", "draw=cutout", "format=mov", code=1)
    assert "1 of 4 videos failed, the others are drawn" in done.stderr and "bad.mp4" in done.stderr
    folder = tmp_path / "drawn"
    made = {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*.mov")}
    assert len(made) == 3 and Path("sub/b.mov") in made

    (tmp_path / "films" / "bad.mp4").unlink()
    (folder / "sub" / "b.mov").unlink()
    film(tmp_path / "films" / "a.mp4", frames=5)  # another video in its place
    predict(f"input=[{tmp_path}/films/a.mov,{tmp_path}/films/a.mp4,{tmp_path}/films/sub]", "draw=cutout", "format=mov")
    again = {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*.mov")}
    assert again.keys() == made.keys() and len({*again.items()} & {*made.items()}) == 1


def test_frames_of_a_video_become_numbered_pictures(predict, tmp_path):
    folder = predict(
        f"input={film(tmp_path / 'film.mp4', frames=3)}", "draw=[cutout,probability]", "format=png", "bits=16"
    )
    assert len(list(folder.glob("film_cutout/0000?.png"))) == 3
    assert read(folder / "film_probability" / "00003.png").dtype == np.uint16


def test_a_video_moves_behind_a_person_in_a_video(predict, tmp_path):
    film(tmp_path / "film.mp4")
    film(tmp_path / "behind.mp4", frames=5, size=(32, 32))  # shorter: it begins again
    drawn = predict(
        f"input={tmp_path}/film.mp4",
        "draw=background",
        f"background={tmp_path}/behind.mp4",
        output=tmp_path / "new.mp4",
    )
    with Video(drawn) as video:
        assert len(list(video)) == 12


def test_a_camera_is_drawn_until_it_ends(run, trained_once, tmp_path):
    done = run("mode=predict", f"ckpt={trained_once}", *TORCH, f"input={film(tmp_path / 'film.mp4')}", "live=true")
    assert "http://127.0.0.1:" in done.stdout and "frames/s" in done.stdout
    assert "result" not in done.stdout  # nothing is stored


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ([], "input=None"),
        (["input=nowhere.jpg"], "nowhere.jpg"),
        (["input={people}/images", "draw=sketch"], "draw=sketch: give mask, matting"),
        (["input={people}/images", "draw=[]"], "draw=[]: give mask, matting"),
        (["input={people}/images", "draw=background"], "needs background="),
        (["input={people}/images", "background=blur:3"], "draw=background"),
        (
            ["input={people}/images", "draw=background", "background=nowhere.jpg"],
            "background=nowhere.jpg: no such file",
        ),
        (["input={people}/images", "threshold=2", "tta=rotate"], "threshold=2"),
        (["input={people}/images", "colors=[red,blue]", "draw=overlay"], "six hexadecimal digits"),
        (["input={people}/images", "output={people}/images"], "would overwrite its input"),
        (["input={people}/images/001.png", "output={people}/images/001.png"], "would overwrite its input"),
        (["input={people}/images", "output=all.png"], "is one file"),
        (["input={people}/images", "output=all.mp4"], "output=all.mp4 can't be written: give a name in .avif, .bmp"),
        (["input={people}/images/001.png", "output=cut.xyz"], "output=cut.xyz can't be written"),
        (["input={people}/images/001.png", "output=p.webp", "draw=probability", "bits=16"], "can't hold bits=16"),
        (["input={people}/images", "backend=abacus"], "backend=abacus"),
        (["input={people}/film.mp4", "output={people}/cut.avi"], "cut.avi can't be written"),
        (["input={people}/film.mp4", "output={people}/cut.tif"], "cut.tif can't be written"),
        (["input={people}/film.mp4", "output=a.mp4", "draw=probability", "bits=16"], "a.mp4 can't hold bits=16"),
        (["input={people}/film.mp4", "format=avi"], "format=avi: give mp4, mov"),
        (["input={people}/film.mp4", "live=true", "output=a.mp4", "end=2"], "output=a.mp4, end=2: leave this out"),
        (["input={people}/images", "end=2"], "end=2: leave this out, for photographs are no video"),
    ],
)
def test_what_is_wrong_is_named(run, trained_once, people, tmp_path, typed, named):
    typed = [one.replace("{people}", str(people)) for one in typed]
    (people / "film.mp4").write_text("not looked at before")
    done = run("mode=predict", f"ckpt={trained_once}", *typed, code=1)
    assert named in done.stderr and "Traceback" not in done.stderr


def test_an_existing_video_is_not_overwritten_unasked(predict, tmp_path):
    film(tmp_path / "film.mp4")
    (tmp_path / "there.mp4").write_text("mine")
    done = predict(f"input={tmp_path}/film.mp4", output=tmp_path / "there.mp4", code=1)
    assert "overwrite=true" in done.stderr and (tmp_path / "there.mp4").read_text() == "mine"


def squares_and_logits(frames: int = 30):
    """A picture that stands still on the left and flashes on the right, and logits that flicker everywhere."""
    generator = np.random.default_rng(0)
    still = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for number in range(frames):
        square = still.copy()
        square[:, 16:] = 200 * (number % 2)
        yield torch.from_numpy(square), torch.from_numpy(generator.normal(0, 1, (1, 32, 32)).astype(np.float32))


def test_smoothing_steadies_what_stands_still_and_leaves_what_moves():
    smoother, held, given = Smoother("ema"), [], []
    for square, logits in squares_and_logits():
        held.append(smoother(square, logits).numpy()), given.append(logits.numpy())
    before, after = smoother.flicker()
    assert after < 0.5 * before
    right = np.s_[:, :, :, 22:]
    assert np.abs(np.array(held)[right] - np.array(given)[right]).mean() < 0.05
    left = np.s_[10:, :, :, :8]
    assert np.array(held)[left].std() < 0.6 * np.array(given)[left].std()


def test_without_smoothing_logits_stay_and_flicker_is_measured():
    smoother = Smoother("none")
    assert all(torch.equal(smoother(square, logits), logits) for square, logits in squares_and_logits(5))
    before, after = smoother.flicker()
    assert before == after > 0.3
    assert np.isnan(Smoother("none").flicker()).all()


def test_the_summary_says_what_was_done(run, trained_once, people):
    done = run("mode=predict", f"ckpt={trained_once}", *TORCH, f"input={people}/images")
    (result,) = [line for line in done.stdout.splitlines() if line.startswith("result ")]
    told = json.loads((Path(result.split()[1]) / "summary.json").read_text())
    assert told["status"] == "completed" and told["photographs"] == 12 and told["ckpt"].endswith("best.pt")
