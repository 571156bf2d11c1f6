"""Public data sets that are folders of photos and masks: one row each, with polarity, threshold and traps.

Data over the reader of `paired`; whatever needs code of its own has a file of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cracktool.datasets.paired import PAIR_OPTIONS, PairedFolders, Part
from cracktool.datasets.pairing import photo_id, split_of_folder
from cracktool.datasets.raw import Layout
from cracktool.manifest import Split

_FPHB = "https://github.com/fyangneil/pavement-crack-detection"
_ZOU = "https://github.com/qinnzou/DeepCrack"
_CRACKREFINENET = "https://github.com/AmmarOkran/CrackRefineNet"
_CRACKFOREST = re.compile(r"^(?:CFD|forest|Sylvie(?:_Chambon)?)_(\d{3})$")
_THIN = "the truth is lines about 1 px wide: judge by scores with a tolerance, such as F1 at 2 px"
_NOT_STATED = "none stated"


def merged_photo_id(name: str) -> str:
    """Return the photo of an image of khanhha's merged set or one made from it, such as CrackSeg9k.

    The photos of CrackForest are in it up to three times, as ``CFD_``, ``forest_`` and ``Sylvie_Chambon_``.

    Example:
        >>> [merged_photo_id(name) for name in ("forest_001", "Sylvie_Chambon_001", "DeepCrack_11231-3")]
        ['CrackForest_001', 'CrackForest_001', 'DeepCrack_11231']
    """
    copy = _CRACKFOREST.match(name)
    return f"CrackForest_{copy[1]}" if copy else photo_id(name)


def _gaps_split(name: str) -> Split | None:
    return split_of_folder(name.split("_")[0])  # train_0552_1_641


def _ael_mask(name: str) -> str:
    return re.sub(r"^Im_(.*?)(?:or)?$", r"\1", name)  # Im_GT_ESAR_30aor -> GT_ESAR_30a


def _zou(name: str, title: str, count: int, fractions: tuple[float, float], *, areas: bool = False) -> Layout:
    """One of the four sets of Zou et al. 2019; photos, truth and area masks are separate downloads."""
    small = name.lower()
    part = Part(
        images=(small, f"{small}_image", "images", "image", "img"),
        # In Stone331 "mask" is the area.
        masks=(f"{small}_gt", "gt", "groundtruth", "ground_truth", *(() if areas else ("masks", "mask"))),
        areas=(f"{small}_mask", "masks", "mask", "areas", "area") if areas else (),
    )
    return Layout(
        reader=PairedFolders(forms=[[part]], resized=areas, remark=_THIN),
        title=title,
        where_to_get=_ZOU,
        tree=f"{name}/NAME.jpg and {name}_GT/NAME.bmp"
        + (f" and {name}_MASK/NAME.bmp, white on the stone" if areas else ""),
        licence=_NOT_STATED,
        published={"all": count},
        fractions=fractions,
        options=PAIR_OPTIONS,
    )


def _mmseg(title: str, where_to_get: str, licence: str, fractions: tuple[float, float] = (0.0, 0.0)) -> Layout:
    """A set in the folders of CrackRefineNet, whose masks hold 0 and 1."""
    return Layout(
        reader=PairedFolders(forms=[[Part(images=("images",), masks=("annotations",))]], threshold=1),
        title=title,
        where_to_get=where_to_get,
        tree="images/ and annotations/ of {train,val,test}/NAME, masks of 0 and 1",
        licence=licence,
        fractions=fractions,
        options=PAIR_OPTIONS,
    )


PUBLIC: Mapping[str, Layout] = {
    "deepcrack": Layout(
        reader=PairedFolders(
            forms=[
                [
                    Part(images=("train_img",), masks=("train_lab",), split="train"),
                    Part(images=("test_img",), masks=("test_lab",), split="test"),
                ]
            ]
        ),
        title="DeepCrack: concrete and asphalt, 537 photos of 544x384",
        where_to_get="https://github.com/yhlleo/DeepCrack",
        tree="train_img/ train_lab/ test_img/ test_lab/ with NAME.jpg and NAME.png",
        licence="non-commercial research and educational purposes",
        published={"train": 300, "test": 237},
        fractions=(0.1, 0.0),
        options=PAIR_OPTIONS,
    ),
    "gaps384": Layout(
        # The crops, not the whole photos: those are 404, of which 384 have masks.
        reader=PairedFolders(
            forms=[[Part(images=("croppedimg",), masks=("croppedgt",))]], threshold=1, split_of=_gaps_split
        ),
        title="GAPs384: asphalt from a road scanner, 509 crops of 540x640 and 540x440 from 384 pictures",
        where_to_get=f"{_FPHB} (folder GAPs384 of its data)",
        tree="croppedimg/SPLIT_ID_X_Y.jpg and croppedgt/SPLIT_ID_X_Y.png, SPLIT being train, valid or test",
        licence="that of GAPs: research only, on request",
        published={"all": 509},
        options=PAIR_OPTIONS,
    ),
    "cracktree200": Layout(
        reader=PairedFolders(
            forms=[
                [Part(images=("cracktree200rgb",), masks=("cracktree200_gt",))],
                [Part(images=("cracktree200gray",), masks=("cracktree200_gt",))],
            ],
            remark=_THIN,
        ),
        title="CrackTree200: asphalt with shadows, 206 photos of 800x600, lines of 1 px",
        where_to_get=f"{_FPHB} (folder cracktree200 of its data)",
        tree="cracktree200rgb/NAME.jpg and cracktree200_gt/NAME.png",
        licence=_NOT_STATED,
        published={"all": 206},
        fractions=(0.0, 1.0),
        options=PAIR_OPTIONS,
    ),
    "cracktree260": _zou("CrackTree260", "CrackTree260: asphalt, 260 photos, all to train", 260, (0.1, 0.0)),
    "crkwh100": _zou("CRKWH100", "CRKWH100: asphalt, 100 pictures of a line-scan camera, 1 mm per px", 100, (0.0, 1.0)),
    "crackls315": _zou("CrackLS315", "CrackLS315: asphalt, 315 pictures of a laser line scanner", 315, (0.0, 1.0)),
    "stone331": _zou("Stone331", "Stone331: 331 photos of stone, blank outside the stone", 331, (0.0, 1.0), areas=True),
    "ael": Layout(
        reader=PairedFolders(
            forms=[
                [Part(images=("img",), masks=("gt",))],
                [Part(images=("images",), masks=("ground_truth",))],
            ],
            inverted=True,  # black is crack, white is background
            mask_name=_ael_mask,
        ),
        title="AEL: AigleRN, ESAR and LCMS, 58 pictures of French roads",
        where_to_get=f"{_FPHB} (folder AEL of its data)",
        tree="img/SUB/Im_GT_NAMEor.jpg and gt/SUB/GT_NAME.png; or TITS/IMAGES/ and TITS/GROUND_TRUTH/ in the same way",
        licence=_NOT_STATED,
        published={"all": 58},
        fractions=(0.0, 1.0),
        options=PAIR_OPTIONS,
    ),
    "alexdonchuk": Layout(
        # Every photo with truth shows a crack, so an empty mask stands for one that nobody labelled.
        reader=PairedFolders(
            forms=[[Part(images=("img",), masks=("masks_machine",))]],
            threshold=2,  # RGB masks of 0 and 2, black to the eye
            min_crack_px=1,
        ),
        title="CrackForest and AEL as a Supervisely project of alexdonchuk, the photos that have truth",
        where_to_get="https://github.com/alexdonchuk/cracks_segmentation_dataset",
        tree="ds/img/NAME.jpg and ds/masks_machine/NAME.png",
        licence=_NOT_STATED,
        fractions=(0.1, 0.1),
        options=PAIR_OPTIONS,
    ),
    "khanhha": Layout(
        reader=PairedFolders(
            forms=[
                [
                    Part(images=("train/images",), masks=("train/masks",), split="train"),
                    Part(images=("test/images",), masks=("test/masks",), split="test"),
                ],
                [Part(images=("images",), masks=("masks",))],
            ],
            threshold=128,  # the masks are JPEGs: any value above 0 would count their noise as crack
            photo=merged_photo_id,
            merged=True,
            crack_free="noncrack",
        ),
        title="khanhha's merged set: 12 sets in 11,298 pictures of 448x448",
        where_to_get="https://github.com/khanhha/crack_segmentation",
        tree="train/{images,masks}/ and test/{images,masks}/ with PREFIX_NAME.jpg in both; or images/ and masks/",
        licence="those of the 12 sets, some of them research only",
        published={"train": 9603, "test": 1695},
        fractions=(0.1, 0.0),
        options=PAIR_OPTIONS,
    ),
    "crackseg9k": Layout(
        reader=PairedFolders(
            forms=[
                [
                    Part(
                        images=("final-dataset-vol1/images", "final-dataset-vol2/images-2"),
                        masks=("final-dataset-vol1/final_masks/masks",),  # not Heads beside it, which is no truth
                    )
                ]
            ],
            threshold=64,  # anti-aliased: at 128 thin lines lose pixels
            photo=merged_photo_id,
            merged=True,
            lists=True,
            crack_free="noncrack",
        ),
        title="CrackSeg9k, version 4: 9,159 pictures of 400x400 from ten sets",
        where_to_get="https://dataverse.harvard.edu, CrackSeg9k by Kulkarni et al., version 4, both volumes",
        tree="Final-Dataset-Vol1/Images/, Final-Dataset-Vol2/Images-2/, Final-Dataset-Vol1/Final_Masks/Masks/, "
        "train.txt, test.txt",
        licence="those of the ten sets, some of them research only",
        published={"all": 9159},
        fractions=(0.1, 0.1),
        options=PAIR_OPTIONS,
    ),
    "omnicrack30k": Layout(
        reader=PairedFolders(forms=[[Part(images=("images",), masks=("annotations",))]], inverted=True, merged=True),
        title="OmniCrack30k: more than 20 sets, about 30,000 pictures",
        where_to_get="https://github.com/ben-z-original/omnicrack30k, on request",
        tree="images/ and annotations/ of {training,validation,test}/SUBSET_NAME.png, cracks black",
        licence="those of the sets, some of them research only",
        options=PAIR_OPTIONS,
    ),
    "crackrefinenet": _mmseg(
        "Any set in the folders of CrackRefineNet",
        f"{_CRACKREFINENET}, which tells how to arrange one",
        "that of the set",
    ),
    "rcfd": _mmseg("RCFD: the private set of CrackRefineNet", f"{_CRACKREFINENET}, from its authors", "private"),
    "sylvie": _mmseg(
        "Sylvie: the zero-shot test of CrackRefineNet", f"{_CRACKREFINENET}, from its authors", _NOT_STATED, (0.0, 1.0)
    ),
}
