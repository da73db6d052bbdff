"""A device that works: a trial operation, and the CPU where it fails."""

from radstack.core.errors import reason
from radstack.running.tasks import has_gpu


def working_device(wanted: str) -> str:
    """``wanted``, or a GPU if there is one, after a trial; ``cpu`` where the trial fails, which is said in one line.

    torch sees cards that it was not built for: they fail at the first operation, not before.
    """
    import torch

    device = wanted or ("cuda" if has_gpu() else "cpu")
    if device == "cpu":
        return device
    try:
        picture = torch.ones(1, 1, 8, 8, device=device)
        torch.nn.functional.conv2d(picture, picture[..., :3, :3]).sum().item()
    except (RuntimeError, AssertionError) as error:  # an AssertionError where torch was built without CUDA
        print(f"  {device} does not work here ({reason(error, 120)}): going on with the CPU", flush=True)
        return "cpu"
    return device
