"""Images: what a reader lists (`Sample`) and the decoded, memory-mapped pixels of a stream (`Arrays`)."""

from bench.data.arrays import Arrays, held_out_rows, hold_out, load_arrays, load_known, rows_of
from bench.data.decoding import Progress
from bench.data.listing import refuse
from bench.data.pixels import decode
from bench.data.sample import Sample

__all__ = [
    "Arrays",
    "Progress",
    "Sample",
    "decode",
    "held_out_rows",
    "hold_out",
    "load_arrays",
    "load_known",
    "refuse",
    "rows_of",
]
