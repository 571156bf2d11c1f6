"""Settings: who wins, what is refused and with which advice, and that a written recipe gives the same settings."""

import ast
import inspect
import tomllib
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cracktool import config
from cracktool.config import Augment, TrainConfig, read_recipe, recipe_names, resolve
from cracktool.errors import UsageError

MODEL = {"model": "unet_resnet18"}


def test_defaults():
    assert resolve([MODEL]) == TrainConfig(model="unet_resnet18")


def test_precedence():
    recipe = MODEL | {"lr": 1.0, "size": 64, "epochs": 3, "seed": 1, "augment": {"blur": 0.1, "noise": 0.1}}
    options = {"size": 128, "epochs": 4, "augment": {"noise": 0.2}}
    found = resolve([recipe, options], ["epochs=5", "augment.jpeg=0.3", "epochs=6"])
    assert (found.lr, found.size, found.epochs, found.batch_size) == (1.0, 128, 6, TrainConfig(**MODEL).batch_size)
    assert found.augment == Augment(blur=0.1, noise=0.2, jpeg=0.3)
    assert recipe["augment"] == {"blur": 0.1, "noise": 0.1}  # layers are not changed


def test_arguments_of_a_network_go_with_its_name():
    recipe = MODEL | {"model_args": {"max_stride": 16}, "lr": 1.0}
    assert resolve([recipe, {"model": "unet_resnet18"}]).model_args == {"max_stride": 16}
    assert resolve([recipe, {"model": "unet_resnet101"}]).model_args == {}
    assert resolve([recipe, {"model": "unet_resnet101"}]).lr == 1.0
    other = resolve([recipe], ["model=unet_resnet34", "model_args.max_stride=8"])
    assert other.model_args == {"max_stride": 8}


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("lr=0.01", "lr", 0.01),
        ("lr=1", "lr", 1.0),
        ("lr = 1e-3", "lr", 0.001),
        ("size=256", "size", 256),
        ("pretrained=false", "pretrained", False),
        ("loss=bce", "loss", "bce"),
        ('loss="0.5*bce+dice"', "loss", "0.5*bce+dice"),
        ("loss=0.5*bce+dice", "loss", "0.5*bce+dice"),
        ("init=runs/a=b", "init", "runs/a=b"),
        ("init=", "init", ""),
        ("data=data/a", "data", ("data/a",)),
        ('data=["a", "b"]', "data", ("a", "b")),
        ("data_weights=3", "data_weights", (3.0,)),
        ("model_args.max_stride=16", "model_args", {"max_stride": 16}),
        ('model_args={decoder_channels = [8, 4], "a b" = {c = 1}}', "model_args", None),
        ("schedule=poly", "schedule", "poly"),
        ("augment.zoom=[0.5, 2]", "augment", Augment(zoom=(0.5, 2.0))),
        ("augment={blur = 0.5}", "augment", Augment(blur=0.5)),
    ],
)
def test_assignments(text, name, value):
    found = getattr(resolve([MODEL], [text]), name)
    assert found == ({"decoder_channels": [8, 4], "a b": {"c": 1}} if value is None else value)
    assert type(found) is (dict if value is None else type(value))


@pytest.mark.parametrize(
    ("layers", "assignments", "message"),
    [
        ([MODEL | {"epocs": 3}], [], "no setting 'epocs'.*did you mean epochs"),
        ([MODEL | {"augment": {"blurr": 1}}], [], "no setting of augment 'blurr'.*did you mean blur"),
        ([MODEL], ["augmet.blur=1"], "no setting 'augmet'.*did you mean augment"),
        ([MODEL], ["zzzz=1"], "no setting 'zzzz'.*use model, "),
        ([MODEL], ["augment.zzzz=1"], "no setting of augment 'zzzz'.*use hflip, "),
        ([MODEL], ["optimizer=adamm"], "optimizer is 'adamm', expected one of adam, adamw, sgd.*did you mean adam"),
        ([MODEL], ["optimizer=3"], "optimizer is 3, expected one of adam"),
        ([MODEL], ["schedule=cosin"], "did you mean cosine"),
        ([MODEL], ["fit=[1]"], "fit is .1., expected one of crop, resize"),
        ([MODEL], ["lr"], "--set 'lr' cannot be read.*key=value"),
        ([MODEL], ["=3"], "--set '=3' cannot be read"),
        ([], [], "no model is named.*--model"),
        ([{"lr": 1}], ["size=3"], "no model is named"),
    ],
)
def test_typos(layers, assignments, message):
    with pytest.raises(UsageError, match=message):
        resolve(layers, assignments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=fast", "a number"),
        ("lr=true", "a number"),
        ("lr=[1]", "a number"),
        ("lr.a=1", "a number"),
        ("lr=inf", "a finite number"),
        ("lr=nan", "a finite number"),
        ("weight_decay=inf", "a finite number"),
        ("size=3.0", "a whole number"),
        ("size=big", "a whole number"),
        ("size=true", "a whole number"),
        ("size=2020-01-01", "a whole number"),
        ("pretrained=1", "true or false"),
        ("pretrained=True", "true or false"),
        ("model=3", "text"),
        ("data=[1]", "text"),
        ("data_weights=[true]", "a number"),
        ("model_args=3", "a table"),
        ("augment=3", "a table"),
        ("augment=[1]", "a table"),
        ("augment.zoom=1", "a list of 2 values"),
        ("augment.zoom=[1, 2, 3]", "a list of 2 values"),
        ('augment.zoom=["a", 2]', "a number"),
        ("augment.blur=often", "a number"),
    ],
)
def test_wrong_types(text, expected):
    with pytest.raises(UsageError, match=rf"^{text.split('=')[0].removesuffix('.a')} is .*, expected {expected}"):
        resolve([MODEL], [text])


