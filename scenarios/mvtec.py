"""MVTec AD, the 15 official classes (mvtec.com/company/research/datasets/mvtec-ad, CC BY-NC-SA 4.0)."""

from scenarios.folder import classes, samples, walk

__all__ = ["NEEDS", "OFFICIAL", "classes", "samples", "walk"]

NEEDS = "--data DIR with MVTec AD as unpacked: bottle/train/good, bottle/test/..., bottle/ground_truth/... and so on"
OFFICIAL = {  # class: (training images, test images)
    "bottle": (209, 83),
    "cable": (224, 150),
    "capsule": (219, 132),
    "carpet": (280, 117),
    "grid": (264, 78),
    "hazelnut": (391, 110),
    "leather": (245, 124),
    "metal_nut": (220, 115),
    "pill": (267, 167),
    "screw": (320, 160),
    "tile": (230, 117),
    "toothbrush": (60, 42),
    "transistor": (213, 100),
    "wood": (247, 79),
    "zipper": (240, 151),
}
