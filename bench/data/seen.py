"""What decoding shows of a data folder: what is broken, what looks inverted, and which defects a smaller size loses."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from bench.data.decoding import Progress, looks_inverted, pixels_of_item
from bench.data.fingerprint import workers
from bench.data.near_duplicates import SIDE
from bench.data.pixels import mask
from bench.data.sample import Item


class Seen(NamedTuple):
    """What decoding found: by position of the item what is wrong, and small pixels of those that are right."""

    bad: dict[int, str]
    small: dict[int, np.ndarray]  # (SIDE, SIDE, 3) uint8
    odd: list[Item]  # with masks that look inverted
    defects: Counter  # class -> connected defects at full size
    images_lost: Counter  # class -> anomalous images without a pixel of their mask at the chosen size
    defects_lost: Counter  # class -> connected defects of which no pixel is left


def look_at_items(items: Sequence[Item], size: int, progress: Progress | None = None) -> Seen:
    """Decode every image and mask once; `size` (px) is the one at which defects may vanish."""
    seen = Seen({}, {}, [], Counter(), Counter(), Counter())
    with ThreadPoolExecutor(workers()) as pool:
        for index, result in enumerate(pool.map(lambda each: _pixels(each, size), items)):
            if isinstance(result, str):
                seen.bad[index] = result
            else:
                image, defects, left, odd = result
                category = items[index].sample.category
                seen.small[index] = image
                seen.odd.extend([items[index]] * odd)
                seen.defects[category] += defects
                seen.defects_lost[category] += defects - left
                seen.images_lost[category] += bool(defects and not left)
            if progress:
                progress(index + 1, len(items))
    return seen


def _pixels(each: Item, size: int) -> tuple[np.ndarray, int, int, bool] | str:
    """(small image, connected defects, those with a pixel left at `size`, whether the mask looks inverted)."""
    from scipy.ndimage import label

    result = pixels_of_item(each, SIDE)  # the same decoding as at any size, and less to resize
    if isinstance(result, str) or not each.sample.masks:
        return result if isinstance(result, str) else (result[0], 0, 0, False)
    full = mask(each.sample)
    defects, count = label(full, np.ones((3, 3)))
    small = Image.fromarray(defects.astype(np.int32)).resize((size, size), Image.Resampling.NEAREST)
    return result[0], count, len(set(np.unique(np.asarray(small))) - {0}), looks_inverted(full)
