"""`python -m pretraining features|prior`: train the small networks that the project ships anew."""

import argparse
from pathlib import Path

from pretraining import features, prior

parser = argparse.ArgumentParser("pretraining", description=__doc__)
parser.add_argument("what", choices=("features", "prior"), help="a backbone, or a text-to-image diffusion model")
parser.add_argument("--out", type=Path, help="file or folder to write; default: the committed one")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()
train = {"features": features.features, "prior": prior.prior}[options.what]
print(train(out=options.out, seed=options.seed))
