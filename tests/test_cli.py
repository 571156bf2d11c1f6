"""The command line as its users meet it: options, lines, exit codes."""

import codecs
import io
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cracktool import __version__, cli
from cracktool.cli.screen import print_table
from cracktool.images import encode_jpeg, read_image, read_mask
from cracktool.inference.converted import converted_file
from cracktool.registry import shipped_weights

COMMANDS = ("prepare", "train", "eval", "infer", "export")
CRACK = [sys.executable, "-m", "cracktool"]


@pytest.fixture
def crack(monkeypatch, capfd):
    """Run a command in this process and return its exit code, stdout and stderr."""

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["crack", *map(str, args)])
        code = 0
        try:
            cli.main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def photos(tmp_path):
    """Two small photos with a dark line, one in a sub-folder."""
    folder = tmp_path / "photos"
    for name in ("one.jpg", "walls/two.jpg"):
        picture = np.random.default_rng(1).integers(150, 190, (70, 90, 3), dtype=np.uint8)
        picture[:, 40:44] = 30
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode_jpeg(picture))
    return folder


def test_there_are_five_commands(crack):
    code, out, _ = crack("--help")
    assert code == 0
    assert [name for name in COMMANDS if f"  {name} " in out] == list(COMMANDS)


def test_version(crack):
    assert crack("--version") == (0, f"{__version__}\n", "")


def test_help_costs_less_than_three_tenths_of_a_second():
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*CRACK, "--help"], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.3


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_ends_with_an_example(crack, command):
    code, out, _ = crack(command, "--help")
    assert code == 0
    assert f"Example: crack {command} " in out


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["infr"], 2, "infer"),
        (["infer"], 2, "crack infer photos/"),
        (["infer", "nowhere"], 1, "nowhere"),
        (["infer", "x.jpg", "--device", "cuda:9"], 2, "cuda"),
        (["infer", "x.jpg", "--weights", "nowhere.safetensors"], 1, "no such weights file"),
        (["infer", "x.jpg", "--threshold", "1.5"], 2, "threshold"),
        (["infer", "x.jpg", "-o", "x.png"], 2, "masks go into a folder"),
        (["train", "--model", "unet_resnet81"], 2, "unet_resnet18"),
        (["train"], 2, "--model"),
        (["train", "--model", "unet_resnet18", "--data", "nowhere"], 1, "no dataset table"),
        (["train", "--recipe", "fats"], 2, "fast"),
        (["train", "--model", "unet_resnet18", "--set", "lr=fast"], 2, "a number"),
        (["train", "--model", "unet_resnet18", "--set", "augment.blurr=1"], 2, "blur"),
        (["prepare", "crack50"], 2, "crack500"),
        (["prepare"], 2, "crack prepare --list"),
        (["prepare", "deepcrack", "nowhere"], 1, "train_img"),
        (["eval", "nowhere"], 1, "no dataset table"),
        (["export", "-o", "crack.tflite"], 2, ".onnx"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(crack, tmp_path, monkeypatch, args, code, words):
    monkeypatch.chdir(tmp_path)
    found, out, err = crack(*args)
    assert (found, out) == (code, "")
    assert words in err
    assert "Traceback" not in err
    said = [line for line in err.splitlines() if line.startswith(("crack:", "Error:"))]
    assert len(said) == 1
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_an_error_comes_from():
    result = subprocess.run([*CRACK, "eval", "nowhere", "--debug"], capture_output=True, text=True, check=False)
    assert "Traceback" in result.stderr


def test_infer_writes_masks_and_prints_their_paths(crack, photos, tmp_path):
    out = tmp_path / "masks"
    code, printed, err = crack("infer", photos, "-o", out, "--overlay", "--probs")
    assert code == 0
    assert printed.split() == [str(out / "one.png"), str(out / "walls" / "two.png")]
    assert "CPU" in err or "CUDA" in err
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    stems = ("one", "walls/two")
    assert names == {"crack-infer.jsonl"} | {
        f"{stem}{end}" for stem in stems for end in (".png", ".probs.png", ".overlay.jpg")
    }
    mask = np.asarray(Image.open(out / "one.png"))
    assert mask.shape == (70, 90)
    assert set(np.unique(mask)) <= {0, 255}
    levels = np.asarray(Image.open(out / "one.probs.png"))
    assert np.array_equal(levels >= 128, mask > 0)


def test_infer_prints_json_lines(crack, photos, tmp_path):
    code, printed, _ = crack("infer", photos, "-o", tmp_path / "masks", "--json", "--quiet")
    lines = [json.loads(line) for line in printed.splitlines()]
    assert code == 0
    assert [line["path"] for line in lines] == [str(photos / "one.jpg"), str(photos / "walls" / "two.jpg")]
    for line in lines:
        assert (line["status"], line["height"], line["width"]) == ("done", 70, 90)
        mask = read_mask(line["outputs"][0])
        assert line["crack_fraction"] == pytest.approx(mask.mean(), abs=1e-6)
        assert line["seconds"] > 0


def test_infer_is_quiet_when_asked(crack, photos, tmp_path):
    assert crack("infer", photos, "-o", tmp_path / "masks", "--quiet")[2] == ""


def test_a_broken_photo_does_not_stop_the_others(crack, photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"no picture")
    code, printed, err = crack("infer", photos, "-o", tmp_path / "masks", "--quiet")
    assert code == 1
    assert len(printed.splitlines()) == 2
    assert err == f"crack: {photos / 'broken.jpg'}: not a picture, or damaged (copy it again from its origin)\n"


def test_finished_work_is_kept_and_foreign_files_are_refused(crack, photos, tmp_path):
    out = tmp_path / "masks"
    crack("infer", photos, "-o", out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    code, printed, _ = crack("infer", photos, "-o", out)
    assert (code, len(printed.splitlines())) == (0, 2)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before
    code, _, err = crack("infer", photos, "-o", out, "--threshold", "0.3")
    assert (code, err.count("--overwrite")) == (1, 2)
    code, _, err = crack("infer", photos, "-o", out, "--threshold", "0.3", "--resume")
    assert code == 2
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before
    assert crack("infer", photos, "-o", out, "--threshold", "0.3", "--overwrite")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} != before


def test_dry_run_writes_nothing(crack, photos, tmp_path):
    code, printed, err = crack("infer", photos, "-o", tmp_path / "masks", "--dry-run")
    assert (code, len(printed.splitlines())) == (0, 2)
    assert re.search(r"2 photos, 0\.0 megapixels, \d+ tiles: about \d+ s and \d\.\d GB of memory", err)
    assert not (tmp_path / "masks").exists()


def test_dry_run_leaves_out_what_is_there(crack, photos, tmp_path):
    first, second = crack("infer", photos, "-o", tmp_path / "masks", "--dry-run")[1].splitlines()
    crack("infer", photos, "-o", tmp_path / "masks")
    code, printed, err = crack("infer", photos, "-o", tmp_path / "masks", "--dry-run")
    assert (code, printed) == (0, "")
    assert "\n0 photos" in err
    Path(second).unlink()
    code, printed, err = crack("infer", photos, "-o", tmp_path / "masks", "--dry-run")
    assert (code, printed) == (0, f"{second}\n")
    assert "\n1 photos" in err
    assert Path(first).exists()


def test_shards_share_the_work(crack, photos, tmp_path):
    for number in range(6):
        (photos / f"more{number}.jpg").write_bytes((photos / "one.jpg").read_bytes())
    (photos / os.fsdecode(b"caf\xe9.jpg")).write_bytes((photos / "one.jpg").read_bytes())
    whole = crack("infer", photos, "-o", tmp_path / "masks", "--dry-run")[1].split()
    parts = [crack("infer", photos, "-o", tmp_path / "masks", "--shard", f"{part}/3")[1].split() for part in (1, 2, 3)]
    assert sorted(path for part in parts for path in part) == sorted(whole)
    assert all(part for part in parts)
    assert len(list((tmp_path / "masks").glob("crack-infer.*-of-3.jsonl"))) == 3
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "masks").rglob("*.png")}
    assert crack("infer", photos, "-o", tmp_path / "masks")[0] == 0  # the parts' work is known
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "masks").rglob("*.png")} == stamps
    code, _, err = crack("infer", photos, "-o", tmp_path / "masks", "--shard", "4/3")
    assert code == 2
    assert "not of the form i/n" in err


