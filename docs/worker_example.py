"""A system in an environment of its own: NumPy and nothing else. Run it as `python docs/worker_example.py FOLDER`.

It keeps the mean and the spread of each step's training images, pixel by pixel, sends a test image to the step whose
mean colour is nearest to its own, and calls anomalous what is many spreads away there. It is no good detector: it shows
what to read and what to write. `docs/submissions.md` has the protocol.
"""

import json
import sys
from pathlib import Path

import numpy as np


def learn(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread (S, S, 3) of training images (n, S, S, 3) uint8: all that is kept of a step."""
    return images.mean(0), images.std(0) + 1.0


def judge(image: np.ndarray, known: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, np.ndarray, int]:
    """Score, map (S, S) and step of one test image (S, S, 3), by itself: whatever else is in the file."""
    colour = image.mean((0, 1))
    route = int(np.argmin([np.linalg.norm(mean.mean((0, 1)) - colour) for mean, _ in known]))
    mean, spread = known[route]
    anomaly_map = (np.abs(image - mean) / spread).mean(-1).astype(np.float32)
    return float(np.quantile(anomaly_map, 0.99)), anomaly_map, route


def main(folder: Path) -> None:
    """Learn step after step; after each, judge the test images of that step."""
    known = []
    for step in range(json.loads((folder / "spec.json").read_text())["steps"]):
        place = folder / f"step-{step}"
        with np.load(place / "train.npz") as train, np.load(place / "test.npz") as test:
            images = train["images"]
            known.append(learn(images))
            scores, maps, routes = zip(*(judge(image, known) for image in test["images"]), strict=True)
            calibration = [judge(images[index], known)[0] for index in train["calibrate"]]
        np.savez(
            place / "scores.npz",
            scores=np.array(scores, np.float32),
            maps=np.stack(maps),
            routes=np.array(routes, np.int32),
            calibration=np.array(calibration, np.float32),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
