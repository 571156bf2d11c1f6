"""The floors: a module imports only from floors below it, and each heavy dependency has one home."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cracktool"

FLOORS = {
    "errors": 0,
    "config": 1,
    "files": 1,
    "html": 1,
    "linking": 1,
    "threads": 1,
    "containers": 1,
    "images": 1.5,
    "georeference": 1.5,
    "thinning": 1.75,
    "tiles": 2,
    "metrics": 2,
    "protocols": 2.5,
    "overlay": 2,
    "manifest": 2,
    "card": 2,
    "measuring": 2,
    "degradation": 2,
    "corruption": 2,
    "device": 3,
    "losses": 3,
    "models": 3,
    "datasets": 3,
    "checkpoints": 3,
    "registry": 3,
    "weights": 4,
    "data": 4,
    "inference": 5,
    "inspection": 6,
    "evaluation": 6,
    "report": 6.5,
    "export": 6,
    "training": 7,
    "cli": 8,
    "__main__": 9,
}

HOMES = {  # heavy dependency -> floors or modules that may import it
    "torch": {
        *("device", "losses", "models", "checkpoints", "weights", "data"),
        *("inference.torch_network", "inference.folding", "evaluation", "export", "training"),
    },
    "torchvision": {"data", "models.crackrefinenet"},
    "timm": {"models.encoder"},
    "huggingface_hub": {"models.encoder"},
    "safetensors": {"weights", "registry"},
    "onnx": {"export"},
    "onnxscript": {"export"},
    "onnxruntime": {"export", "inference.runtimes"},
    "openvino": {"export", "inference.runtimes"},
    "matplotlib": {"report"},
    "scipy": {"metrics", "datasets.cfd"},
    "skimage": {"metrics", "losses", "training.pseudo"},
    "rasterio": {"georeference", "inference.rasters"},
    "pillow_heif": {"images"},
    "ray": {"inference.scale_out"},
    "typer": {"cli"},
    "rich": {"cli"},
    "tqdm": {"cli"},
}


@cache
def modules() -> dict[str, ast.Module]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): ast.parse(path.read_text())
        for path in paths
    }


def imports(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module)
            if node.module == "cracktool":
                found[-1:] = [f"cracktool.{alias.name}" for alias in node.names]
    return found


def violations(name: str, tree: ast.Module) -> list[str]:
    if name == "__init__":
        return []
    here = name.split(".")[0]
    wrong = []
    for target in imports(tree):
        root, _, rest = target.partition(".")
        if root == "cracktool" and rest and not rest.startswith("_"):
            there = rest.split(".")[0]
            if there != here and FLOORS[there] >= FLOORS[here]:
                wrong.append(f"{name} (floor {FLOORS[here]}) imports {rest} (floor {FLOORS[there]})")
        elif root in HOMES and not {here, name} & HOMES[root]:
            wrong.append(f"{name} imports {root}, whose home is {sorted(HOMES[root])}")
    return wrong


def test_every_module_has_a_floor():
    assert {name.split(".")[0] for name in modules()} - {"__init__"} == set(FLOORS)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_down(name):
    assert violations(name, modules()[name]) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("images", "from cracktool.inference import Predictor"),
        ("images", "import torch"),
        ("inference.engine", "import torch"),
        ("losses", "from cracktool.models import build_model"),
        ("evaluation", "from cracktool.export import export_model"),
        ("inference.engine", "def f():\n    from cracktool.training import train"),
        ("models.unet", "import timm.layers"),
        ("training", "from tqdm import tqdm"),
        ("metrics", "from cracktool import weights"),
        ("measuring.widths", "import torch"),
        ("inspection.tables", "import rasterio"),
        ("measuring.measure", "from cracktool.inference import load_predictor"),
    ],
)
def test_a_planted_violation_is_caught(name, line):
    assert violations(name, ast.parse(line))


def test_library_neither_prints_nor_exits():
    loud = {"print", "exit", "quit", "input", "breakpoint"}
    calls = [
        f"{name}:{node.lineno}"
        for name, tree in modules().items()
        if name.split(".")[0] != "cli"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in loud
    ]
    assert calls == []


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_help_imports_nothing_heavy():
    heavy = "{'torch', 'numpy', 'cv2', 'PIL', 'matplotlib', 'scipy', 'skimage', 'timm'}"
    code = f"""
import sys
from functools import cache
from cracktool import cli
sys.argv = ['crack', '--help']
try:
    cli.main()
except SystemExit:
    pass
print(sorted({heavy} & set(sys.modules)))
"""
    assert run(code).splitlines()[-1] == "[]"


def test_scoring_masks_needs_no_torch():
    assert run("import cracktool.evaluation, cracktool.report, sys; print('torch' in sys.modules)") == "False"
