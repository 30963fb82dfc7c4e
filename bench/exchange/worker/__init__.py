"""`bench worker`: a system that cannot share this environment runs in its own, over files: images in, scores out."""

from bench.exchange.worker.collect import collect
from bench.exchange.worker.export import export

__all__ = ["collect", "export"]
