"""Ray: a local cluster of two workers, one of which is killed, makes the masks of a plain run, byte for byte."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from cracktool.errors import UsageError
from cracktool.images import read_mask
from cracktool.inference import Done, Failed, FolderOptions, Skipped, infer_folder, infer_ray, load_predictor

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own code warns of much
ROOT = Path(__file__).parents[1]
LOAD = {"device": "cpu", "dtype": "float32", "tile": 128}


@pytest.fixture
def ray(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # workers give way to all else, and on a busy machine never begin
    ray.init(num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    yield ray
    ray.shutdown()


def make_photos(folder, count):
    folder.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(120, 190, (150 + index, 200, 3), dtype=np.uint8)
        pixels[:, 60 : 64 + index % 3] = 20
        PillowImage.fromarray(pixels).save(folder / f"{index:02}.png")


def workers():
    import psutil

    mine = psutil.Process().children(recursive=True)
    return [each for each in mine if each.is_running() and "ray::Actor" in " ".join(each.cmdline())]


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(ray, tmp_path):
    pytest.importorskip("psutil")
    photos, out = tmp_path / "in", tmp_path / "ray"
    make_photos(photos, 40)
    (photos / "bad.png").write_bytes(b"no picture")
    killed, results = 0, []
    for result in infer_ray(load_predictor(**LOAD), LOAD, [photos], out, FolderOptions(probs=True), workers=2):
        results.append(result)
        if not killed:
            victims = workers()
            assert len(victims) == 2
            os.kill(victims[0].pid, signal.SIGKILL)
            killed = victims[0].pid
    assert killed
    assert sorted(result.path.name for result in results) == sorted(path.name for path in photos.iterdir())
    assert [result.path.name for result in results if isinstance(result, Failed)] == ["bad.png"]
    predictor = load_predictor(**LOAD)
    plain = list(infer_folder(predictor, [photos], tmp_path / "plain", FolderOptions(probs=True)))
    assert {type(result) for result in plain} == {Done, Failed}
    masks = sorted(path.name for path in (tmp_path / "plain").glob("*.png"))
    assert len(masks) == 80
    for name in masks:
        assert (out / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert not list(out.glob(".*"))  # nor a part of a file
    again = list(infer_folder(predictor, [photos], out, FolderOptions(probs=True)))  # a plain run knows the work
    assert {type(result) for result in again} == {Skipped, Failed}


@pytest.mark.slow
def test_the_example_of_ray_data_gives_the_masks_of_a_plain_run(tmp_path):
    pytest.importorskip("ray.data", reason="needs ray[data]")
    photos, out = tmp_path / "in", tmp_path / "out"
    make_photos(photos, 10)
    (photos / "bad.png").write_bytes(b"no picture")
    env = {**os.environ, "RAY_worker_niceness": "0"}
    run = subprocess.run(
        [sys.executable, ROOT / "examples" / "ray_data.py", photos, out, "1"], capture_output=True, text=True, env=env,
        check=False, timeout=300,
    )  # fmt: skip
    assert run.returncode == 1, run.stderr
    assert f"{photos / 'bad.png'}: not a picture" in run.stderr
    plain = [result for result in infer_folder(load_predictor(), [photos], tmp_path / "plain") if type(result) is Done]
    assert len(plain) == len(list(out.iterdir())) == 10
    for result in plain:
        (mask,) = result.outputs
        assert np.array_equal(read_mask(mask), read_mask(out / mask.name))


class OneProcess:
    """Ray's functions without its processes: an actor works when its result is asked for."""

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return {"CPU": 2}

    def remote(self, **options):
        def actor(kind, work):
            return SimpleNamespace(run=SimpleNamespace(remote=partial(partial, kind(work).run)))

        return lambda kind: SimpleNamespace(remote=partial(actor, kind))

    def wait(self, calls):
        return calls[:1], calls[1:]

    def get(self, call):
        return call()


def test_what_is_there_stays_and_warnings_arrive(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", OneProcess())
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "in", 2)
    predictor, photos, out = load_predictor(**LOAD), [Path("in")], Path("out")
    list(infer_folder(predictor, photos, out))
    (out / "00.png").write_bytes(b"mended")
    writer = cv2.VideoWriter("in/film.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for index in range(20):
        writer.write(np.random.default_rng(index).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    writer.release()
    film = Path("in/film.avi")
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    results = list(infer_ray(predictor, LOAD, photos, out, FolderOptions(probs=True), workers=2))
    assert [type(result) for result in results] == [Done] * 3
    assert [path.exists() for result in results for path in result.outputs] == [True] * 6
    assert (out / "00.png").read_bytes() == b"mended"
    (warning,) = predictor.warnings
    assert "film.avi: only" in warning


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="at least"):
        infer_ray(None, {}, ["x"], tmp_path, FolderOptions(), workers=0)
    with pytest.raises(UsageError, match="dry"):
        infer_ray(None, {}, ["x"], tmp_path, FolderOptions(dry_run=True), workers=2)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'cracktool\[ray\]'"):
        infer_ray(None, {}, ["x"], Path(tmp_path), FolderOptions(), workers=2)