def test_inputs_from_a_list(crack, photos, tmp_path):
    (tmp_path / "list.txt").write_text(f"{photos / 'one.jpg'}\n")
    code, printed, _ = crack("infer", "--files-from", tmp_path / "list.txt", "-o", tmp_path / "masks")
    assert (code, printed.split()) == (0, [str(tmp_path / "masks" / "one.png")])


def test_bytes_in_bytes_out(photos, tmp_path):
    data = (photos / "one.jpg").read_bytes()
    result = subprocess.run([*CRACK, "infer", "-", "-o", "-", "--quiet"], input=data, capture_output=True, check=True)
    assert result.stderr == b""
    assert read_mask(result.stdout).shape == (70, 90)
    broken = subprocess.run([*CRACK, "infer", "-", "-o", "-", "-q"], input=data[:500], capture_output=True, check=False)
    assert (broken.returncode, broken.stdout) == (1, b"")
    assert broken.stderr.count(b"\n") == 1


@pytest.mark.parametrize("code", [0, 1])
def test_work_goes_on_when_the_reader_has_gone(photos, tmp_path, code):
    if code:
        (photos / "broken.jpg").write_bytes(b"")
    command = [*CRACK, "infer", photos, "-o", tmp_path / "masks", "--measure"]
    for stderr in (subprocess.PIPE, subprocess.STDOUT):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr) as process:
            process.stdout.close()
            errors = process.stderr.read().decode() if process.stderr else ""
        assert process.returncode == code
        assert ("rror" in errors, errors.count("crack:")) == (False, code if process.stderr else 0)
        assert {"one.png", "walls", "cracks.csv"} <= {path.name for path in (tmp_path / "masks").iterdir()}
        shutil.rmtree(tmp_path / "masks")


def test_closed_streams_and_a_full_disk(photos, tmp_path):
    command = f"{shlex.join(CRACK)} infer {photos} -o {tmp_path / 'masks'} -q "
    assert subprocess.run(f"{command} >&- 2>&- <&-", shell=True, check=False).returncode == 0
    full = subprocess.run(f"{command} > /dev/full", shell=True, check=False, capture_output=True, text=True)
    assert (full.returncode, full.stderr) == (1, "crack: <stdout>: cannot be written: No space left on device\n")


