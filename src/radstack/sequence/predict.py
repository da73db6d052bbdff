"""Precision of the forward pass, and predictions of whole series."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from radstack.core.errors import UserError
from radstack.sequence.batches import Picks, ordered_batches
from radstack.sequence.feed import Batch, Feed

Tell = Callable[..., None]
"""Takes figures of a step, see :meth:`radstack.core.progress.Track.step`."""
Answer = Callable[[torch.Tensor], torch.Tensor]
"""Outputs [rows, targets] -> predictions."""
PREDICT_SERIES = 32
"""Series predicted at once."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""``Sequence.precision`` -> type of matrix products."""


def autocast(precision: str, device: torch.device) -> torch.amp.autocast:
    """The context of the forward pass.

    Raises:
        UserError: an unknown name, or fp16 on a CPU (its LSTM has none).
    """
    if precision not in DTYPES:
        raise UserError(f"precision {precision!r} is unknown; choose one of {', '.join(DTYPES)}")
    if precision == "fp16" and device.type == "cpu":
        raise UserError("fp16 needs a GPU; on the CPU use --set precision=bf16 or --set precision=fp32")
    return torch.amp.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


@torch.inference_mode()
def predict(model: nn.Module, feed: Feed, picks: Picks, amp: torch.amp.autocast, reverse: bool,
            answer: Answer = torch.sigmoid, tell: Tell = lambda *_, **__: None) -> np.ndarray:
    """Predictions float32 [index rows, targets] of the rows of ``picks``, NaN elsewhere; ``answer`` makes them of outputs.

    With ``reverse`` the mean of the series read forward and backward. Rows carry their numbers, so nothing has to be
    turned back. ``tell`` takes the count of ``images`` of each batch.
    """
    model.eval()
    out = np.full(feed.labels.shape, np.nan, np.float32)
    for chosen in ordered_batches(picks, PREDICT_SERIES):
        rows, forward = _direction(model, feed.batch(chosen), amp, answer)
        out[rows] = forward
        if reverse:
            rows, backward = _direction(model, feed.batch(chosen.reversed()), amp, answer)
            out[rows] = (out[rows] + backward) / 2
        tell(images=len(rows))
    return out


def _direction(model: nn.Module, batch: Batch, amp: torch.amp.autocast, answer: Answer) -> tuple[np.ndarray, np.ndarray]:
    """Index rows of the batch's real slices and their predictions."""
    with amp:
        outputs = model(batch)[-1]
    return batch.rows[batch.rows >= 0], answer(outputs.float()[batch.mask]).cpu().numpy()
