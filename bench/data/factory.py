"""`bench data sample`: a small folder of pictures as a factory might have one, rendered by the project."""

from pathlib import Path

from PIL import Image

from bench import registry
from bench.errors import BadInput

SIDE = 128  # px
# Class -> images (train, good, anomalous), and whether its masks are written: one class with everything, one without
# masks, one with normal images only.
CLASSES = {
    "gear": (24, 10, 10, True),
    "board": (24, 10, 10, False),
    "capsule": (24, 10, 0, False),
}


def write_factory(folder: Path) -> int:
    """Write the folder; returns how many images. Raises BadInput where there is something already."""
    if folder.exists():
        raise BadInput(f"{folder} is there already: give a new folder with --to.")
    synthetic, count = registry.find_entry("scenario", "synthetic").load(), 0
    for name, (train, good, anomalous, masked) in CLASSES.items():
        options = {"train": train, "good": good, "anomalous": anomalous, "difficulty": 0.1, "seed": 11}
        for number, sample in enumerate(synthetic.samples(None, [name], options)):
            image, mask = synthetic.decode(sample, SIDE)
            _save(image, folder / name / sample.split / sample.kind / f"{number:03}.png")
            if masked and sample.label:
                _save(
                    255 * mask.astype("uint8"), folder / name / "ground_truth" / sample.kind / f"{number:03}_mask.png"
                )
            count += 1
    return count


def _save(pixels, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