def test_nothing_is_reported_to_the_maker_of_a_runtime(photos, tmp_path):
    env = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    env |= {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home" / ".cache")}
    command = [*CRACK, "infer", photos / "one.jpg", "-o", tmp_path / "masks", "--device", "cpu", "--dtype", "float32"]
    done = subprocess.run(command, env=env, check=True, capture_output=True)
    assert b"ONNX Runtime" in done.stderr
    assert not list(tmp_path.glob("home/.cache/Microsoft*"))  # where reports wait to be sent


def test_one_photo_writes_over_nothing_and_takes_no_options_of_many(crack, photos, tmp_path):
    photo, out = photos / "one.jpg", tmp_path / "mask.png"
    photo.rename(tmp_path / "-")
    here = {"cwd": tmp_path, "capture_output": True, "check": False, "input": (tmp_path / "-").read_bytes()}
    first, again, forced, odd, folder = (
        subprocess.run([*CRACK, "infer", "-", "-q", *words], **here)
        for words in (
            ["-o", out],
            ["-o", out],
            ["-o", out, "--overwrite"],
            ["-o", "-", "--json", "--shard", "1/2"],
            [],
        )
    )
    assert [each.returncode for each in (first, again, forced, odd, folder)] == [0, 1, 0, 2, 2]
    assert b"mask.png: exists already" in again.stderr
    assert b"leave --json, --shard out" in odd.stderr
    assert b"the mask of - is a PNG file" in folder.stderr


def test_names_of_any_bytes_come_from_a_list(crack, photos, tmp_path):
    names = [os.fsencode(photos / "new\nline.jpg"), os.fsencode(photos) + b"/l\xe4tin.jpg"]
    for name in names:
        Path(os.fsdecode(name)).write_bytes((photos / "one.jpg").read_bytes())
    command = [*CRACK, "infer", "-o", tmp_path / "out", "-q", "--files-from"]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(
        [*command, "-"], input=b"\0".join(names), capture_output=True, check=True, env=strict, cwd=tmp_path
    )
    assert done.stdout.count(b".png") == 2
    (tmp_path / "list.txt").write_bytes(codecs.BOM_UTF8 + os.fsencode(photos / "one.jpg") + b"\r\n")
    assert subprocess.run([*command, "list.txt"], check=False, cwd=tmp_path, capture_output=True).returncode == 0


def test_an_interrupt_leaves_with_130(photos, tmp_path):
    for number in range(200):
        (photos / f"more{number}.jpg").write_bytes((photos / "one.jpg").read_bytes())
    command = [*CRACK, "infer", photos, "-o", tmp_path / "masks", "-q"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()  # the first mask is written
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert b"finishing the photos under way" in errors
    assert b"the same command goes on" in errors
    assert not list((tmp_path / "masks").glob(".*"))
    journal = (tmp_path / "masks" / "crack-infer.jsonl").read_text().splitlines()
    assert len(journal) == len(list((tmp_path / "masks").rglob("*.png"))) < 200
    for mask in (tmp_path / "masks").glob("*.png"):
        read_image(mask)  # whole


def test_prepare_then_eval(crack, photos, tmp_path):
    raw, data = tmp_path / "raw", tmp_path / "data"
    for name in ("a", "b", "c"):
        picture = np.random.default_rng(ord(name)).integers(150, 190, (64, 80, 3), dtype=np.uint8)
        mask = np.zeros((64, 80), np.uint8)
        mask[:, 40:44] = 255
        for kind, content in (("images", picture), ("masks", mask)):
            (raw / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(raw / kind / f"{name}.png")
    code, printed, err = crack("prepare", "folder", raw, "-o", data, "--split", "0/0/1")
    assert (code, printed) == (0, f"{data / 'manifest.csv'}\n")
    assert "test\t3" in err
    code, printed, _ = crack("eval", data, "--masks", data / "masks", "-o", tmp_path / "report", "-q")
    table = dict(line.split("\t")[:2] for line in printed.splitlines())
    assert (code, table["iou"], table["recall"]) == (0, "1.000 [1.000, 1.000]", "1.000 [1.000, 1.000]")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "report.html", "report.json", "per_image.csv", "confusion.png", "spread.png", "figures",
    }  # fmt: skip
    code, printed, _ = crack("eval", data, "--json", "-q", "--figures", "0")
    report = json.loads(printed)
    assert (code, report["images"], report["split"]) == (0, 3, "test")
    assert report["origin"]["digest"]
    assert report["origin"]["settings"]["tta"] is False
    flipped = json.loads(crack("eval", data, "--tta", "--json", "-q", "--figures", "0")[1])
    assert flipped["origin"]["settings"]["tta"] is True
    assert flipped["scores"]["brier"] != report["scores"]["brier"]
    exported = converted_file(shipped_weights())
    code, printed, err = crack("eval", data, "--weights", exported, "--json", "--figures", "0")
    assert code == 0
    assert json.loads(printed)["scores"]["iou"]["pooled"] == pytest.approx(report["scores"]["iou"]["pooled"], abs=1e-3)
    assert "ONNX Runtime" in err


@pytest.fixture
def two_sets(crack, tmp_path):
    """Two prepared sets of four photos with a dark bar, and masks that find half of it."""
    for name in ("one", "two"):
        put_pairs(tmp_path / "raw" / name, 4)
        crack("prepare", "folder", tmp_path / "raw" / name, "-o", tmp_path / name, "--split", "0/0/1", "-q")
        (tmp_path / "half" / name).mkdir(parents=True)
        for path in (tmp_path / name / "masks").iterdir():
            mask = np.array(Image.open(path))
            mask[:32] = 0
            Image.fromarray(mask).save(tmp_path / "half" / name / path.name)
    return tmp_path / "one", tmp_path / "two", tmp_path / "half"


def test_sets_and_predictions_make_a_matrix(crack, two_sets, tmp_path):
    one, two, half = two_sets
    given = ("--masks", half, "--masks", one / "masks", "-o", tmp_path / "out", "--score", "recall", "-q")
    code, printed, err = crack("eval", one, two, *given)
    assert (code, err) == (0, "")
    assert [line.split("\t") for line in printed.splitlines()] == [
        ["recall", "one test", "two test", "mean"],
        [str(half), "0.500 [0.500, 0.500]", "0.500 [0.500, 0.500]", "0.500"],
        [str(one / "masks"), "1.000 [1.000, 1.000]", "1.000 [1.000, 1.000]", "1.000"],
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("one-1", "one-2", "two-1", "two-2", "matrix.csv", "matrix.md", "matrix.tex")
    }
    assert (tmp_path / "out" / "two-2" / "report.html").is_file()
    code, _, err = crack("eval", one, one, "--masks", half)
    assert (code, "named twice" in err) == (2, True)


def test_two_predictions_of_one_set_are_compared(crack, two_sets):
    one, _, half = two_sets
    code, printed, _ = crack("eval", one, "--masks", half, "--masks", one / "masks", "-q", "--format", "md")
    assert code == 0
    assert f"| score | {half} | {one / 'masks'} | second - first [95 %] | p | verdict |" in printed.splitlines()
    assert "| iou | 0.500 | 1.000 | +0.500 [+0.500, +0.500] | 0.121 | no difference shown |" in printed.splitlines()
    code, printed, _ = crack("eval", one, "--masks", half, "--masks", one / "masks", "-q", "--json")
    told = json.loads(printed)
    assert told["differences"][str(one / "masks")][0]["score"] == "iou"
    code, printed, _ = crack("eval", one, *(each for _ in range(3) for each in ("--masks", half)), "-q", "--json")
    assert list(json.loads(printed)["differences"]) == [f"{half} (2)", f"{half} (3)"]
    assert [report["images"] for report in told["reports"]] == [4, 4]


def test_what_is_wrong_with_one_set_leaves_the_others(crack, two_sets, tmp_path):
    one, two, half = two_sets
    (two / "masks" / "0.png").write_bytes(b"damaged")
    for path in (half / "one").iterdir():
        path.unlink()
    code, printed, err = crack("eval", one, two, "--masks", half, "-q")
    assert code == 1
    head, row = (line.split("\t") for line in printed.splitlines())
    assert (head[1:], row[1:]) == (["one test", "two test", "mean"], ["-", "0.500 [0.500, 0.500]", "-"])
    assert "no mask in this folder" in err
    assert "0.png" in err


def test_what_is_wrong_with_a_truth_is_told_once_whatever_is_scored(crack, two_sets, tmp_path):
    one, _, half = two_sets
    (one / "masks" / "0.png").write_bytes(b"damaged")
    for path in (one / "masks" / "1.png", half / "one" / "2.png"):
        Image.new("L", (80, 64), 255).save(path)
    shutil.copytree(half / "one", tmp_path / "again")
    code, _, err = crack("eval", one, "--masks", half, "--masks", tmp_path / "again", "-q")
    assert (code, err.count("0.png"), err.count("1.png: the true mask marks 100%")) == (1, 1, 1)
    for folder in (half / "one", tmp_path / "again"):
        assert err.count(f"2.png: the prediction of {folder} marks 100%") == 1


def test_predictions_are_compared_on_the_images_that_both_have(crack, two_sets):
    one, _, half = two_sets
    given = ("--masks", half / "one", "--masks", half / "two", "-q")
    (half / "two" / "0.png").unlink()
    code, printed, err = crack("eval", one, *given, "--json")
    told = json.loads(printed)["differences"][str(half / "two")]
    assert (code, told[0]["images"], "are those of the 3 images that both have" in err) == (1, 3, True)
    for name in ("1.png", "2.png", "3.png"):
        (half / "one" / name).unlink()
    code, printed, err = crack("eval", one, *given)
    assert (code, len(printed.splitlines()), "no image that both have" in err) == (1, 3, True)


def test_published_evaluators_are_followed(crack, two_sets):
    one, _, half = two_sets
    code, printed, _ = crack("eval", one, "--masks", half, "--protocol", "cracksam", "-q", "--format", "csv")
    assert code == 0
    tables = printed.split("\n\n")
    assert tables[-1].startswith("cracksam,value\n")
    assert json.loads(crack("eval", one, "--masks", half, "--protocol", "all", "--json", "-q")[1])[
        "protocols"
    ].keys() == {*("khanhha", "mmseg", "csbsr", "tut", "deepsegmentor", "fphbn", "cracksam", "omnicrack", "opencrack")}


def test_misspelt_scores_and_evaluators_are_noticed_before_anything_runs(crack, two_sets):
    one, other, half = two_sets
    for option, word, meant in (
        ("--protocol", "kanhha", "khanhha"),
        ("--score", "iuo", "iou"),
        ("--corrupt", "blu", "blur"),
    ):
        code, printed, err = crack("eval", one, other, "--masks", half, option, word, "-o", half / "out")
        assert (code, printed, err.count("\n"), f"did you mean {meant}" in err) == (2, "", 1, True)
    assert not (half / "out").exists()


def test_a_wrong_option_ends_a_matrix_at_once(crack, two_sets):
    one, two, half = two_sets
    code, printed, err = crack("eval", one, two, "--probs", half, "--threshold", 2, "-q")
    assert (code, printed, err.count("\n"), "between 0 and 1" in err) == (2, "", 1, True)


def test_sets_of_one_name_have_a_report_each(crack, two_sets, tmp_path):
    one, _, half = two_sets
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        shutil.copytree(one, tmp_path / place / "set")
    sets = [tmp_path / place / "set" for place in ("here", "there")]
    code, printed, _ = crack("eval", *sets, "--masks", half / "one", "-o", tmp_path / "out", "-q", "--figures", "0")
    assert (code, printed.splitlines()[0].split("\t")[1:3]) == (0, ["here_set test", "there_set test"])
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"here_set-1", "there_set-1"}
    for name, masks in (("here_set", half / "one"), ("there_set", one / "masks"), ("set", half / "one")):
        shutil.copytree(masks, tmp_path / "found" / name)
    code, printed, _ = crack("eval", *sets, "--masks", tmp_path / "found", "--score", "recall", "-q")
    assert (code, [cell[:5] for cell in printed.splitlines()[1].split("\t")[1:3]]) == (0, ["0.500", "1.000"])


def test_a_report_that_cannot_be_written_is_told_before_the_work(crack, two_sets, tmp_path):
    one, _, half = two_sets
    (tmp_path / "file").write_text("mine")
    code, _, err = crack("eval", one, "--masks", half, "-o", tmp_path / "file")
    assert (code, "cannot be made a folder" in err, "images" in err) == (1, True, False)


@pytest.mark.parametrize("option", [["--tta"], ["--tile", "64"], ["--dtype", "float32"], ["--score", "dice"]])
def test_options_that_would_do_nothing_are_refused(crack, two_sets, option):
    one, _, half = two_sets
    code, _, err = crack("eval", one, "--masks", half, *option)
    assert (code, f"leave {option[0]} out" in err) == (2, True)


def test_a_name_with_signs_of_formulas(crack, two_sets, tmp_path):
    one, _, half = two_sets
    odd = (half / "one").rename(half / "neg$1_$2^")
    assert crack("eval", one, "--masks", odd, "-o", tmp_path / "out", "-q", "--figures", "0")[0] == 0


def test_spoilt_photos_are_scored_by_severity(crack, two_sets, tmp_path):
    one, _, half = two_sets
    code, printed, err = crack("eval", one, "--corrupt", "blur", "-o", tmp_path / "out", "-q")
    assert (code, err) == (0, "")
    head, blur = (line.split("\t") for line in printed.splitlines())
    assert head == ["iou by severity", "0", "1", "2", "3", "4", "5"]
    assert blur[0] == "blur"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("robustness.csv", "robustness.md", "robustness.tex", "robustness.png")
    }
    code, _, err = crack("eval", one, "--corrupt", "blur", "--masks", half)
    assert (code, "give --weights" in err) == (2, True)
    code, _, err = crack("eval", one, "--corrupt", "blur", "--protocol", "all")
    assert (code, "leave --protocol out" in err) == (2, True)


