"""`bench worker`: a system that cannot share this environment runs in its own, over files: images in, scores out."""

from bench.worker.collect import collect
from bench.worker.export import export

__all__ = ["collect", "export"]
