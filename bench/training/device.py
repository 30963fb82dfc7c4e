"""Where tensors lie: what a device is called, whether it is here, its clock, its memory and its generator.

CUDA and every other device type of PyTorch take the same path: by `torch.get_device_module`, the module that each
back-end, built in or added, registers with PyTorch. `torch.accelerator` would be the shorter way, but asks for an
allocator in C++ that an added back-end need not have, and knows no names.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from typing import Any

import torch

from bench.errors import BadInput

Device = str | torch.device
SERVED = "cpu, cuda, xpu, mps, or what an installed back-end adds"


def resolve_device(name: str) -> str:
    """Name of the device that `--device` asks for; auto is the accelerator of this machine, or the CPU.

    Raises:
        BadInput: for a device type that PyTorch does not know, or a device that this machine does not have.
    """
    if name == "auto":
        here = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if here is None else here.type
    try:
        device = torch.device(name)
        module = torch.get_device_module(device)
    except RuntimeError:
        raise BadInput(f"--device {name!r} is none that PyTorch can compute on: auto, {SERVED}.") from None
    if device.type == "cpu":
        return "cpu"
    if not module.is_available():
        raise BadInput(f"--device {name}: PyTorch {torch.__version__} sees no such device here; use --device cpu.")
    count = module.device_count()
    if (device.index or 0) >= count:
        raise BadInput(
            f"--device {name}: this machine has {count} of them, {device.type}:0 to {device.type}:{count - 1}."
        )
    return name


def on_cpu(device: Device) -> bool:
    """Whether it is the CPU, whose memory NumPy shares and whose work is done when a call returns."""
    return torch.device(device).type == "cpu"


def name_of(device: Device) -> str:
    """As the maker calls it, for the cell file: "NVIDIA H100 80GB HBM3". "cpu" for the CPU, named elsewhere."""
    return "cpu" if on_cpu(device) else str(_ask(device, "get_device_name") or torch.device(device).type)


def numerics(device: Device) -> tuple:
    """What of an accelerator decides the last bits of its results: its name, and what its libraries are and may do."""
    libraries = (torch.backends.cudnn.version(), torch.backends.cudnn.allow_tf32) if _is_cuda(device) else ()
    return name_of(device), *libraries, torch.get_float32_matmul_precision()


def synchronize(device: Device) -> None:
    """Wait until the device has done what it was given, so that a clock on the CPU tells the truth."""
    if not on_cpu(device):
        _ask(device, "synchronize")


def pins(device: Device) -> bool:
    """Whether batches are put where the device can copy them from while it computes."""
    return _is_cuda(device)


def allocated_bytes(device: Device) -> int:
    """Bytes that tensors hold on it now, by PyTorch's allocator; 0 where it does not count (the CPU)."""
    return 0 if on_cpu(device) else _ask(device, "memory_allocated") or 0


def free_bytes(device: Device) -> int:
    """Bytes of an accelerator's memory that nobody holds; 0 where it does not tell."""
    return (_ask(device, "mem_get_info") or (0, 0))[0]


def peak_bytes(device: Device) -> dict[str, int] | None:
    """Most bytes that tensors held (`allocated_bytes`) and that the allocator held for them (`reserved_bytes`) since
    `start_peak`; None where it does not count (the CPU)."""
    if on_cpu(device):
        return None
    return {f"{kind}_bytes": _ask(device, f"max_memory_{kind}") or 0 for kind in ("allocated", "reserved")}


def start_peak(device: Device) -> None:
    """Let `peak_bytes` begin anew."""
    if not on_cpu(device):
        _ask(device, "reset_peak_memory_stats")


def free_memory(device: Device) -> None:
    """Give back what the allocator keeps for later, after dropping what only a circle of references holds."""
    gc.collect()
    if not on_cpu(device):
        torch.get_device_module(device).empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocator gave up: an accelerator's has an exception of its own, the CPU's a message."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def nodes() -> list[str]:
    """Files below /dev and /proc through which drivers of accelerators are reached, of those that are here."""
    patterns = ("/dev/nvidia*", "/dev/dri", "/dev/kfd", "/dev/accel*", "/proc/driver/nvidia")
    return [path for pattern in patterns for path in sorted(glob(pattern))]


@contextmanager
def kept_draws() -> Iterator[None]:
    """Within, one may seed and draw; afterwards PyTorch's generators go on as if nothing had been drawn.

    The accelerator's is among them once something has computed there; asking it earlier would wake it for nothing.
    """
    here = torch.accelerator.current_accelerator()  # what PyTorch was built for, present or not
    module = here and torch.get_device_module(here)
    awake = module and getattr(module, "is_initialized", module.is_available)()
    with torch.random.fork_rng(range(module.device_count()) if awake else [], device_type=here.type if here else "cpu"):
        yield


def nvml_handle(device: Device) -> tuple[Any, Any] | None:
    """NVML's module and its handle of a CUDA device, whatever CUDA_VISIBLE_DEVICES renumbered; None without NVML."""
    if not _is_cuda(device):
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{_ask(device, 'get_device_properties').uuid}")
    except pynvml.NVMLError:  # a driver without it
        return None


def _is_cuda(device: Device) -> bool:
    return torch.device(device).type == "cuda"


def _ask(device: Device, question: str) -> Any:
    """What the device's module answers of it; None where it has no such function (MPS knows no peaks)."""
    device = torch.device(device)
    answer = getattr(torch.get_device_module(device), question, None)
    if answer is None:
        return None
    return answer() if device.type == "mps" else answer(device)  # of MPS there is only one
