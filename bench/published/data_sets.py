"""The data sets that printed numbers are of: their classes and test images, and how a cell's images differ."""

from collections.abc import Iterator, Mapping

from bench.schema.record import Record

# Classes and their test images as published: other copies of a data set lack images, or split them otherwise.
TEST_IMAGES = {
    "mvtec": {
        **{"bottle": 83, "cable": 150, "capsule": 132, "carpet": 117, "grid": 78, "hazelnut": 110, "leather": 124},
        **{"metal_nut": 115, "pill": 167, "screw": 160, "tile": 117, "toothbrush": 42, "transistor": 100},
        **{"wood": 79, "zipper": 151},
    },
    "visa": {
        **{"candle": 200, "capsules": 160, "cashew": 150, "chewinggum": 150, "fryum": 150, "macaroni1": 200},
        **{"macaroni2": 200, "pcb1": 200, "pcb2": 200, "pcb3": 201, "pcb4": 201, "pipe_fryum": 150},
    },
}


def other_data(cell: Record, known: Mapping[str, int], *, whole: bool) -> Iterator[str]:
    """In what the images of a cell are not those of a data set with these test images (class -> how many).

    `whole`: joint and one-model-per-class numbers are averages over all classes.
    """
    classes, tested = cell["spec"]["classes"], cell["cost"].get("eval_images", ())
    if not known:
        return
    if other := [name for name in classes if name not in known]:
        yield f"a class {other[0]!r}, which the data set has not"
    elif whole and len(classes) != len(known):
        yield f"{len(classes)} classes instead of {len(known)}"
    elif tested and tested[-1] != sum(known[name] for name in classes):
        yield f"{tested[-1]:,.0f} test images instead of {sum(known[name] for name in classes):,}"
