"""A pretend accelerator: tensors that are computed on the CPU, say that they lie on `elsewhere:0`, and do not mix.

`call` runs a function in a process where it is started; no other test meets it. So every path that a GPU takes runs
where there is none, and what only a GPU would find is found: a tensor left behind on the CPU, `.numpy()` on the device,
a generator of the wrong device, an index on the wrong side. Its allocator counts the bytes of live storages, and is
full at `memory.size`.
What it cannot find: numbers that differ between kernels, races of streams, kernels that are missing.
"""

import gc
import multiprocessing
import traceback
import warnings
import weakref

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from bench.wall.nursery import step_server

NAME, HERE = "elsewhere", torch.device("cpu")
BUILDERS = (torch.tensor, torch.as_tensor)
MOVES = {"aten::copy_", "aten::_to_copy", "aten::_copy_from", "aten::set_"}
MADE_EMPTY = (
    "arange",
    "range",
    "linspace",
    "logspace",
    "eye",
    "randperm",
    "tril_indices",
    "triu_indices",
)  # then resized
LOWERED = ("conv1d", "conv2d", "conv3d", "conv_transpose2d.input", "linear", "matmul", "scaled_dot_product_attention")
INDEXES = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}


class Memory:
    """Bytes of the storages that any tensor on the device still holds."""

    def __init__(self):
        self.held, self.now, self.peak = {}, 0, 0
        self.size = 1 << 60

    def take(self, far: "Far", storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.held:
            inside_backward = (
                torch._C._current_graph_task_id() != -1
            )  # an error raised there by Python ends the process
            if self.now + len(storage) > self.size and not inside_backward:
                raise torch.OutOfMemoryError(
                    f"{NAME} out of memory. Tried to allocate {len(storage)} bytes; {self.now} of {self.size} taken."
                )
            self.held[key] = [0, len(storage)]
            self.now += len(storage)
            self.peak = max(self.peak, self.now)
        self.held[key][0] += 1
        weakref.finalize(far, self.drop, key).atexit = False

    def drop(self, key: int) -> None:
        self.held[key][0] -= 1
        if not self.held[key][0]:
            self.now -= self.held.pop(key)[1]


memory = Memory()


class Far(torch.Tensor):
    """A tensor on the device; `near` is where its numbers really are."""

    @staticmethod
    def __new__(cls, near: torch.Tensor):
        far = torch.Tensor._make_wrapper_subclass(
            cls, near.shape, strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
            device=torch.device(NAME, 0), layout=near.layout,
        )  # fmt: skip
        far.near = near
        memory.take(far, near.untyped_storage())
        return far

    def __repr__(self, **_):
        return f"{NAME}({self.near!r})"

    def tolist(self):
        return self.near.tolist()

    def new_tensor(self, data, dtype=None, device=None, requires_grad=False):
        made = torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device)
        return made.requires_grad_(requires_grad)

    def numpy(self, **_):
        raise TypeError(
            f"can't convert {NAME}:0 device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )

    def __array__(self, *_, **__):
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


def compute(func, args: tuple, kwargs: dict):
    """Run an operator that has a tensor of the device among its arguments, or makes one."""
    name, leaves = func._schema.name, tree_leaves((args, kwargs))
    far = any(isinstance(leaf, Far) for leaf in leaves)
    target = kwargs.get("device")
    there = torch.device(target).type == NAME if target is not None else far
    if far and name not in MOVES:
        check_mixing(name, args, leaves)
    generator = kwargs.get("generator") or next((leaf for leaf in leaves if isinstance(leaf, torch.Generator)), None)
    if there and generator is not None and generator.device.type != NAME:
        raise RuntimeError(f"{name}: expected a '{NAME}' device type for generator but found '{generator.device.type}'")
    if name == "aten::_local_scalar_dense":
        return func(args[0].near)
    near = tree_map(_near, kwargs) | ({"device": HERE} if target is not None else {})
    made = func(*tree_map(_near, args), **near)
    written = next(
        (i for i, one in enumerate(func._schema.arguments) if one.alias_info and one.alias_info.is_write), None
    )
    if written is not None:
        first = args[written] if written < len(args) else kwargs.get(func._schema.arguments[written].name)
        if isinstance(first, Far) and torch.Tag.inplace_view in func.tags:
            view_alike(func, args, kwargs)
        if isinstance(first, Far) and first.shape != first.near.shape:
            raise NotImplementedError(f"{name} resizes its output, which the pretend device cannot")
        if made is None or (isinstance(first, Far) and isinstance(made, torch.Tensor)):
            return None if made is None else first
    return tree_map(lambda one: Far(one) if there and isinstance(one, torch.Tensor) else one, made)


def view_alike(func, args: tuple, kwargs: dict) -> None:
    """Give the tensor on the device the shape that an operator in place gave its numbers: `squeeze_`, `t_`, ...

    As `torch.utils._python_dispatch.return_and_correct_aliasing` does it: the operator runs once more, on shapes alone.
    """
    with no_dispatch():
        within = torch._C._meta_in_tls_dispatch_include()
        torch._C._set_meta_in_tls_dispatch_include(True)
        try:
            func(*args, **kwargs)
        finally:
            torch._C._set_meta_in_tls_dispatch_include(within)


def check_mixing(name: str, args: tuple, leaves: list) -> None:
    """As on a GPU: scalars of the CPU may take part, and its indices; nothing else."""
    here = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, Far) and leaf.dim()]
    if name in INDEXES:
        if not isinstance(args[0], Far):
            raise RuntimeError(
                f"{name}: indices should be on the same device as the indexed tensor (cpu), not {NAME}:0"
            )
        here = [leaf for leaf in here if not any(leaf is index for index in args[1])]
    if here:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in here)
        raise RuntimeError(f"{name}: expected all tensors on the same device, but found {NAME}:0 and cpu ({shapes})")


