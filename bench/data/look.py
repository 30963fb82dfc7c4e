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

from bench.data.arrays import pixels_of_item, with_bits
from bench.data.check import read_folder
from bench.data.sample import Item

SIDE = 192  # px of a picture
EACH = 6  # pictures of each kind, spread over its files
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1320px; padding: 0 1em; color: #222 }
h2 { margin: 2em 0 0; border-top: 1px solid #ccc; padding-top: .6em } p { margin: .2em 0 }
.row { display: flex; flex-wrap: wrap; gap: 8px; margin: .2em 0 1em }
figure { margin: 0; width: 192px } figcaption { font-size: 11px; color: #555; overflow-wrap: anywhere }
.wrong { color: #b00; width: 400px }
"""


def look(root: Path, reader: str | None = None, options: Mapping | None = None) -> str:
    """The page as HTML: of each class some training images, and of each kind of test image some, defects outlined.

    Raises BadInput as `check_data` does.
    """
    kind, names, found, items = read_folder(Path(root).expanduser(), reader, dict(options or {}))
    items, notes = with_bits(items)
    parts = [f"<h1>{html.escape(shown_text(str(root)))}</h1>", f"<p>read by {kind}; masks are outlined in red</p>"]
    parts += [f"<p>{html.escape(shown_text(line))}</p>" for line in [*found.taken, *notes]]
    for name in names:
        parts.append(f"<h2>{html.escape(shown_text(name))}</h2>")
        groups = defaultdict(list)
        for each in items:
            if each.sample.category == name:
                groups[each.sample.split != "train", each.sample.label, each.sample.kind].append(each)
        for (tested, _, defect), group in sorted(groups.items(), key=lambda pair: pair[0]):
            title = f"{'test' if tested else 'train'} · {defect} · {len(group)} images"
            chosen = [group[index] for index in np.unique(np.linspace(0, len(group) - 1, EACH).astype(int))]
            parts.append(
                f"<p>{html.escape(shown_text(title))}</p><div class='row'>{''.join(map(_figure, chosen))}</div>"
            )
    title = html.escape(f"{Path(root).name}: how it was read")
    head = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
    return "\n".join([head, *parts, "</html>\n"])


def shown_text(text: str) -> str:
    """Text that can be written as UTF-8, whatever bytes a file name is made of."""
    return text.encode("utf-8", "backslashreplace").decode()


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image (S, S, 3) with the pixels just outside of its mask (S, S) in red: the defect stays to be seen."""
    from scipy.ndimage import binary_dilation

    image = image.copy()
    image[binary_dilation(mask, iterations=2) & ~mask] = (255, 0, 0)
    return image


def _figure(each: Item) -> str:
    caption = html.escape(shown_text(Path(each.place).name))
    result = pixels_of_item(each, SIDE)
    if isinstance(result, str):
        return f"<p class='wrong'>{html.escape(shown_text(result))}</p>"
    buffer = io.BytesIO()
    Image.fromarray(outlined(*result)).save(buffer, "JPEG", quality=85)
    source = base64.b64encode(buffer.getvalue()).decode()
    caption += " (no mask)" if each.sample.label and not each.sample.masks else ""
    picture = f"<img src='data:image/jpeg;base64,{source}' alt=''>"
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"
