"""Networks and recipes side by side at small scale: the same photos, the same number of them; tables in Markdown.

    python benchmarks/systems.py TABLE DATA [NAME ...] -o WORK

DATA holds prepared sets: `deepcrack` for every table, `crack500` for `small`, `patches` for `recipes`. TABLE is one of:

    recipes    every recipe, 200 samples of 64 px from photos of half size; crack IoU on 20 test photos of that size
    boundary   PSPNet with the Boundary Combo loss and with plain BCE, 3,000 samples; recall at equal precision
    restoring  CSBSR and bicubic enlargement before the same PSPNet; 60 test photos blurred, at a quarter; 1,600 samples
               teach a PSPNet behind the enlargement; each goes on from that for 1,200 samples, KBPN from random weights
    small      U-Nets over small encoders, 1,600 samples; validation photos only, for choosing, against CPU time

All networks start from random weights and keep those of the last step; the threshold is 0.5; nothing is chosen on what
is reported. One optimiser serves all rows, because the published learning rates are for ImageNet weights and long runs;
loss, augmentation and sampling are the recipe's. KBPN, the restoring half of CSBSR, has 32 channels and 2 stages here
instead of 128 and 4, or this would take days on a CPU. What is in WORK already is used.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
from commands import crack, score, train
from models import REFERENCE, compare

from cracktool.config import recipe_names
from cracktool.manifest import read_manifest
from cracktool.models import build_model

FAIR = [
    *("--no-pretrained", "--lr", "3e-4", "--set", "optimizer=adamw", "--set", "schedule=cosine"),
    *("--set", "select=last", "--set", "workers=1", "--set", "val_images=1"),
]
SHORT = ["--set", "data_weights=[]", "--set", "warmup_steps=0"]
FROM_OTHERS = {"fast_polish", "accurate_polish", "weak_two_stage"}  # begin with the weights of another run
FROM_LABELS = {"weak_unet_resnet50", "patch_resnet50"}
SMALL_KBPN = ["--set", "model_args.features=32", "--set", "model_args.stages=2", "--set", "restore_epochs=0"]
ENCODERS = (
    "lcnet_100",
    "mobilenetv3_small_100",
    "mobilenetv3_large_100",
    "efficientnet_lite0",
    "regnetx_002",
    "resnet18",
)
DECODER = [96, 64, 48, 32]


def main() -> None:
    """Train and score what is missing of one table, then print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("data", type=Path, help="folder of prepared sets")
    parser.add_argument("names", nargs="*", help="rows of the table [all]")
    parser.add_argument("-o", "--out", type=Path, default=Path("work/systems"), help="runs and reports [work/systems]")
    options = parser.parse_args()
    rows = TABLES[options.table](options.data.resolve(), options.out.resolve() / options.table, options.names)
    head, *body = rows
    print("|", " | ".join(head), "|\n|---|" + "--:|" * (len(head) - 1))
    for row in body:
        print("|", " | ".join(row), "|", flush=True)


