"""A page of images with the outlines of their masks: a person sees in ten seconds whether a folder was read right."""

from __future__ import annotations

import base64
import html
import io
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from bench.data.check import SHOWN, Report, read_folder
from bench.data.decoding import pixels_of_item, with_bits
from bench.data.sample import Item

SIDE = 192  # px of a picture
EACH = 6  # pictures of each kind, spread over its files
DIM = 0.45  # of the brightness is left outside of a mask
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1320px; padding: 0 1em; color: #222 }
h2 { margin: 2em 0 0; border-top: 1px solid #ccc; padding-top: .6em } p { margin: .2em 0 }
.row { display: flex; flex-wrap: wrap; gap: 8px; margin: .2em 0 1em }
figure { margin: 0; width: 192px } figcaption { font-size: 11px; color: #555; overflow-wrap: anywhere }
.wrong { color: #b00 } .row .wrong { width: 400px }
"""


def look(report: Report, options: Mapping | None = None) -> str:
    """The page of a report as HTML: its problems, and of each class some training images and some of each kind of test
    image, what is marked as a defect bright and outlined. `options` are those that the report was made with."""
    _, names, _, items = read_folder(Path(report.root), report.reader, dict(options or {}))
    items, depths = with_bits(items)
    parts = [f"<h1>{shown_text(report.root)}</h1>"]
    parts += [f"<p>read by {report.reader}; what a mask marks is bright, with a red outline; the rest is dimmed</p>"]
    parts += [f"<p>{shown_text(line)}</p>" for line in [*report.taken, *depths]]
    for lines in (report.leaks, report.wrong, report.missing):
        parts += [f"<p class='wrong'>{shown_text(line)}</p>" for line in lines[:SHOWN]]
        parts += [f"<p class='wrong'>and {len(lines) - SHOWN} more</p>"] * (len(lines) > SHOWN)
    for name in names:
        parts.append(f"<h2>{shown_text(name)}</h2>")
        groups = defaultdict(list)
        for each in items:
            if each.sample.category == name:
                groups[each.sample.split != "train", each.sample.label, each.sample.kind].append(each)
        for (tested, _, defect), group in sorted(groups.items(), key=lambda pair: pair[0]):
            title = f"{'test' if tested else 'train'} · {defect} · {len(group)} images"
            chosen = [group[index] for index in np.unique(np.linspace(0, len(group) - 1, EACH).astype(int))]
            parts.append(f"<p>{shown_text(title)}</p><div class='row'>{''.join(map(_figure, chosen))}</div>")
    title = shown_text(f"{Path(report.root).name}: how it was read")
    head = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
    return "\n".join([head, *parts, "</html>\n"])


def shown_text(text: str) -> str:
    """Text for a page that is written as UTF-8, whatever bytes and marks a file name is made of."""
    return html.escape(text.encode("utf-8", "backslashreplace").decode())


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image (S, S, 3) dimmed outside of its mask (S, S), and in red just outside: the defect stays to be seen.

    So a mask that is inverted, or shifted on a red defect, does not look like a right one.
    """
    from scipy.ndimage import binary_dilation

    if not mask.any():
        return image
    image = np.where(mask[..., None], image, image * DIM).astype(np.uint8)
    image[binary_dilation(mask, iterations=2) & ~mask] = (255, 0, 0)
    return image


def _figure(each: Item) -> str:
    result = pixels_of_item(each, SIDE)
    if isinstance(result, str):
        return f"<p class='wrong'>{shown_text(result)}</p>"
    caption = shown_text(Path(each.place).name)
    buffer = io.BytesIO()
    Image.fromarray(outlined(*result)).save(buffer, "JPEG", quality=85)
    source = base64.b64encode(buffer.getvalue()).decode()
    if each.sample.label:
        caption += f", {result[1].mean():.1%} marked" if each.sample.masks else " (no mask)"
    picture = f"<img src='data:image/jpeg;base64,{source}' alt=''>"
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"