def _near(value):
    return value.near if isinstance(value, Far) else value


class Module:
    """What PyTorch and the product ask of a device's module."""

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def get_device_name(device=None) -> str:
        return "Pretend accelerator"

    @staticmethod
    def synchronize(device=None) -> None:
        pass

    @staticmethod
    def empty_cache() -> None:
        pass

    @staticmethod
    def mem_get_info(device=None) -> tuple[int, int]:
        return memory.size - memory.now, memory.size

    @staticmethod
    def memory_allocated(device=None) -> int:
        return memory.now

    @staticmethod
    def max_memory_allocated(device=None) -> int:
        return memory.peak

    max_memory_reserved = max_memory_allocated

    @staticmethod
    def reset_peak_memory_stats(device=None) -> None:
        memory.peak = memory.now

    @staticmethod
    def get_rng_state(device=None) -> torch.Tensor:
        return torch.get_rng_state()

    @staticmethod
    def set_rng_state(state, device=None) -> None:
        torch.set_rng_state(state)

    @staticmethod
    def manual_seed_all(seed) -> None:
        pass  # its draws are the CPU's

    manual_seed = manual_seed_all

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class BuiltHere(TorchFunctionMode):
    """`torch.tensor` and `torch.as_tensor` build in C++ without asking the dispatcher: build here, then move."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func not in BUILDERS or torch.device(kwargs.get("device") or HERE).type != NAME:
            return func(*args, **kwargs)
        device, requires_grad = kwargs.pop("device"), kwargs.pop("requires_grad", False)
        made = func(*args, **kwargs) if not isinstance(args[0], Far) else args[0]
        return made.to(device).requires_grad_(requires_grad)


def _lowered(operator):
    """Under autocast the operator takes bfloat16, as on a GPU."""
    outside = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def lower(value):
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            return value
        return value.to(torch.get_autocast_dtype(NAME))

    def run(*args, **kwargs):
        with torch._C._ExcludeDispatchKeyGuard(outside):
            return operator(*tree_map(lower, args), **tree_map(lower, kwargs))

    return run


_libraries = [torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")]


def start() -> None:
    """Register the device, as PyTorch lets any back-end do that is not built in."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    BuiltHere().__enter__()
    rest, named = _libraries
    rest.fallback(lambda func, *args, **kwargs: compute(func, args, kwargs), dispatch_key="PrivateUse1")
    rest.fallback(torch.library.fallthrough_kernel, dispatch_key="AutocastPrivateUse1")
    for name in MADE_EMPTY:
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads():
            if "out" not in overload:
                named.impl(
                    f"{name}.{overload}".removesuffix(".default"), _made(getattr(packet, overload)), "PrivateUse1"
                )
    for name in LOWERED:
        packet, _, overload = name.partition(".")
        operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
        named.impl(name, _lowered(operator), "AutocastPrivateUse1")


def _made(operator):
    return lambda *args, **kwargs: compute(operator, args, kwargs)


def call(function, *arguments):
    """What `function` returns in a process of the bench's fork server, with the device started.

    Not in one forked from this: a process that has gone backward once knows the devices that there were then.

    Raises:
        AssertionError: with the traceback of what it raised there.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = step_server().Process(target=_answer, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        returned, told = ours.recv()
    except EOFError:
        returned, told = None, ""
    process.join()
    assert returned is not None, told or f"the process ended with exit code {process.exitcode}"
    return returned[0]


def _answer(end, function, arguments: tuple) -> None:
    warnings.simplefilter("ignore")  # as in the process of a step
    start()
    gc.freeze()  # what was there before is not looked through
    try:
        end.send(((function(*arguments),), ""))
    except BaseException:
        end.send((None, traceback.format_exc()))