RANGES = {
    "size": [0, -1],
    "epochs": [0],
    "batch_size": [0],
    "tile": [0],
    "step_epochs": [0],
    "epoch_samples": [-1],
    "val_images": [-1],
    "warmup_steps": [-1],
    "workers": [-2],
    "accumulate": [0],
    "patience": [-1],
    "distil": [-0.1],
    "empty_crops": [-0.1, 1.1],
    "mine_share": [-0.1, 1.1],
    "unlabelled_share": [-0.1, 1.1],
    "trust": [[0.5, 0.5], [-0.1, 0.5], [0.5, 1.1]],
    "weight_decay": [-0.1],
    "clip_norm": [-0.1],
    "crack_crops": [-0.1, 1.1],
    "momentum": [-0.1, 1.1],
    "beta": [-0.1, 1.1],
    "boundary_cap": [-0.1, 1.1],
    "boundary_epochs": [-1],
    "restore_epochs": [-1],
    "aux_weight": [-0.1],
    "lr": [0.0, -1.0],
    "ema": [-0.1, 1.0],
    "threshold": [0.0, 1.0],
    "data": [[]],
    "data_weights": [[1.0, 2.0], [0.0], [-1.0]],
    "seed": [-1, 2**32],
    "poly_power": [0.0, -1.0],
    "pseudo_share": [0.0, 1.1],
    "pseudo_band": [[0.0, 0.5], [0.5, 0.4], [0.5, 1.0]],
    "augment.hflip": [-0.1, 1.1],
    "augment.vflip": [-0.1, 1.1],
    "augment.quarter_turns": [-0.1, 1.1],
    "augment.blur": [-0.1, 1.1],
    "augment.noise": [-0.1, 1.1],
    "augment.jpeg": [-0.1, 1.1],
    "augment.invert": [-0.1, 1.1],
    "augment.brightness": [-0.1, 1.1],
    "augment.contrast": [-0.1, 1.1],
    "augment.saturation": [-0.1, 1.1],
    "augment.hue": [-0.1, 0.6],
    "augment.rotate": [-1.0, 181.0],
    "augment.zoom": [[2.0, 1.0], [0.0, 1.0], [1.0, 11.0]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RANGES.items() for value in values])
def test_ranges(name, value):
    with pytest.raises(UsageError, match=f"^{name} is .*, expected"):
        resolve([MODEL], [f"{name}={value}"])


def test_every_number_has_a_range():
    kinds = ("int", "float", "tuple[float, ...]", "tuple[float, float]")
    numbers = {each.name for each in fields(TrainConfig) if each.type in kinds}
    numbers |= {f"augment.{each.name}" for each in fields(Augment)}
    assert numbers <= set(RANGES)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["patience=3", "select=last"], "select=iou"),
        (["distil=1"], "set teacher"),
        (["teacher=runs/large"], "set distil=1"),
        (["distil=1", "teacher=runs/large", "degrade=true"], "leave distil out"),
        (["distil=1", "teacher=runs/large", "unlabelled=photos", "ema=0.9"], "leave one out"),
        (["unlabelled=photos"], "set ema"),
        (["unlabelled=photos", "ema=0.9", "epochs=1"], "from the second epoch on"),
        (["mine=photos", "fit=resize"], "set fit=crop"),
        (["empty_crops=0.5", "fit=resize"], "set fit=crop"),
        (["mine=photos", "supervision=image", "fit=resize"], "mine"),
        (["crack_crops=0.6", "empty_crops=0.6"], "1 at most"),
        (["mine=photos", "mine_share=0.5", "unlabelled=more", "unlabelled_share=0.5", "ema=0.9"], "less than 1"),
    ],
)
def test_contradictions_of_teachers_and_samples(texts, words):
    with pytest.raises(UsageError, match=words):
        resolve([MODEL], texts)


