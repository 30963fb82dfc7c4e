"""Joint PatchCore of the bench against anomalib's own model, coreset and scoring: same images, weights and sizes.

    MALLOC_MMAP_THRESHOLD_=65536 python tests/benchmarks/patchcore_against_anomalib.py CELL --data DIR --weights FILE

CELL is a finished `joint+patchcore` cell; its last row is compared class by class. (The variable keeps anomalib's
`KCenterGreedy` from fragmenting the heap; without it, 350,000 patches do not fit into 24 GB.)
"""

import argparse
from pathlib import Path

import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel

from bench import data, results
from bench.data import rows_of
from bench.metrics.ranking import image_metrics
from bench.schema import stream
from bench.schema.request import BackboneSpec, Weights
from bench.training.backbone import Features
from bench.training.experiences import as_float


def batches(arrays, rows, size=32):
    for start in range(0, len(rows), size):
        yield as_float(torch.from_numpy(arrays.images[rows[start : start + size]]))


@torch.no_grad()
def anomalib_scores(spec: dict, arrays, backbone: BackboneSpec) -> list[float]:
    """Image AUROC per class of anomalib's PatchCore trained on all classes at once."""
    config = spec["detector_config"]
    features = Features(backbone, config["strides"])
    with features.inside("anomalib.models.image.patchcore.torch_model"):
        model = PatchcoreModel(features.layers, num_neighbors=config["neighbors"])
    model.train()
    for image in batches(arrays, rows_of(arrays, list(range(len(spec["classes"]))), train=True)):
        model(image)
    model.subsample_embedding(sampling_ratio=config["patches"] / sum(map(len, model.embedding_store)))
    model.eval()
    found = []
    for column in range(len(spec["classes"])):
        rows = rows_of(arrays, [column], train=False)
        scores = torch.cat([model(image).pred_score.flatten() for image in batches(arrays, rows)])
        found.append(image_metrics(scores.numpy(), arrays.labels[rows])["image_auroc"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args()
    cell = results.read(options.cell)
    spec = cell["spec"]
    arrays, fingerprint = data.load_arrays(
        stream.load_stream(spec["scenario"]), options.data, spec["image_size"], options.cache
    )
    assert fingerprint == spec["fingerprint"], "the cell was measured on other images"
    arguments = dict(spec["backbone_arguments"])
    normal = {key: (arguments.pop(key),) * 3 for key in ("mean", "std") if key in arguments}
    weights = Weights("path", options.weights.name, "", str(options.weights))
    backbone = BackboneSpec(spec["backbone"], weights, arguments, **normal)
    torch.manual_seed(spec["seed"])
    theirs = anomalib_scores(spec, arrays, backbone)
    ours = cell["matrices"]["image_auroc"][-1]
    print("| class | bench | anomalib | difference |\n|---|---|---|---|")
    for name, own, other in zip(spec["classes"], ours, theirs, strict=True):
        print(f"| {name} | {own:.3f} | {other:.3f} | {own - other:+.3f} |")


if __name__ == "__main__":
    main()