def test_spoilt_photos_of_several_sets_have_a_folder_each(crack, two_sets, tmp_path):
    one, two, _ = two_sets
    first, *_ = sorted((two / "images").iterdir())
    first.write_bytes(b"")
    code, printed, err = crack("eval", one, two, "--corrupt", "blur", "-o", tmp_path / "out", "-q", "--json")
    assert (code, err.count("\n"), first.name in err) == (1, 1, True)
    assert [[case["failures"] for case in json.loads(line)["cases"]] for line in printed.splitlines()] == [
        [0] * 6,
        [1] * 6,
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"one-1", "two-1"}


def test_maps_of_infer_give_the_scores_of_its_network(crack, two_sets, tmp_path):
    one, *_ = two_sets
    crack("infer", one / "images", "-o", tmp_path / "out", "--probs", "--engine", "torch", "-q")  # as eval runs it
    scores = [
        json.loads(crack("eval", one, *given, "--json", "-q")[1])["scores"]
        for given in ((), ("--probs", tmp_path / "out"))
    ]
    assert scores[0] == scores[1]


def put_pairs(folder, count):
    """Photos of rough ground with a dark bar, and their masks."""
    for number in range(count):
        picture = np.random.default_rng(number).integers(120, 190, (64, 80, 3), dtype=np.uint8)
        mask = np.zeros((64, 80), np.uint8)
        picture[:, 40:44], mask[:, 40:44] = 20, 255
        for kind, content in (("images", picture), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(folder / kind / f"{number}.png")


def test_prepared_sets_are_checked(crack, tmp_path):
    sheet = tmp_path / "sheet.html"
    for name in "ab":
        put_pairs(tmp_path / name, 4)
        split = "1/0/0" if name == "a" else "0/0/1"
        assert crack("prepare", "folder", tmp_path / name, "-o", tmp_path / f"{name}_", "--split", split)[0] == 0
    assert crack("prepare", "--check", tmp_path / "a_") == (0, "", "4 images, no findings\n")
    (tmp_path / "a_" / "masks" / "0.png").write_bytes(b"")
    code, printed, err = crack("prepare", "--check", tmp_path / "a_", tmp_path / "b_", "-o", sheet)
    rows = [line.split("\t") for line in printed.splitlines()]
    assert (code, rows[0]) == (1, ["finding", "image", "other", "detail"])
    assert rows[1] == ["damaged", str(tmp_path / "a_" / "images" / "0.png"), "", "mask: the file is empty"]
    assert {tuple(row[0::3]) for row in rows[2:]} == {("leak", "same file, train and test")}
    assert len(rows) == 6
    assert "4 leak: what train shows is in val or test too" in err
    assert err.endswith(f"8 images, 5 findings; see {sheet}\n")
    assert sheet.read_text(encoding="utf-8").count("<figure") == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["folder", "RAW", "--split", "0.7/0.3"], "the split '0.7/0.3' cannot be read (write TRAIN/VAL/TEST, such as"),
        (["folder", "RAW", "--split", "0.7/0.2/0.2"], "the split 0.7/0.2/0.2 does not make 1 (try 0.7/0.15/0.15"),
        (["folder", "RAW", "--split", "1/0/0", "--keep-leaks"], "keep_leaks keeps a published split"),
        (["folder", "RAW", "more"], "3 names, expected a layout and its raw folder (--check takes several sets)"),
        (["--check", "RAW", "--split", "1/0/0"], "--check prepares nothing (leave --split out)"),
        (["--check", "RAW", "--tile", "512"], "--check prepares nothing (leave --tile out)"),
        (["--check", "RAW", "-o", "folder"], "folder: a contact sheet is a page (name it -o sheet.html)"),
    ],
)
def test_splits_and_checks_asked_for_wrongly(crack, tmp_path, words, message):
    put_pairs(tmp_path, 1)
    code, printed, err = crack("prepare", *(tmp_path if word == "RAW" else word for word in words))
    assert (code, printed) == (2, "")
    assert err.startswith(f"crack: {message}")


