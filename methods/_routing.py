"""One memory per step, never changed again; the detector routes each image to one of them."""

from collections.abc import Callable

from bench.api import Detector, Plugin


class MemoryPerStep(Plugin):
    """Takes over what the detector has learned in a step (`take_memory`), and gives all of it back for prediction."""

    def __init__(self, detector: Detector, route: Callable[[list], None] | None = None):
        super().__init__()
        self.detector, self.route = detector, route or detector.route_to
        self.memories: list = []  # one per step, as `take_memory` hands it over

    def after_training_exp(self, strategy, **_):
        """Keep the new memory beside the others."""
        self.memories.append(self.detector.take_memory())
        self.route(self.memories)

    def state_dict(self) -> dict:
        return {"memories": self.memories}

    def load_state_dict(self, state: dict) -> None:
        self.memories = state["memories"]
        self.route(self.memories)
