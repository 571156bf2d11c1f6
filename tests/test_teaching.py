"""Teachers, unlabelled photos and mined false alarms: real runs on small pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_training import make_data

from cracktool.card import Card
from cracktool.config import Augment, TrainConfig
from cracktool.data import IGNORED, UNKNOWN, Example, Samples
from cracktool.errors import InputError, UsageError
from cracktool.images import encode_png, read_grey
from cracktool.models import PaddedModel
from cracktool.training import EpochEnded, train
from cracktool.training.objective import build_objective
from cracktool.training.teaching import confident_mask, disturbed
from cracktool.weights import load_weights, read_weights, save_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def config(data):
    return TrainConfig(
        model="unet_test_resnet",
        model_args={"decoder_channels": (16, 16, 16, 8, 8)},
        pretrained=False,
        data=(str(data),),
        size=64,
        batch_size=2,
        epochs=2,
        epoch_samples=8,
        workers=0,
        dtype="float32",
    )


class Fixed(PaddedModel):
    """Gives the first channel of its input as logits."""

    def __init__(self):
        super().__init__(stride=1)
        self.seen = None

    def forward_padded(self, x):
        self.seen = x
        return x[:, :1] * 1.0


def photos(folder, count=2, *, dark_corner=True):
    folder.mkdir()
    for number in range(count):
        image = np.random.default_rng(number).integers(120, 200, (70, 90, 3), dtype=np.uint8)
        if dark_corner:
            image[:20, :20] //= 4
        (folder / f"{number}.png").write_bytes(encode_png(image))
    return folder


def last(run):
    return read_weights(run / "last.safetensors")[0]


def differ(one, other):
    return any(not torch.equal(one[name], other[name]) for name in one)


def test_a_teacher_adds_its_probabilities(config):
    objective = build_objective(replace(config, distil=0.5, teacher="any", loss="bce"), 0)
    x = torch.tensor([[[[2.0, -1.0]]]])
    mask, probs = torch.tensor([[[[1, 0]]]], dtype=torch.uint8), torch.tensor([[[[0.75, 0.25]]]])
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    expected = bce(x, mask.float()) + 0.5 * bce(x, probs)
    assert objective(Fixed(), x, [mask, probs]).item() == pytest.approx(expected.item())


def test_distilling_changes_what_is_learned(config, tmp_path):
    list(train(replace(config, seed=3), tmp_path / "teacher"))
    list(train(config, tmp_path / "alone"))
    taught = replace(config, distil=1.0, teacher=str(tmp_path / "teacher"))
    list(train(taught, tmp_path / "taught"))
    assert differ(last(tmp_path / "alone"), last(tmp_path / "taught"))
    with pytest.raises(UsageError, match="multiple of 32 px"):
        next(train(replace(taught, size=72), tmp_path / "odd"))


def test_the_taught_come_under_the_terms_of_their_teacher(config, tmp_path):
    for name in ("one", "two"):
        list(train(replace(config, epochs=1, seed=len(name)), tmp_path / name))
        learned = load_weights(tmp_path / name)
        card = replace(learned.card, data=(f"photos of {name}",), licence=f"licence {name}")
        save_weights(tmp_path / f"{name}.safetensors", learned.model.state_dict(), card)
    teacher, init = (str(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    taught = replace(config, epochs=2, distil=1.0, teacher=teacher, init=init)
    for event in train(taught, tmp_path / "taught"):
        if isinstance(event, EpochEnded):
            break
    list(train(taught, tmp_path / "taught", resume=True))
    card = load_weights(tmp_path / "taught").card
    assert card.data == ("photos of two", "photos of one", *config.data)
    assert card.licence == "licence two; licence one"
    list(train(replace(taught, epochs=1, init=teacher), tmp_path / "alike"))
    assert load_weights(tmp_path / "alike").card.licence == "licence one"


def test_terms_are_told_apart_as_wholes():
    card = Card(model="any", mean=(0.0,) * 3, std=(1.0,) * 3, licence="all rights LIMITED")
    taught = card.taught_by((), "MIT").taught_by((), "MIT; all rights LIMITED")
    assert taught.licence == "all rights LIMITED; MIT"


def test_the_average_is_believed_where_it_is_sure():
    x = torch.tensor([[[[-3.0, -2.0, 0.0, 2.0, 3.0]]]])
    assert confident_mask(Fixed().train(), x, (0.1, 0.9)).tolist() == [[[[0, IGNORED, IGNORED, IGNORED, 1]]]]


def test_only_photos_without_masks_are_disturbed():
    torch.manual_seed(0)
    x = torch.randn(3, 3, 8, 8)
    harder = disturbed(x, torch.tensor([False, True, False]))
    assert torch.equal(harder[[0, 2]], x[[0, 2]])
    assert 0.05 < (harder[1] - x[1]).std() < 1


def test_unlabelled_photos_teach_nothing_before_the_average_knows_anything(config, tmp_path):
    folder = photos(tmp_path / "photos")
    changes = {"unlabelled": str(folder), "unlabelled_share": 0.5, "ema": 0.5, "loss": "bce"}
    cautious, trusting = (
        [last(run) for event in train(replace(config, **changes, trust=trust), run) if isinstance(event, EpochEnded)]
        for run, trust in ((tmp_path / "cautious", (0.1, 0.9)), (tmp_path / "trusting", (0.4999, 0.5001)))
    )
    assert list(map(differ, cautious, trusting)) == [False, True]


@pytest.mark.parametrize("fit", ["crop", "resize"])
@pytest.mark.parametrize("zoom", [(1.0, 1.0), (0.5, 0.6), (1.5, 1.6)])
def test_an_unlabelled_sample_says_so(tmp_path, fit, zoom):
    folder = photos(tmp_path / "photos", 1)
    augment = replace(TrainConfig(model="x").augment, zoom=zoom)
    samples = Samples([Example(folder / "0.png", None, unlabelled=True)], size=32, augment=augment, fit=fit)
    for draw in range(1, 4):
        image, target = samples[0, draw]
        assert image.shape == (3, 32, 32)
        assert target.unique().tolist() == [UNKNOWN]


def test_false_alarms_are_dug_up_and_cut_out(config, tmp_path):
    folder = photos(tmp_path / "photos", 3)
    mined = replace(config, mine=str(folder), mine_share=0.5, epoch_samples=24)
    list(train(mined, tmp_path / "run"))
    heats = sorted((tmp_path / "run" / "mined").iterdir())
    assert [path.name for path in heats] == ["0.png", "1.png", "2.png"]
    assert read_grey(heats[0]).shape == (70, 90)
    list(train(config, tmp_path / "without"))
    assert differ(last(tmp_path / "run"), last(tmp_path / "without"))


def test_a_mined_run_resumes_as_if_never_stopped(config, tmp_path):
    config = replace(config, mine=str(photos(tmp_path / "photos")), ema=0.5)
    list(train(config, tmp_path / "whole"))
    for event in train(config, tmp_path / "parts"):
        if isinstance(event, EpochEnded):
            break
    list(train(config, tmp_path / "parts", resume=True))
    assert not differ(last(tmp_path / "whole"), last(tmp_path / "parts"))


def test_cut_outs_are_where_the_false_alarms_are(tmp_path):
    folder = photos(tmp_path / "photos", 1)
    heat = np.zeros((70, 90), np.uint8)
    heat[60, 80] = 200
    (tmp_path / "heat.png").write_bytes(encode_png(heat))
    image = np.zeros((70, 90, 3), np.uint8)
    image[60, 80] = 255
    (folder / "0.png").write_bytes(encode_png(image))
    still = replace(
        TrainConfig(model="x").augment, hflip=0, vflip=0, quarter_turns=0, brightness=0, contrast=0, saturation=0
    )
    hot = Samples([Example(folder / "0.png", None, heat=tmp_path / "heat.png")], size=32, augment=still)
    anywhere = Samples([Example(folder / "0.png", None)], size=32, augment=still)
    assert all(hot[0, seed][0].max() == 255 for seed in range(20))
    assert not all(anywhere[0, seed][0].max() == 255 for seed in range(20))


def test_empty_cut_outs_can_be_asked_for(data):
    item = Example(data / "images" / "0.png", data / "masks" / "0.png")
    shares = {}
    for name, wishes in {"any": {}, "crack": {"crack_crops": 1.0}, "empty": {"empty_crops": 1.0}}.items():
        samples = Samples([item], size=48, augment=Augment(), **wishes)
        shares[name] = np.mean([bool(samples[0, seed][1].any()) for seed in range(40)])
    assert shares["empty"] < 0.2 < shares["any"] < 0.8 < shares["crack"]


@pytest.mark.parametrize("setting", ["mine", "unlabelled"])
def test_a_folder_without_photos_is_one_clear_error(config, setting, tmp_path):
    with pytest.raises(InputError, match="no photos"):
        next(train(replace(config, ema=0.5, **{setting: str(tmp_path)}), tmp_path / "run"))
