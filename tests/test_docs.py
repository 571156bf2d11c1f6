"""The README and the help texts: their commands parse and run, their figures come from files."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cracktool import cli
from cracktool.card import file_digest
from cracktool.registry import SHIPPED, shipped_weights

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCORES = ROOT / "weights" / "scores"


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def readme_commands() -> list[str]:
    lines = [line.split("#")[0] for block in code_blocks("sh") for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r"&&|\|(?! select)", line)]
    return [part.split("<")[0].strip() for part in parts if part.startswith("crack ")]


def help_example(command: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "cracktool", command, "--help"], capture_output=True, text=True, check=True
    )
    text = re.search(r"Example: (crack .*?)\n\n", result.stdout, flags=re.DOTALL)
    return " ".join(text[1].split())


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder in which the examples can run: a raw data set and photos, all tiny."""
    place = tmp_path_factory.mktemp("workplace")
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for index in range(2):
            picture = rng.integers(150, 190, (64, 96, 3), dtype=np.uint8)
            mask = np.zeros((64, 96), np.uint8)
            picture[:, 30:50], mask[:, 30:50] = 40, 255
            for kind, content in (("images", picture), ("masks", mask)):
                folder = place / "raw" / "crack500" / split / kind
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(content).save(folder / f"2016022{index}_08{len(split)}811_1_{1 + 64 * index}.png")
    (place / "examples" / "photos").mkdir(parents=True)
    Image.fromarray(picture).save(place / "examples" / "photos" / "one.png")
    return place


def run(command: str, place: Path, monkeypatch) -> int:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    try:
        cli.main()
    except SystemExit as leaving:
        return leaving.code or 0
    return 0


SMALL = " --epochs 1 --size 64 --batch-size 2 --no-pretrained --set workers=0"


@pytest.mark.parametrize("command", ["prepare", "train", "eval", "infer", "export"])
def test_the_example_of_each_help_text_runs(command, workplace, monkeypatch):
    example = help_example(command)
    if command == "export":
        pytest.importorskip("onnxscript")
    assert run(example + (SMALL if command == "train" else ""), workplace, monkeypatch) == 0


def test_the_readme_names_commands_and_options_that_exist(monkeypatch, capfd):
    commands = readme_commands()
    assert {shlex.split(command)[1] for command in commands} >= {"prepare", "train", "eval", "infer", "export"}
    for command in commands:
        words = shlex.split(command)
        text = subprocess.run(
            [sys.executable, "-m", "cracktool", words[1], "--help"], capture_output=True, text=True, check=True
        ).stdout
        for word in words[2:]:
            if re.match(r"--?[a-z]", word):
                assert re.search(rf"(^|[ ,]){re.escape(word)}[ ,\n]", text, flags=re.MULTILINE), f"{word} in {command}"


def test_the_library_example_runs(workplace, monkeypatch, capsys):
    (example,) = code_blocks("python")
    (workplace / "examples" / "photos" / "pavement.jpg").write_bytes(
        (workplace / "examples" / "photos" / "one.png").read_bytes()
    )
    monkeypatch.chdir(workplace)
    exec(compile(example, "README.md", "exec"), {})
    assert "of the photo is crack" in capsys.readouterr().out
    assert (workplace / "pavement.png").is_file()
    (workplace / "examples" / "photos" / "pavement.jpg").unlink()


def test_the_readme_shows_the_real_tree():
    (tree,) = [block for block in code_blocks("text") if block.startswith("cracktool/")]
    shown = set(re.findall(r"^  (\S+)", tree, flags=re.MULTILINE))
    package = ROOT / "cracktool"
    real = {path.name + "/" * path.is_dir() for path in package.iterdir() if path.name[0] != "_"}
    assert shown == real - {"recipes/", "shipped_weights/", "py.typed"}


def test_the_readme_quotes_the_scores_of_the_files():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in README.splitlines()
        if "test" in line and line.startswith("|")
    ]
    quoted = {(row[1], row[0].strip("`")): row[2:] for row in rows if (SCORES / row[1]).is_dir()}
    assert quoted.keys() == {(path.parent.name, path.stem) for path in SCORES.glob("*/*.json")}
    for (weights, name), cells in quoted.items():
        report = json.loads((SCORES / weights / f"{name}.json").read_text(encoding="utf-8"))
        scores = report["scores"]
        iou, *pooled = (f"{scores[key]['pooled']:.3f}" for key in ("iou", "dice", "f1_2px", "cldice"))
        low, high = scores["iou"]["pooled_ci95"]
        image_mean = f"{scores['iou']['empty_is_one']['mean']:.3f}"
        cells_due = [
            f"{report['split']}, {report['images']} images",
            f"{iou} [{low:.3f}, {high:.3f}]",
            *pooled,
            image_mean,
        ]
        assert cells == cells_due, (weights, name)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_scores_are_of_the_weights_that_ship(name):
    scored = [json.loads(path.read_text(encoding="utf-8"))["origin"] for path in (SCORES / name).glob("*.json")]
    assert {each["digest"] for each in scored} == {file_digest(shipped_weights(name))}


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_the_ranking_example_runs(workplace, tmp_path):
    photo = (workplace / "examples" / "photos" / "one.png").read_bytes()
    (tmp_path / "good.jpg").write_bytes(photo)
    (tmp_path / "bad.jpg").write_bytes(b"")
    command = [sys.executable, ROOT / "examples" / "rank_photos.py", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r" *\d+\.\d{3}%  \S+good\.jpg\n", result.stdout)
    assert "bad.jpg: the file is empty" in result.stderr