PSEUDO = ["supervision=pseudo", "teacher=runs/weak", "select=last"]


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["fit=resize", "crack_crops=0.5"], "crack_crops has no effect with fit = resize.*fit=crop"),
        (["fit=resize", "augment.zoom=[0.5, 1]"], "augment.zoom has no effect with fit = resize"),
        (["soft_masks=true"], "soft_masks has no effect with fit = crop.*fit=resize"),
        (["supervision=image"], "a cut-out need not have the label of its image.*fit=resize"),
        (["supervision=image", "fit=resize", "degrade=true"], "degrade needs masks to learn from"),
        ([*PSEUDO, "teacher="], "pseudo-masks need a teacher.*teacher=runs/weak"),
        (["teacher=runs/weak"], "a teacher has no effect with supervision = pixels.*supervision=pseudo"),
        (["teacher=a", "supervision=image", "fit=resize"], "a teacher has no effect with supervision = image"),
        ([*PSEUDO, "degrade=true"], "degrade needs masks to learn from"),
        ([*PSEUDO, "fit=resize", "soft_masks=true"], "pseudo-masks are never soft.*soft_masks=false"),
        ([*PSEUDO, "select=iou"], "no mask may choose among the epochs.*select=last"),
        (["restore_epochs=2"], "restore_epochs has no effect without degrade.*degrade=true"),
        (["degrade=true", "restore_epochs=3", "epochs=3"], "3 of 3 epochs, so no crack would be learned"),
        (["sr_weights=crack"], "sr_weights has no effect without degrade.*degrade=true"),
        (["degrade=true", "size=130"], "size is 130, but a quarter of it must be whole"),
        (['data=["a", "b"]', "data_weights=[1]"], "data_weights is .*one value for each of the 2 data sets"),
    ],
)
def test_contradictions(assignments, message):
    with pytest.raises(UsageError, match=message):
        resolve([MODEL], assignments)


def test_direct_construction_is_checked_too():
    with pytest.raises(UsageError, match="lr is -1"):
        TrainConfig(model="unet_resnet18", lr=-1)
    with pytest.raises(UsageError, match=r"augment.blur is 2"):
        Augment(blur=2)


shares = st.floats(0, 1)
augments = st.builds(
    Augment,
    **dict.fromkeys(
        ["hflip", "vflip", "quarter_turns", "blur", "noise", "jpeg", "brightness", "contrast", "saturation"], shares
    ),
    hue=st.floats(0, 0.5),
    rotate=st.floats(0, 180),
    zoom=st.tuples(st.floats(0.1, 1), st.floats(1, 10)),
)
plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=6,
)
configs = st.builds(
    TrainConfig,
    model=plain,
    model_args=st.dictionaries(plain, values, max_size=4),
    pretrained=st.booleans(),
    init=plain,
    data=st.tuples(plain, plain),
    data_weights=st.just(()) | st.tuples(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9)),
    size=st.integers(1, 9999),
    crack_crops=shares,
    augment=augments,
    loss=plain,
    optimizer=st.sampled_from(["adam", "adamw", "sgd"]),
    lr=st.floats(1e-12, 1e3),
    weight_decay=st.floats(0, 1e300),
    schedule=st.sampled_from(["constant", "cosine", "poly", "step"]),
    threshold=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
    device=plain,
)


@settings(max_examples=80, deadline=None)
@given(config=configs)
def test_written_settings_give_the_same_settings(config):
    assert resolve([tomllib.loads(config.to_toml())]) == config


def test_written_settings_as_a_file(tmp_path):
    made = replace(TrainConfig(**MODEL), init='C:\\new\t"x"', model_args={"decoder_channels": [1, 2]})
    path = tmp_path / "config.toml"
    path.write_text(made.to_toml(), encoding="utf-8")
    assert resolve([read_recipe(str(path))]) == made


@pytest.mark.parametrize("kind", [Augment, TrainConfig])
def test_every_field_has_its_help_under_it(kind):
    body = ast.parse(inspect.getsource(kind)).body[0].body
    for item, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(item, ast.AnnAssign):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            assert str(text).endswith("."), item.target.id
    assert {item.target.id for item in body if isinstance(item, ast.AnnAssign)} == {each.name for each in fields(kind)}


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_resolves(name):
    found = resolve([MODEL, read_recipe(name)])
    assert set(read_recipe(name)) <= set(asdict(found))


def test_recipes_of_others_have_their_settings():
    assert read_recipe("crackrefinenet")["augment"]["hue"] == 18 / 180  # OpenCV counts hues up to 180
    theirs = resolve([read_recipe("hrnet_ocr")])
    assert theirs.decay_all
    assert theirs.augment == Augment(zoom=(0.5, 2.0), vflip=0, quarter_turns=0, brightness=0, contrast=0, saturation=0)


def test_recipes_come_with_the_package():
    assert "fast" in recipe_names()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("fats", None, "no recipe 'fats'.*did you mean fast"),
        ("zzzz", None, "no recipe 'zzzz'.*use a .toml file, .*fast"),
        ("bad.toml", b"lr = = 3", "bad.toml: not a recipe: "),
        ("latin.toml", "loss = 'ä'".encode("latin-1"), "latin.toml: not a recipe: "),
    ],
)
def test_recipes_that_cannot_be_read(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_recipe(name)


def test_a_recipe_without_right_to_read(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.toml").touch()
    monkeypatch.setattr(config.Path, "read_text", refuse)
    with pytest.raises(UsageError, match=r"a.toml: cannot be read: Permission denied"):
        read_recipe(str(tmp_path / "a.toml"))
