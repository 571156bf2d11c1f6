"""What is installed: the public names, and what a wheel holds."""

import importlib.metadata
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import cracktool

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_public_names_are_few_and_load_when_used():
    assert len(cracktool.__all__) <= 8
    for name in cracktool.__all__:
        assert getattr(cracktool, name).__name__ == name
    assert set(cracktool.__all__) <= set(dir(cracktool))
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        cracktool.Predicter  # noqa: B018


def test_importing_the_package_costs_nothing():
    code = "import sys, cracktool; print(sorted({'numpy', 'torch', 'cv2', 'typer'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_lower_bounds_are_those_that_are_tested():
    tested = dict(
        line.split("==")
        for line in (ROOT / ".ci" / "lowest.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["export"]]
    bounds = dict(requirement.split(">=") for requirement in wanted)
    assert bounds.keys() == tested.keys()
    for name, bound in bounds.items():
        assert (tested[name] + ".").startswith(bound + "."), name


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a checkout")
def test_no_path_of_a_machine_is_in_the_package():
    files = [path for path in (ROOT / "cracktool").rglob("*") if path.suffix in (".py", ".toml")]
    assert [path.name for path in files if str(ROOT) in path.read_text(encoding="utf-8")] == []


@pytest.mark.network
def test_a_wheel_holds_code_recipes_and_weights(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cracktool").rglob("*.py")}
    recipes = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cracktool").rglob("*.toml")}
    files = ("crack-fast.safetensors", "crack-fast.onnx", "crack-accurate.safetensors")
    shipped = {f"cracktool/shipped_weights/{file}" for file in files}
    assert code | recipes | shipped | {"cracktool/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests/", "examples/"))]


def test_the_command_is_installed():
    scripts = importlib.metadata.entry_points(group="console_scripts", name="crack")
    if not scripts:
        pytest.skip("the package is not installed here")
    assert next(iter(scripts)).value == "cracktool.cli:main"
