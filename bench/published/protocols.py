"""Which rows were run as a paper's protocol says: their options are then no reason not to compare."""

from functools import cache

from bench.schema import protocol, stream
from bench.schema.protocol import Protocol
from bench.schema.request import Request
from bench.schema.spec import Spec


def set_as_in_a_paper(spec: Spec) -> bool:
    """Whether all that was changed from the defaults is what the protocol of a paper changes."""
    return any(_is_set_by(one, spec) for one in _papers())


@cache
def _papers() -> tuple[Protocol, ...]:
    return tuple(one for one in map(protocol.load_protocol, protocol.protocol_names()) if one.paper)


def _is_set_by(paper: Protocol, spec: Spec) -> bool:
    owners = spec["method"], spec["detector"]
    if spec["scenario"] not in paper.scenarios or owners[0] not in paper.methods or owners[1] not in paper.detectors:
        return False
    request = Request(**paper.request({"methods": owners[:1], "detectors": owners[1:]}))
    chosen = stream.load_stream(spec["scenario"])
    return spec["variant"] == request.variant(owners, chosen, "paper", has_backbone=spec["backbone"] is not None)