def recipes(data: Path, out: Path, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield crack IoU of each recipe on small photos, sharp or degraded as the recipe's own are."""
    small, degraded = half_size(data / "deepcrack", out)
    yield ("recipe", "learned from", "tested on", "crack IoU", "precision", "recall", "best Dice (ODS)")
    for name in names or [name for name in recipe_names() if name not in FROM_OTHERS]:
        enlarges = name.startswith(("csbsr", "bicubic"))
        learned = data / "patches" if name in FROM_LABELS else small
        more = SMALL_KBPN if name.startswith("csbsr") else []
        fixed = ["--size", 64, "--batch-size", 4, "--epochs", 4, "--set", "epoch_samples=50"]
        train(out / name, "--recipe", name, "--data", learned, *FAIR, *SHORT, *fixed, *more)
        report = score(degraded if enlarges else small, "test", out / name, out / name / "test.json")
        photos = "x4 degraded" if enlarges else "sharp"
        kind = "labels of METU patches" if name in FROM_LABELS else "masks"
        yield (name, kind, photos, *pooled(report), f"{report['scores']['ods_0px']['pooled']:.3f}")


def boundary(data: Path, out: Path, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield what one PSPNet learns by either loss, and its recall where it is as precise as the other one is at 0.5."""
    fixed = ["--data", data / "deepcrack", "--size", 256, "--epochs", 5, "--set", "epoch_samples=600", "--lr", "1e-3"]
    reports = {}
    for name in ("bce", "boundary_combo"):
        train(out / name, "--recipe", "pspnet_resnet18", *FAIR, *fixed, "--loss", name)
        reports[name] = score(data / "deepcrack", "test", out / name, out / name / "test.json")
    precision = reports["bce"]["scores"]["precision"]["pooled"]
    yield ("loss", "crack IoU", "precision", "recall", f"recall at precision {precision:.3f}", "best Dice (ODS)")
    for name in names or reports:
        best = reports[name]["scores"]["ods_0px"]["pooled"]
        yield (name, *pooled(reports[name]), f"{recall_at(reports[name], precision):.3f}", f"{best:.3f}")


def restoring(data: Path, out: Path, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield crack IoU at 4 times the side of blurred small photos; both begin with one detector, already taught."""
    yield (
        "recipe",
        "crack IoU",
        "precision",
        "recall",
        "F1 at 2 px",
        "best Dice (ODS)",
        "mean IoU over thresholds (AIU)",
    )
    _, degraded = half_size(data / "deepcrack", out, factor=1, every=4)
    fixed = ["--data", data / "deepcrack", "--size", 96, "--batch-size", 4, "--epochs", 4, *FAIR]
    taught = out / "taught"
    train(taught, "--recipe", "bicubic_pspnet", *fixed, "--set", "epoch_samples=400")
    for name in names or ("bicubic_pspnet", "csbsr_pspnet"):
        more = SMALL_KBPN if name.startswith("csbsr") else []
        last = taught / "last.safetensors"
        train(out / name, "--recipe", name, *fixed, "--init", last, "--set", "epoch_samples=300", *more)
        report = score(degraded, "test", out / name, out / name / "test.json")
        scores = (report["scores"][key] for key in ("f1_2px", "ods_0px"))
        aiu = report["scores"]["aiu"]["positives_only"]["mean"]
        yield (name, *pooled(report), *(f"{each['pooled']:.3f}" for each in scores), f"{aiu:.3f}")


def small(data: Path, out: Path, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield validation scores of small networks against the time of a tile on one CPU thread."""
    sets, reference = ("crack500", "deepcrack"), build_model(REFERENCE).eval()
    yield ("encoder", "M parameters", f"CPU time ({REFERENCE} = 1)", *(f"IoU, {name} val" for name in sets))
    fixed = ["--size", 160, "--batch-size", 8, "--epochs", 4, "--set", "epoch_samples=400", "--lr", "1e-3"]
    for name in names or ENCODERS:
        folders = [part for each in sets for part in ("--data", data / each)]
        model = [*("--model", f"unet_{name}"), "--set", f"model_args.decoder_channels={DECODER}"]
        train(out / name, *model, *folders, *FAIR, *fixed, "--set", "loss=bce+dice")
        network = build_model(f"unet_{name}", decoder_channels=DECODER).eval()
        ratio, _ = compare(network, reference)
        scores = [score(data / each, "val", out / name, out / name / f"{each}.json") for each in sets]
        parameters = sum(each.numel() for each in network.parameters()) / 1e6
        yield (name, f"{parameters:.2f}", f"{ratio:.2f}", *(pooled(each)[0] for each in scores))


TABLES = {"recipes": recipes, "boundary": boundary, "restoring": restoring, "small": small}


def pooled(report: dict[str, dict[str, dict[str, float]]]) -> tuple[str, ...]:
    """Return crack IoU, precision and recall over all pixels."""
    return tuple(f"{report['scores'][name]['pooled']:.3f}" for name in ("iou", "precision", "recall"))


def recall_at(report: dict[str, dict[str, list[float]]], precision: float) -> float:
    """Return the best recall over the thresholds that reach a precision; 0 where none does."""
    curve = report["curve"]
    pairs = zip(curve["precision"], curve["recall"], strict=True)
    return max((recall for reached, recall in pairs if reached >= precision), default=0.0)


def half_size(prepared: Path, out: Path, *, factor: int = 2, every: int = 12) -> tuple[Path, Path]:
    """Shrink the train photos and some of the test photos of a set; return it prepared, sharp and degraded."""
    manifest = read_manifest(prepared)
    raw = out / "raw"
    entries = [*manifest.split("train").entries, *manifest.split("test").entries[::every]]
    for entry in () if raw.is_dir() else entries:
        for kind, path in (("images", manifest.image_path(entry)), ("masks", manifest.mask_path(entry))):
            picture = cv2.imread(str(path))
            picture = cv2.resize(picture, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
            target = raw / entry.split / kind / f"{Path(entry.image).stem}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), picture)
    sharp, degraded = out / "sharp", out / "degraded"
    for folder, options in ((sharp, ()), (degraded, ("--degrade",))):
        if not (folder / "manifest.csv").is_file():
            crack("prepare", "folder", raw, "-o", folder, *options)
    return sharp, degraded


if __name__ == "__main__":
    main()
