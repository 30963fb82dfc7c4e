"""The settings that DDAD's authors print per class (README of arimousa/DDAD): chosen by the score on the test set."""

TUNED = ("epochs", "w", "v", "adapt_epochs", "adapt_hold")  # options of `ddad.Config`, in its order


def _rows(table: str, v: float, hold: float) -> dict[str, tuple]:
    """Lines "class w epochs adaptation-epochs" to class -> values of `TUNED`."""
    cells = (line.split() for line in table.strip().splitlines())
    return {name: (int(epochs), float(w), v, int(adapt), hold) for name, w, epochs, adapt in cells}


MVTEC = """
carpet      0  2500  0
grid        4  2000  6
leather    11  2000  8
tile        4  1000  0
wood       11  2000 16
bottle      3  1000  5
cable       3  3000  0
capsule     8  1500  8
hazelnut    5  2000  3
metal_nut   7  3000  1
pill        9  1000  4
screw       2  2000  4
toothbrush  0  2000  2
transistor  0  2000  0
zipper     10  1000  6
"""

VISA = """
candle      6  1000  1
capsules    5  1000  3
chewinggum  6  1250  0
fryum       4  1000  3
macaroni1   5   500  7
macaroni2   2   500 11
pcb1        9   500  8
pcb2        5   500  5
pcb3        6   500  1
pcb4        6   500  1
pipe_fryum  8   500  6
"""

CASHEW = "cashew 0 1750 0"  # of VisA; the released configuration names 1.5 and 1 for its v, this is the first

PER_CLASS = _rows(MVTEC, 1.0, 0.1) | _rows(VISA, 7.0, 0.01) | _rows(CASHEW, 1.5, 0.01)
