"""Which rows were run as a paper's protocol says: their options are then no reason not to compare."""

from bench.schema import stream
from bench.schema.protocol import shipped_protocols
from bench.schema.request import Request
from bench.schema.spec import Spec


def set_as_in_a_paper(spec: Spec) -> bool:
    """Whether all that was changed from the defaults is what the protocol of a paper changes."""
    method, detector = owners = spec["method"], spec["detector"]
    for paper in filter(lambda one: one.paper, shipped_protocols()):
        if spec["scenario"] in paper.scenarios and method in paper.methods and detector in paper.detectors:
            request = Request(**paper.request({"methods": (method,), "detectors": (detector,)}))
            chosen, has_backbone = stream.load_stream(spec["scenario"]), spec["backbone"] is not None
            if spec["variant"] == request.variant(owners, chosen, "paper", has_backbone=has_backbone):
                return True
    return False
