"""The bench from Python: run cells, read them as a table, compare and rank. `python docs/tour.py [FOLDER]`, a minute.

In a notebook the same lines work as they stand; nothing here needs a data set, a GPU or a download.
"""

import sys
from pathlib import Path

import bench


def main(folder: Path) -> None:
    # What to measure, and how to run it. Everything `python -m bench run --help` lists is a field of one of the two.
    request = bench.Request(
        methods=("finetune", "replay"),
        detectors=("autoencoder",),
        scenarios=("synthetic/3x2",),
        overrides={"autoencoder": {"epochs": 2}},
        cache=folder / "cache",
    )
    execution = bench.Execution(results=folder / "results", jobs=2)

    # Which cells would run? Nothing is trained yet.
    planned = bench.plan(request, execution)
    for cell, fate in zip(planned.cells, planned.fates, strict=True):
        print(f"{cell.name}: {fate}")

    # Run them. Stopped at any moment, the same call goes on where that was; a second one finds them finished.
    outcome = bench.run(request, execution)
    assert outcome.ok, outcome.failed

    # One row per cell: what it is, and every figure of it.
    table = bench.load_results(execution.results)
    print(table[["method", "final_image_auroc", "forgetting_image_auroc", "carried_mb"]].to_string(index=False))

    # Is one better than the other? With one seed and few classes that cannot be shown, and the bench says so.
    (pairing,) = bench.compare("replay+autoencoder", "finetune+autoencoder", execution.results)
    print(pairing.names, pairing.crossed().interval())

    # The same tables as text and as pages with plots.
    print("open", bench.report(execution.results, folder / "report"), "and", *outcome.written)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/tour"))
