"""Which device works: torch sees cards that it was not built for, and those fail at the first operation, not before."""

import functools

from radstack.core.errors import reason
from radstack.core.say import to_stdout


@functools.cache
def works(device: str) -> bool:
    """Whether ``device`` (``cuda``, ``cuda:1`` ...) adds two numbers; says so, once a process, where it does not."""
    import torch  # here: stages with nothing to do must start at once

    try:
        torch.ones(2, device=device).sum().item()
    except (RuntimeError, AssertionError) as error:  # an AssertionError where torch was built without CUDA
        to_stdout(f"  {device} does not work here ({reason(error, 120)}): going on with the CPU")
        return False
    return True


def has_gpu() -> bool:
    """Whether there is a GPU that this build of torch can compute on."""
    import torch

    return torch.cuda.is_available() and works("cuda")


def device_of(wanted: str) -> str:
    """``wanted``, as a person asked for it; without that ``cuda`` where there is a GPU that works, else ``cpu``."""
    return wanted or ("cuda" if has_gpu() else "cpu")


def working_device(wanted: str) -> str:
    """:func:`device_of`, or ``cpu`` where that device fails a trial."""
    device = device_of(wanted)
    return device if device == "cpu" or works(device) else "cpu"
