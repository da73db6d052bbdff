"""What tests wait with: for an event, never for a time to pass, so that they hold on any machine."""

import contextlib
import signal
from collections.abc import Iterator

WATCHDOG_SECONDS = 600
"""Far beyond what any event takes on a slow and busy machine; it only ends a test that would hang."""


@contextlib.contextmanager
def watchdog(seconds: int = WATCHDOG_SECONDS) -> Iterator[None]:
    """Raise a TimeoutError in the main thread if the block is not over after ``seconds``."""
    def bark(*_: object) -> None:
        raise TimeoutError(f"the event did not come in {seconds} s")

    before = signal.signal(signal.SIGALRM, bark)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
