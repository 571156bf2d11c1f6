"""Training data: a sample is a function of its key alone, and its mask stays on its picture."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cracktool.config import Augment, TrainConfig
from cracktool.data import EpochSampler, Example, Samples, list_examples, read_example, training_loader
from cracktool.degradation import degrade
from cracktool.errors import InputError
from cracktool.images import encode_png, write_mask
from cracktool.manifest import Entry, Manifest

NONE = Augment(hflip=0, vflip=0, quarter_turns=0, brightness=0, contrast=0, saturation=0)
ALL = Augment(rotate=30, zoom=(0.6, 1.6), hue=0.1, blur=0.5, noise=0.5, jpeg=0.5)
KEYS = [(index, 1000 + index) for index in range(3)] * 4


def blobs(height, width, seed=0):
    """A mask of soft-edged islands, some px wide, not symmetric in any way."""
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 5, borderType=cv2.BORDER_REFLECT_101) > 0.02


def telling(mask):
    """A picture that says by its red where the mask is, and by green and blue where its pixels come from."""
    rows, columns = np.indices(mask.shape)
    return np.dstack([np.where(mask, 255, 0), rows % 256, columns % 256]).astype(np.uint8)


def store(folder, name, mask, image=None):
    (folder / f"{name}.png").write_bytes(encode_png(telling(mask) if image is None else image))
    write_mask(folder / f"{name}_mask.png", mask)
    return Example(folder / f"{name}.png", folder / f"{name}_mask.png")


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    sizes = ((90, 120), (120, 90), (70, 70))
    return [store(folder, f"p{seed}", blobs(*size, seed)) for seed, size in enumerate(sizes)]


def samples(items, size=64, augment=NONE, **more):
    return Samples(items, size=size, augment=augment, **more)


def agreement(image, mask):
    return float(((image[0] >= 128) == mask[0].bool()).float().mean())


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_form(items):
    image, mask = samples(items, augment=ALL)[0, 1]
    assert type(image) is type(mask) is torch.Tensor
    assert (image.shape, image.dtype) == ((3, 64, 64), torch.uint8)
    assert (mask.shape, mask.dtype) == ((1, 64, 64), torch.uint8)
    assert set(mask.unique().tolist()) == {0, 1}
    assert len(samples(items)) == 3


def test_without_changes_a_sample_is_a_cut_out(items):
    image, mask = samples(items)[0, 1]
    top, left = image[1, 0, 0], image[2, 0, 0]  # where the picture says that this pixel comes from
    whole, truth = read_example(items[0])
    assert torch.equal(image, whole[:, top : top + 64, left : left + 64])
    assert torch.equal(mask, truth[:, top : top + 64, left : left + 64])


def test_cut_outs_come_from_everywhere(items):
    corners = {tuple(samples(items)[0, seed][0][1:, 0, 0].tolist()) for seed in range(300)}
    rows, columns = zip(*corners, strict=True)
    assert (min(rows), max(rows)) == (0, 26)
    assert (min(columns), max(columns)) == (0, 56)


@pytest.mark.parametrize("fit", ["crop", "resize"])
def test_a_sample_depends_on_its_key_alone(items, fit):
    augment = ALL if fit == "crop" else replace(ALL, zoom=(1.0, 1.0))
    first = samples(items, augment=augment, fit=fit, crack_crops=0.5 if fit == "crop" else 0.0)
    expected = [first[key] for key in KEYS]
    second = samples(items, augment=augment, fit=fit, crack_crops=0.5 if fit == "crop" else 0.0)
    torch.rand(5)
    np.random.default_rng().random()
    for key, sample in reversed(list(zip(KEYS, expected, strict=True))):
        assert equal(second[key], sample)
    assert not equal(first[0, 1], first[0, 2])


def test_drawing_samples_leaves_the_callers_random_numbers_alone(items):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = torch.rand(4)
        torch.manual_seed(3)
        samples(items, augment=ALL)[0, 7]
        assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(
    "change",
    [{"hflip": 1}, {"vflip": 1}, {"quarter_turns": 1}, {"hflip": 0.5, "vflip": 0.5, "quarter_turns": 0.5}],
    ids=lambda change: "+".join(change),
)
def test_flips_and_turns_move_picture_and_mask_exactly_alike(items, change):
    made = samples(items, augment=replace(NONE, **change))
    for key in KEYS:
        image, mask = made[key]
        assert agreement(image, mask) == 1
        assert 0.05 < mask.float().mean() < 0.95


@pytest.mark.parametrize(
    ("change", "more", "least"),
    [
        ({"zoom": (0.4, 2.5)}, {}, 0.995),
        ({"zoom": (3.0, 3.0)}, {}, 0.995),
        ({"rotate": 180}, {}, 0.96),  # the mask moves by whole px, the picture by parts
        ({"rotate": 30, "zoom": (0.7, 1.4), "hflip": 0.5, "vflip": 0.5, "quarter_turns": 0.5}, {}, 0.96),
        ({}, {"fit": "resize"}, 0.995),
        ({"rotate": 10}, {"fit": "resize"}, 0.95),
        ({}, {"size": 200}, 1),
        ({"zoom": (0.3, 0.3)}, {"size": 100}, 0.99),
        ({}, {"crack_crops": 1.0}, 1),
    ],
    ids=str,
)
def test_picture_and_mask_stay_together(items, change, more, least):
    made = samples(items, augment=replace(NONE, **change), **more)
    shares = [agreement(*made[key]) for key in KEYS]
    assert min(shares) >= least
    assert 0.05 < torch.stack([made[key][1] for key in KEYS]).float().mean() < 0.95


def test_rotation_shows_no_black_corner(tmp_path):
    item = store(tmp_path, "white", np.ones((80, 80), bool), np.full((80, 80, 3), 200, np.uint8))
    made = samples([item], augment=replace(NONE, rotate=180))
    for seed in range(20):
        image, mask = made[0, seed]
        assert image.min() >= 199
        assert mask.all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 70), (70, 5), (3, 3), (63, 64)])
def test_a_picture_smaller_than_the_cut_out_is_mirrored(tmp_path, shape):
    mask = np.zeros(shape, bool)
    mask[: shape[0] // 2 + 1, : shape[1] // 2 + 1] = True
    item = store(tmp_path, "small", mask)
    image, found = samples([item])[0, 3]
    assert image.shape == (3, 64, 64)
    assert agreement(image, found) == 1

    rows, columns = image[1, :, 0].numpy(), image[2, 0].numpy()  # where the pixels come from
    for places, extent in ((rows, shape[0]), (columns, shape[1])):
        if extent <= 64:  # to and fro: 0 1 2 1 0 1 2 ...
            there_and_back = [*range(extent), *range(extent - 2, 0, -1)]
            np.testing.assert_array_equal(places, np.resize(there_and_back, 64))
    np.testing.assert_array_equal(found[0], mask[np.ix_(rows, columns)])


def test_zoom_sets_how_much_of_the_picture_is_seen(tmp_path):
    item = store(tmp_path, "ramp", np.zeros((200, 200), bool))
    for zoom in (0.5, 1.0, 2.0):
        image, _ = samples([item], augment=replace(NONE, zoom=(zoom, zoom)))[0, 5]
        assert int(image[1, -1, 0]) - int(image[1, 0, 0]) == pytest.approx(63 / zoom, abs=1.5)
    made = samples([item], augment=replace(NONE, zoom=(0.5, 2.0)))
    spans = [int(made[0, seed][0][1, -1, 0]) - int(made[0, seed][0][1, 0, 0]) for seed in range(100)]
    assert min(spans) < 40
    assert max(spans) > 100
    assert 0.35 < np.mean(np.array(spans) > 64) < 0.65  # as often larger as smaller


def test_resize_shows_the_whole_picture_squeezed(items):
    image, mask = samples(items, fit="resize")[0, 1]
    expected = cv2.resize(telling(blobs(90, 120, 0))[..., 1:], (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(image[1:].permute(1, 2, 0).numpy().astype(int) - expected).max() <= 2
    assert mask.float().mean() == pytest.approx(blobs(90, 120, 0).mean(), abs=0.01)


@pytest.mark.parametrize("more", [{"fit": "resize"}, {}], ids=["resize", "zoom"])
def test_shrinking_keeps_a_line_of_two_pixels(tmp_path, more):
    mask = np.zeros((128, 128), bool)
    mask[:, 61:63] = True
    augment = NONE if more else replace(NONE, zoom=(0.5, 0.5))
    _, found = samples([store(tmp_path, "line", mask)], augment=augment, **more)[0, 0]
    assert found.any(dim=-1).all()


def test_crack_crops_raise_the_share_of_cut_outs_with_crack(tmp_path):
    mask = np.zeros((200, 200), bool)
    mask[90:100, 90:100] = True
    item = store(tmp_path, "rare", mask)

    def share(wish):
        made = samples([item], size=32, crack_crops=wish)
        return np.mean([bool(made[0, seed][1].any()) for seed in range(150)])

    never, half, always = share(0.0), share(0.5), share(1.0)
    assert never < 0.15
    assert never + 0.1 < half < always
    assert always > 0.3  # it tries several places, not all


def test_crack_crops_leave_pictures_without_crack_alone(tmp_path):
    item = store(tmp_path, "clean", np.zeros((90, 90), bool))
    assert equal(samples([item], crack_crops=1.0)[0, 4], samples([item])[0, 4])


@pytest.mark.parametrize(
    "change",
    [
        {"hflip": 1},
        {"vflip": 1},
        {"quarter_turns": 1},
        {"rotate": 45},
        {"zoom": (2, 2)},
        {"brightness": 0.5},
        {"contrast": 0.5},
        {"saturation": 0.5},
        {"hue": 0.5},
        {"blur": 1},
        {"noise": 1},
        {"jpeg": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_switch_has_an_effect(items, change):
    made = samples(items, augment=replace(NONE, **change))
    plain = samples(items)
    colour = not {"hflip", "vflip", "quarter_turns", "rotate", "zoom"} & set(change)
    for key in KEYS[:3]:
        assert not torch.equal(made[key][0], plain[key][0])
        assert torch.equal(made[key][1], plain[key][1]) == colour  # a change of colour never touches the mask


def test_jpeg_artefacts_are_those_of_a_jpeg(items):
    image, _ = samples(items, augment=replace(NONE, jpeg=1))[0, 1]
    plain, _ = samples(items)[0, 1]
    assert 0.5 < (image.float() - plain.float()).abs().mean() < 30
    assert image.is_contiguous()


def test_each_switch_is_off_at_zero(items):
    """With everything at 0 a sample is the plain cut-out, which `test_without_changes...` checks to the pixel."""
    for name in ("blur", "noise", "jpeg", "hflip", "vflip", "quarter_turns", "hue", "rotate"):
        off = samples(items, augment=replace(NONE, **{name: 0.0}))
        assert all(equal(off[key], samples(items)[key]) for key in KEYS[:3])
    for name in ("blur", "noise", "jpeg"):  # a probability that is hardly ever met changes hardly anything
        rare = samples(items, augment=replace(NONE, **{name: 1e-9}))
        whole, _ = read_example(items[0])
        image, _ = rare[0, 1]
        top, left = image[1, 0, 0], image[2, 0, 0]
        assert torch.equal(image, whole[:, top : top + 64, left : left + 64])


def test_probabilities_are_met(items):
    flipped = samples(items, augment=replace(NONE, hflip=0.3))
    grained = samples(items, augment=replace(NONE, noise=0.3))
    plain = samples(items)
    for made in (flipped, grained):
        changed = [not torch.equal(made[0, seed][0], plain[0, seed][0]) for seed in range(150)]
        assert 0.15 < np.mean(changed) < 0.45


def test_load_without_a_mask_is_free_of_cracks(items):
    image, mask = read_example(Example(items[0].image, None))
    assert mask.shape == (1, *image.shape[1:])
    assert not mask.any()
    image, mask = samples([Example(items[0].image, None)], crack_crops=1.0, augment=ALL)[0, 1]
    assert not mask.any()


def test_a_mask_of_another_size(items, tmp_path):
    path = tmp_path / "other_mask.png"
    write_mask(path, blobs(120, 90))
    with pytest.raises(InputError, match=r"other_mask.png: the mask is 90x120 px, its image 120x90"):
        samples([Example(items[0].image, path)])[0, 0]


@settings(max_examples=40, deadline=None)
@given(images=st.integers(1, 40), count=st.integers(1, 90), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 10**5))
def test_sampler_is_a_function_of_seed_and_epoch(images, count, seed, epoch):
    def keys(epoch):
        sampler = EpochSampler(images=images, weights=None, count=count, seed=seed)
        sampler.epoch = epoch
        assert len(sampler) == count
        return list(sampler)

    first = keys(epoch)
    torch.rand(1)
    assert first == keys(epoch)
    assert len(first) == count
    assert first != keys(epoch + 1)
    for start in range(0, count - images + 1, images):  # every image once in each round
        assert sorted(index for index, _ in first[start : start + images]) == list(range(images))
    assert all(0 <= index < images and 0 <= number < 2**62 for index, number in first)


def test_sampler_seeds_differ_between_runs_and_repeats():
    sampler = EpochSampler(images=3, weights=None, count=300, seed=0)
    assert len({number for _, number in sampler}) == 300
    other = EpochSampler(images=3, weights=None, count=300, seed=1)
    assert list(sampler) != list(other)


def test_sampler_shares():
    weights = torch.tensor([3.0, 1.0, 0.0, 4.0])
    sampler = EpochSampler(images=4, weights=weights, count=8000, seed=0)
    counts = np.bincount([index for index, _ in sampler], minlength=4) / 8000
    np.testing.assert_allclose(counts, [0.375, 0.125, 0, 0.5], atol=0.02)


def entry(item, folder, **values):
    fixed = {"group": "", "source": "", "height": 1, "width": 1, "crack_fraction": 0.1, "sha1": "", "split": "train"}
    mask = item.mask.relative_to(folder).as_posix()
    return Entry(**({"image": item.image.name, "mask": mask, "label": "cracked"} | fixed | values))


def manifest(items, **values):
    folder = items[0].image.parent
    return Manifest(folder, tuple(entry(item, folder, **values) for item in items))


def test_rows_that_teach(items):
    rows = [
        entry(items[0], items[0].image.parent),
        entry(items[1], items[0].image.parent, mask="", label="uncracked"),
        entry(items[2], items[0].image.parent, mask="", label="cracked"),
        entry(items[2], items[0].image.parent, mask="", label="unknown"),
        entry(items[2], items[0].image.parent, label="unknown"),
    ]
    assert [row.has_truth for row in rows] == [True, True, False, False, True]
    found = list_examples(Manifest(items[0].image.parent, tuple(rows)))
    assert found == [items[0], Example(items[1].image, None), items[2]]


def config(**values):
    plain = {"model": "x", "size": 32, "batch_size": 3, "workers": 0, "epoch_samples": 12, "augment": ALL}
    return TrainConfig(**(plain | values))


def batches(items, **values):
    loader, sampler = training_loader([manifest(items)], config(**values))
    sampler.epoch = 2
    return list(loader)


def test_batches_do_not_depend_on_the_number_of_workers(items):
    alone, shared = batches(items, workers=0), batches(items, workers=2)
    assert len(alone) == len(shared) == 4
    assert all(equal(one, other) for one, other in zip(alone, shared, strict=True))
    assert alone[0][0].shape == (3, 3, 32, 32)
    assert alone[0][1].shape == (3, 1, 32, 32)


def test_batches_are_the_samples_of_the_samplers_keys(items):
    loader, sampler = training_loader([manifest(items)], config())
    expected = [loader.dataset[key] for key in sampler]
    for start, batch in zip(range(0, 12, 3), loader, strict=True):
        for slot in range(3):
            assert equal((batch[0][slot], batch[1][slot]), expected[start + slot])


@pytest.mark.parametrize(
    ("values", "steps", "last"),
    [
        ({"epoch_samples": 0}, 1, 3),
        ({"epoch_samples": 10}, 3, 3),  # the rest is dropped
        ({"epoch_samples": 2}, 1, 2),  # but never the only batch
        ({"epoch_samples": 7, "batch_size": 1}, 7, 1),
    ],
)
def test_number_of_batches(items, values, steps, last):
    loader, sampler = training_loader([manifest(items)], config(**values))
    found = list(loader)
    assert len(loader) == len(found) == steps
    assert len(found[-1][0]) == last
    assert sampler.images == 3


def test_shares_of_data_sets(items):
    sets = [manifest(items[:1]), manifest(items[1:])]
    settings = config(data=("a", "b"), data_weights=(3.0, 1.0), epoch_samples=4000)
    _, sampler = training_loader(sets, settings)
    counts = np.bincount([index for index, _ in sampler]) / 4000
    np.testing.assert_allclose(counts, [0.75, 0.125, 0.125], atol=0.03)
    _, plain = training_loader(sets, config(data=("a", "b"), epoch_samples=3))
    assert sorted(index for index, _ in plain) == [0, 1, 2]


def test_a_data_set_with_nothing_to_learn_from(items):
    with pytest.raises(InputError, match="no image with a mask in the train split"):
        training_loader([manifest(items), manifest(items, mask="", label="cracked")], config(data=("a", "b")))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_gives_one_line_from_workers_too(items, tmp_path, workers):
    item = store(tmp_path, "cut", blobs(70, 70))
    item.image.write_bytes(item.image.read_bytes()[:-200])
    loader, _ = training_loader([manifest([item])], config(workers=workers, epoch_samples=3))
    with pytest.raises(InputError, match=r"cut.png: the file is cut short") as caught:
        list(loader)
    assert caught.value.path == str(item.image)
    assert "Traceback" not in str(caught.value)


def test_soft_masks_keep_the_shares_of_crack(tmp_path):
    mask = np.zeros((64, 64), bool)
    mask[:, 29:33] = True
    item = store(tmp_path, "line", mask)
    _, hard = samples([item], 16, fit="resize")[0, 0]
    _, soft = samples([item], 16, fit="resize", soft_masks=True)[0, 0]
    assert (hard.dtype, soft.dtype) == (torch.uint8, torch.float32)
    assert set(hard.unique().tolist()) == {0, 1}
    assert soft.mean().item() == pytest.approx(mask.mean(), abs=0.01)
    assert ((soft > 0.05) & (soft < 0.95)).any()


def test_a_label_is_the_target_and_the_mask_stays_shut(items, tmp_path):
    damaged = tmp_path / "mask.png"
    damaged.write_bytes(b"not a picture")
    for cracked in (True, False):
        image, target = samples([Example(items[0].image, None, cracked)], fit="resize")[0, 0]
        assert image.shape == (3, 64, 64)
        assert (target.shape, target.dtype, target.item()) == ((1, 1, 1), torch.uint8, int(cracked))
    rows = [
        entry(items[0], items[0].image.parent, label="uncracked", crack_fraction=0.0),
        entry(items[1], items[0].image.parent, label="cracked"),
        entry(items[2], items[0].image.parent, label="unknown"),
    ]
    found = list_examples(Manifest(items[0].image.parent, tuple(rows)), "image")
    assert found == [Example(items[0].image, None, False), Example(items[1].image, None, True)]


def test_a_degraded_sample_is_made_of_the_sharp_one_beside_it(items):
    plain = samples(items, augment=ALL)
    shrunk = samples(items, augment=ALL, degrade=True)
    for key in KEYS[:3]:
        small, mask, sharp, kernel = shrunk[key]
        assert equal((sharp, mask), plain[key])
        assert (small.shape, small.dtype) == ((3, 16, 16), torch.uint8)
        assert kernel.shape == (1, 21, 21)
        expected = degrade(sharp.permute(1, 2, 0).numpy(), kernel[0].numpy())
        np.testing.assert_array_equal(small.permute(1, 2, 0).numpy(), expected)
    assert not torch.equal(shrunk[0, 1][3], shrunk[0, 2][3])
    assert equal(shrunk[0, 1], shrunk[0, 1])


def test_batches_carry_every_part_of_a_degraded_sample(items):
    loader, _ = training_loader([manifest(items)], config(degrade=True))
    shapes = [tuple(part.shape) for part in next(iter(loader))]
    assert shapes == [(3, 3, 8, 8), (3, 1, 32, 32), (3, 3, 32, 32), (3, 1, 21, 21)]


def test_labels_alone_are_loaded_where_they_teach(items):
    loader, _ = training_loader([manifest(items)], config(supervision="image", fit="resize", augment=NONE))
    assert [tuple(part.shape) for part in next(iter(loader))] == [(3, 3, 32, 32), (3, 1, 1, 1)]
    with pytest.raises(InputError, match="no image with a label"):
        training_loader([manifest(items, label="unknown")], config(supervision="image", fit="resize", augment=NONE))


def test_inverted_pictures(items):
    image, mask = samples(items)[0, 0]
    inverted, same = samples(items, augment=replace(NONE, invert=1.0))[0, 0]
    torch.testing.assert_close(inverted, 255 - image)
    assert torch.equal(mask, same)


def test_a_set_that_was_degraded_is_refused_with_advice(tmp_path):
    item = store(tmp_path, "small", blobs(64, 48))
    write_mask(tmp_path / "sharp.png", blobs(256, 192))
    with pytest.raises(InputError, match=r"192x256 px, its image 48x64.*--set degrade=true"):
        read_example(replace(item, mask=tmp_path / "sharp.png"))