def test_scores_are_told_by_origin(crack, tmp_path):
    put_pairs(tmp_path / "raw", 2)
    for name, number in (("like_crack", 0), ("noncrack", 1)):
        (tmp_path / "sorted" / name).mkdir(parents=True)
        (tmp_path / "raw" / "images" / f"{number}.png").rename(tmp_path / "sorted" / name / f"{number}.png")
        (tmp_path / "raw" / "masks" / f"{number}.png").rename(tmp_path / "raw" / "masks" / f"{name}_{number}.png")
    crack("prepare", "situations", tmp_path / "sorted", "-o", tmp_path / "data")
    code, printed, _ = crack("eval", tmp_path / "data", "--masks", tmp_path / "raw" / "masks")
    assert code == 0
    assert printed.splitlines()[-3:] == [
        "origin\timages\twith crack\tiou\tprecision\trecall\tcldice\tfalse alarm area",
        "like_crack\t1\t0\t-\t-\t-\t-\t5.00%",
        "noncrack\t1\t0\t-\t-\t-\t-\t5.00%",
    ]


def test_a_network_that_enlarges_is_scored_on_degraded_photos(crack, tmp_path, monkeypatch):
    from torch.nn import functional as F

    from cracktool import models
    from cracktool.card import Card
    from cracktool.weights import save_weights

    class DarkIsCrack(models.PaddedModel):
        def __init__(self, *, scale=4, pretrained=False):
            super().__init__(stride=1, scale=scale)

        def forward_padded(self, x):
            return F.interpolate(50 * (0.3 - x[:, :1]), scale_factor=float(self.scale))

    monkeypatch.setitem(models.SYSTEMS, "dark", models.System(DarkIsCrack, "here", (0, 0, 0), (1, 1, 1)))
    for scale in (1, 4):
        card = Card(model="dark", model_args={"scale": scale}, mean=(0, 0, 0), std=(1, 1, 1), stride=1, scale=scale)
        save_weights(tmp_path / f"{scale}.safetensors", {}, card)
    picture, mask = np.full((66, 83, 3), 200, np.uint8), np.zeros((66, 83), np.uint8)
    picture[:, 24:48], mask[:, 24:48] = 10, 255
    for kind, content in (("images", picture), ("masks", mask)):
        (tmp_path / "raw" / kind).mkdir(parents=True)
        Image.fromarray(content).save(tmp_path / "raw" / kind / "a.png")
    data, out = tmp_path / "data", tmp_path / "report"
    set_ = ("prepare", "folder", tmp_path / "raw", "-o", data, "--split", "0/0/1", "--degrade", "--seed", "3")
    assert crack(*set_)[:2] == (0, f"{data / 'manifest.csv'}\n")
    code, printed, err = crack("eval", data, "--weights", tmp_path / "4.safetensors", "-o", out, "--json")
    assert code == 0, err
    report = json.loads(printed)
    assert sum(report["counts"].values()) == 64 * 80
    assert report["scores"]["iou"]["pooled"] > 0.8
    assert read_image(out / "figures" / "a.png").shape[1] > 3 * 8 * 80
    code, _, err = crack("infer", data / "images", "-o", tmp_path / "masks", "--weights", tmp_path / "4.safetensors")
    assert code == 0
    code, printed, _ = crack("eval", data, "--masks", tmp_path / "masks", "--json", "-q")
    assert (code, json.loads(printed)["counts"]) == (0, report["counts"])
    code, printed, err = crack("eval", data, "--weights", tmp_path / "1.safetensors", "-q")
    assert (code, printed, len(err.splitlines())) == (1, "", 1)
    assert "use a network that enlarges it by 4, such as csbsr_pspnet" in err


