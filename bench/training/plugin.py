"""What a method adds to the training loop, and what it carries from step to step."""

from types import FunctionType

from avalanche.core import BaseSGDPlugin
from torch import Tensor

from bench.errors import BadInput
from bench.registry.declarations import HOOKS, did_you_mean


class Plugin(BaseSGDPlugin, supports_distributed=False):
    """What is done about forgetting. Its `state_dict` is all that it carries from one step to the next.

    The state serves resume and is what the column `carried` counts: tensors, arrays, numbers, strings, lists, dicts.
    """

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        own = {name: value for name, value in vars(cls).items() if hasattr(value, "__code__")}
        for name in own:
            if name.startswith(("before_", "after_")) and name not in HOOKS:
                hint = did_you_mean(name, HOOKS, 0.4)
                raise BadInput(f"{_place(own[name])}: Avalanche never calls {name}.{hint}")
        for one, other in (("state_dict", "load_state_dict"), ("load_state_dict", "state_dict")):
            if one in own and getattr(cls, other) is getattr(Plugin, other):
                raise BadInput(
                    f"{_place(own[one])}: {cls.__name__} has {one} but no {other}: a state is saved and loaded."
                )

    def state_dict(self) -> dict:
        """Return everything carried to the next step."""
        return {}

    def exhibits(self, images: Tensor, step: int) -> dict[str, Tensor]:
        """Return pictures (n, 3, h, w) of what the memory makes of training images (n, 3, H, W), one column each.

        The images are of a class that was learned at `step`. For `bench figure`; a method without pictures has none.
        """
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Take back what `state_dict` returned."""
        if state:
            raise KeyError(f"{type(self).__name__} saves a state but does not load it")

    def report(self) -> dict[str, float]:
        """Return numbers worth noting after a step, by name; they join the cell's `notes`."""
        return {}

    def recall(self) -> dict[int, tuple[Tensor, Tensor | None]]:
        """Return what a memory that is not exact would replay now, for the bench to measure against the originals.

        Class (as in `Batch.category`; -1 for none in particular) -> pictures (n, 3, H, W) uint8 and which of the
        class's training images, in the order of its step, they stand for (n,); None where they stand for no image.
        """
        return {}


def _place(function: FunctionType) -> str:
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"
