"""The examples: exported models without this package, in Python and in JavaScript, and two inspections compared."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from drawn import Look, draw

from cracktool.card import METADATA_KEY, Card
from cracktool.datasets.synthetic import Wishes, make_sample
from cracktool.images import encode_png, read_image, read_mask
from cracktool.inference import load_predictor

onnx = pytest.importorskip("onnx", reason="needs the extra cracktool[export]")

EXAMPLES = Path(__file__).parents[1] / "examples"
CARD = Card(model="dark", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25), tile=96, stride=16, threshold=0.4)


def network(path, *, pixels):
    """Write a network that takes what is darker than its tile is on the whole for a crack, so that tiles show."""
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    constants = {"darker": np.float32(-6).reshape(1, 1, 1, 1), "least": np.float32(-2).reshape(1, 1, 1, 1)}
    before = []
    if pixels:
        scale, shift = CARD.normalisation()
        constants |= {"scale": scale, "shift": shift}
        before = [
            helper.make_node("Cast", ["pixels"], ["floats"], to=floats),
            helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Mul", ["planes", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "shift"], ["image"]),
        ]
    steps = [
        helper.make_node("ReduceMean", ["image", "axis"], ["grey"], keepdims=1),
        helper.make_node("GlobalAveragePool", ["grey"], ["mean"]),
        helper.make_node("Sub", ["grey", "mean"], ["difference"]),
        helper.make_node("Mul", ["difference", "darker"], ["dark"]),
        helper.make_node("Add", ["dark", "least"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probs"]),
    ]
    takes, kind, axes = ("image", floats, ["b", 3, "h", "w"])
    if pixels:
        takes, kind, axes = ("pixels", onnx.TensorProto.UINT8, ["b", "h", "w", 3])
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    tensors.append(onnx.numpy_helper.from_array(np.array([1]), "axis"))
    graph = helper.make_graph(
        [*before, *steps],
        "dark",
        [helper.make_tensor_value_info(takes, kind, axes)],
        [helper.make_tensor_value_info("probs", floats, ["b", 1, "h", "w"])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: CARD.to_json(), "largest_tile": str(CARD.largest_tile)})
    onnx.save(model, path)
    return path


@pytest.fixture(params=[(203, 310), (61, 97), (96, 700)], ids=str)
def photo(request, tmp_path):
    wishes = Wishes(pattern="single", width=(5, 8))
    (tmp_path / "photo.png").write_bytes(encode_png(make_sample(1, shape_hw=request.param, wishes=wishes).image))
    return tmp_path / "photo.png"


def check(model, photo, command, *more):
    target = photo.with_name("mask.png")
    run = subprocess.run([*command, model, photo, target, *more], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found, expected = read_mask(target), load_predictor(model).mask(read_image(photo))
    assert 0.01 < expected.mean() < 0.5
    assert (found != expected).mean() <= 1e-4


def test_numpy_and_onnx_runtime_alone_give_the_mask(photo, tmp_path):
    script = EXAMPLES / "infer_onnx.py"
    lines = script.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert not [line for line in lines if "import cracktool" in line or "from cracktool" in line]
    check(network(tmp_path / "dark.onnx", pixels=False), photo, [sys.executable, script])


def test_javascript_gives_the_mask(photo, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not (EXAMPLES / "javascript" / "node_modules").is_dir():
        pytest.skip("its packages are not installed: cd examples/javascript && npm install")
    model = network(tmp_path / "dark.onnx", pixels=True)
    check(model, photo, [node, EXAMPLES / "javascript" / "infer.js"], "96", "192", "16", "0.4")


def inspect(folder, cracks):
    """Measure a drawn wall: height, ends and width of cracks that run along it."""
    (folder / "photos").mkdir(parents=True)
    (folder / "masks").mkdir()
    photo, mask = np.full((300, 500), 150, np.uint8), np.zeros((300, 500), bool)
    for seed, (y, left, right, width) in enumerate(cracks):
        line = np.array([(y, x) for x in range(left, right + 1)], float)
        drawn, found, _ = draw(line, width, photo.shape, Look(blur=1, noise=2), seed)
        rows = slice(y - 20, y + 20)
        photo[rows], mask[rows] = drawn[rows], found[rows]
    (folder / "photos" / "wall.png").write_bytes(encode_png(photo))
    (folder / "masks" / "wall.png").write_bytes(encode_png(mask.view(np.uint8) * np.uint8(255)))
    photos, masks, out = folder / "photos", folder / "masks", folder / "out"
    command = [sys.executable, "-m", "cracktool", "infer", photos, "--masks", masks, "-o", out, "--mm-per-px", "0.2"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def test_two_inspections_are_compared(tmp_path):
    before = inspect(tmp_path / "before", [(60, 50, 250, 4.0), (120, 50, 450, 4.0), (200, 100, 300, 3.0)])
    after = inspect(tmp_path / "after", [(60, 50, 400, 4.0), (120, 50, 450, 5.5), (260, 100, 300, 3.0)])
    for folder, expected in ((after, ["longer", "wider", "new", "gone"]), (before, ["none"] * 3)):
        command = [sys.executable, EXAMPLES / "compare_inspections.py", before, folder]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        rows = list(csv.DictReader(run.stdout.splitlines()))
        assert [row["change"] for row in rows] == expected
        if folder == after:
            assert abs(float(rows[0]["new_length"]) - 0.2 * (150 - 10)) < 0.5  # its end counts as old up to 10 px on
            assert float(rows[1]["low"]) < 0.2 * 1.5 < float(rows[1]["high"])
            assert {row["unit"] for row in rows[:3]} == {"mm"}
    (after / "new.cracks.json").write_text('{"cracks": []}')
    (before / "lost.cracks.json").write_text('{"cracks": []}')
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    assert run.stderr == ""  # a folder beside itself
    run = subprocess.run([*command[:-1], after], check=True, capture_output=True, text=True)
    assert run.stderr.splitlines() == [
        f"lost.cracks.json: is in {before} alone", f"new.cracks.json: is in {after} alone",
    ]  # fmt: skip
    assert subprocess.run([*command[:-1], tmp_path / "none"], capture_output=True).returncode == 1