def test_masks_are_scored_where_torch_is_missing(tmp_path):
    picture = tmp_path / "raw" / "images" / "a.png"
    for kind in ("images", "masks"):
        (tmp_path / "raw" / kind).mkdir(parents=True)
        Image.fromarray(np.tile(np.uint8([0, 255]), (32, 32))).save(tmp_path / "raw" / kind / picture.name)
    command = [
        *CRACK,
        "prepare",
        "folder",
        tmp_path / "raw",
        "-o",
        tmp_path / "data",
        "--split",
        "0/0/1",
        "-q",
    ]
    subprocess.run(command, check=True, capture_output=True)
    code = "import sys; sys.modules['torch'] = None; from cracktool import cli; cli.main()"
    command = [sys.executable, "-c", code, "eval", tmp_path / "data", "--masks", tmp_path / "data" / "masks"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "iou\t1.000\t1.000" in result.stdout


def test_layouts_are_listed_with_their_counts_licence_and_home(crack):
    code, printed, _ = crack("prepare", "--list")
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in printed.splitlines()}
    assert code == 0
    assert rows["layout"] == ["what", "images", "licence", "where to get"]
    what, images, licence, where = rows["deepcrack"]
    assert what.startswith("DeepCrack: concrete and asphalt")
    assert (images, licence) == ("537 (300 train, 237 test)", "non-commercial research and educational purposes")
    assert where == "https://github.com/yhlleo/DeepCrack"
    assert rows["cfd"][1] == "118"
    assert rows["coco"][1] == "-"


def test_annotations_are_prepared_with_the_label_and_line_width_asked_for(crack, tmp_path):
    lines = [("joint", 10), ("crack", 30)]
    shapes = [{"label": name, "shape_type": "line", "points": [[0, y], [64, y]]} for name, y in lines]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.json").write_text(json.dumps({"shapes": shapes, "imagePath": "a.jpg"}))
    (tmp_path / "raw" / "a.jpg").write_bytes(encode_jpeg(np.full((48, 64, 3), 99, np.uint8)))
    out = tmp_path / "out"
    options = ("--label", "joint", "--line-width", "6", "--split", "1/0/0")
    code, printed, _ = crack("prepare", "labelme", tmp_path / "raw", "-o", out, *options)
    assert (code, printed) == (0, f"{out / 'manifest.csv'}\n")
    assert np.flatnonzero(read_mask(out / "masks" / "a.png").all(axis=1)).tolist() == [7, 8, 9, 10, 11, 12]


def test_masks_are_inverted_when_asked(crack, tmp_path):
    for kind, value in (("images", 99), ("masks", 255)):
        (tmp_path / "raw" / kind).mkdir(parents=True)
        Image.fromarray(np.full((32, 32), value, np.uint8)).save(tmp_path / "raw" / kind / "a.png")
    command = ("prepare", "folder", tmp_path / "raw", "--split", "1/0/0")
    code, _, err = crack(*command, "-o", tmp_path / "a")
    assert code == 0
    assert "--invert" in err
    assert crack(*command, "-o", tmp_path / "b", "--invert")[0] == 0
    assert [read_mask(tmp_path / out / "masks" / "a.png").any() for out in "ab"] == [True, False]


def test_what_a_set_leaves_out_by_its_own_rule_is_told(crack, tmp_path):
    for name, value in (("001", 2), ("201", 0)):
        for folder, pixels in (("img", 90 + int(name)), ("masks_machine", value)):
            (tmp_path / "ds" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((32, 32), pixels % 256, np.uint8)).save(tmp_path / "ds" / folder / f"{name}.png")
    _, _, err = crack("prepare", "alexdonchuk", tmp_path, "-o", tmp_path / "out")
    assert "1 left out for too little crack" in err


def test_init_brings_its_network_along(crack, tmp_path, monkeypatch):
    from cracktool import training

    configs = []
    monkeypatch.setattr(training, "train", lambda config, *_, **__: iter(configs.append(config) or ()))
    crack("train", "--init", "fast", "--data", tmp_path)
    crack("train", "--init", "fast", "--model", "unet_resnet18", "--data", tmp_path)
    crack("train", "--init", "fast", "--set", "model_args.decoder_channels=[64, 32]", "--data", tmp_path)
    assert [(each.model, each.model_args) for each in configs] == [
        ("unet_efficientnet_lite0", {"decoder_channels": [96, 64, 48, 32]}),
        ("unet_resnet18", {}),
        ("unet_efficientnet_lite0", {"decoder_channels": [64, 32]}),
    ]
    gone = ("train", "--init", tmp_path / "gone", "--model", "unet_resnet18", "--data", tmp_path)
    assert (crack(*gone)[0] != 0, len(configs)) == (True, 3)
    crack(*gone, "--resume")
    assert configs[3].init == str(tmp_path / "gone"), "a run that goes on needs it no more"
    monkeypatch.setenv("CRACKTOOL_CACHE", str(tmp_path))
    (tmp_path / "crack537.pth").touch()
    crack("train", "--init", "crackformer2_crack537", "--data", tmp_path)
    assert configs[4].model == "crackformer2", "a published name says it, an authors' file does not"


@pytest.mark.parametrize(("warmup", "told"), [(12, False), (13, True)])
def test_a_warm_up_longer_than_the_run_is_told(crack, tmp_path, monkeypatch, warmup, told):
    from cracktool import training
    from cracktool.device import choose_device

    counts = {"parameters": 1, "train_images": 1, "val_images": 1, "first_epoch": 1, "batches_per_epoch": 7}
    started = training.Started(device=choose_device("cpu"), rank=0, ranks=1, fresh=(), **counts)
    monkeypatch.setattr(training, "train", lambda *_, **__: iter([started]))
    options = ("--epochs", "3", "--set", "accumulate=2", "--set", f"warmup_steps={warmup}", "--lr", "0.5")
    _, _, err = crack("train", "--model", "unet_resnet18", "--data", tmp_path, *options)
    assert (f"does not reach 0.5: warmup_steps={warmup}, the run has 12" in " ".join(err.split())) is told


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("train --init fast --pretrained", "--pretrained has no effect beside --init"),
        ("train --init {onnx}", "are read from .safetensors files alone"),
        ("eval {data} --figures 3", "add -o FOLDER"),
        ("eval {data} {data} --protocol khanhha", "add -o FOLDER, or --json"),
        ("train --list-models --epochs 3 -q --resume", "leave --epochs, --resume out"),
        ("prepare crack500 --list --tile 5", "leave LAYOUT [SOURCE], --tile out"),
        ("infer {data} --weights {onnx} --device mps", "ONNX Runtime runs on cpu or cuda here, not on mps"),
        ("infer {data} --weights {onnx} --dtype float16", "keeps its number format, whatever --dtype float16 says"),
    ],
)
def test_what_would_do_nothing_is_refused(crack, two_sets, command, said):
    onnx = shipped_weights().with_suffix(".onnx")
    words = command.format(onnx=onnx, data=two_sets[0]).split()
    if words.count(str(two_sets[0])) == 2:
        words[2] = str(two_sets[1])
    code, printed, err = crack(*words)
    assert (code, printed) == (2 if "read from" not in said else code, "")
    assert said in err


def test_a_table_on_a_narrow_terminal_loses_nothing(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()
    rows = [("model", "time", "source"), ("khanhha_unet_resnet101", "1", "x" * 100), ("[/b].jpg", ":smile:", "[red]")]
    print_table(rows, terminal)
    shown = terminal.getvalue()
    assert shown.count("x") == 100
    for name in ("khanhha_unet_resnet101", "[/b].jpg", ":smile:", "[red]"):
        assert name in shown


def test_list_models(crack):
    code, printed, _ = crack("train", "--list-models")
    rows = [line.split("\t") for line in printed.splitlines()]
    assert code == 0
    assert rows[0] == ["model", "parameters", "GMACs at 512", "CPU time (unet_resnet18 = 1)", "stride", "source"]
    assert ["unet_resnet101", "51.5 M", "62"] in [row[:3] for row in rows]
    assert [row[3] for row in rows if row[0] == "unet_resnet18"] == ["1"]


@pytest.fixture
def authors_file(tmp_path):
    """A checkpoint as authors save it, of a small network that sees cracks in about half of the noise."""
    import torch

    from cracktool.models import build_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_model("pspnet_test_resnet")
    path = tmp_path / "latest.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in network.state_dict().items()}}, path)
    return path


def test_export_then_infer(crack, photos, authors_file, tmp_path):
    pytest.importorskip("onnx", reason="needs the extra cracktool[export]")
    named, path = ("--weights", authors_file, "--model", "pspnet_test_resnet"), tmp_path / "crack.onnx"
    code, printed, _ = crack("export", *named, "-o", path)
    assert (code, printed) == (0, f"{path}\n")
    crack("infer", photos, "-o", tmp_path / "torch", "--dtype", "float32", *named)
    code, _, err = crack("infer", photos, "-o", tmp_path / "onnx", "--weights", path, "--dtype", "float32")
    assert code == 0
    assert "ONNX Runtime" in err
    for name in ("one.png", "walls/two.png"):
        mask = read_mask(tmp_path / "torch" / name)
        assert (mask != read_mask(tmp_path / "onnx" / name)).mean() < 1e-3
        assert 0 < mask.mean() < 1


def test_authors_weights_are_run_and_converted(crack, photos, authors_file, tmp_path):
    named, ours = ("--weights", authors_file, "--model", "pspnet_test_resnet"), tmp_path / "latest.safetensors"
    code, printed, err = crack("export", *named, "-o", ours)
    assert (code, printed) == (0, f"{ours}\n")
    assert "pspnet_test_resnet, threshold 0.5, tiles of 512 px, mean (0.5, 0.5, 0.5)" in err
    assert crack("infer", photos, "-o", tmp_path / "theirs", "--probs", *named)[0] == 0
    assert crack("infer", photos, "-o", tmp_path / "ours", "--probs", "--weights", ours)[0] == 0
    for name in ("one.probs.png", "walls/two.probs.png"):
        levels = np.asarray(Image.open(tmp_path / "ours" / name))
        assert np.array_equal(np.asarray(Image.open(tmp_path / "theirs" / name)), levels)
        assert np.ptp(levels) > 0


def test_authors_weights_are_scored(crack, photos, authors_file, tmp_path):
    (tmp_path / "raw").mkdir()
    photos.rename(tmp_path / "raw" / "images")
    for name in ("one", "walls/two"):
        path = tmp_path / "raw" / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((70, 90), np.uint8)).save(path)
    crack("prepare", "folder", tmp_path / "raw", "-o", tmp_path / "data", "--split", "0/0/1")
    named = ("--weights", authors_file, "--model", "pspnet_test_resnet")
    code, printed, _ = crack("eval", tmp_path / "data", *named, "--json", "-q", "--figures", "0")
    assert (code, json.loads(printed)["images"]) == (0, 2)
    code, _, err = crack("eval", tmp_path / "data", "--masks", tmp_path / "raw" / "masks", *named[2:])
    assert code == 2
    assert "no network runs without --weights (leave --model out)" in err


@pytest.mark.parametrize("command", ["infer", "eval", "export"])
def test_authors_weights_want_their_network_named(crack, photos, authors_file, tmp_path, command):
    (tmp_path / "manifest.csv").write_text("image,mask,split,group,source,height,width,crack_fraction,label,sha1\n")
    given = {"infer": [photos, "-o", tmp_path / "m"], "eval": [tmp_path], "export": ["-o", tmp_path / "a.safetensors"]}
    code, _, err = crack(command, *given[command], "--weights", authors_file)
    assert code == 2
    assert "latest.pth: an authors' file does not say its network (add --model NAME; " in err


def test_unexpected_errors_are_one_line(crack, monkeypatch, photos, tmp_path):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("cracktool.inference.infer_folder", broken)
    code, _, err = crack("infer", photos, "-o", tmp_path / "masks", "-q")
    assert code == 1
    assert err == "crack: unexpected ZeroDivisionError: division by zero (run again with --debug to see where)\n"


def test_the_module_runs_like_the_command():
    assert (
        subprocess.run([*CRACK, "--version"], capture_output=True, text=True, check=True).stdout == f"{__version__}\n"
    )
