"""Views of head CT: windows and neighbors as channels."""

from competitions.ich.hu import WINDOWS
from radstack.core.registry import check_name
from radstack.images.views import Channel, Slices

MEAN, STD = (57.0, 46.4, 64.3), (82.7, 75.4, 79.9)
"""Brain, subdural, bone on the 0-255 scale: (0.2236, 0.1819, 0.2523) and (0.3245, 0.2956, 0.3134) of 255, as measured
by a public solution of RSNA 2019."""


def three_windows(side: int) -> Slices:
    """Brain, subdural and bone window of one slice: best in the four-network write-up's ablation."""
    return Slices((_channel("brain"), _channel("subdural"), _channel("bone")), side, MEAN, STD)


def brain_only(side: int) -> Slices:
    """The brain window alone, on three channels: the four-network write-up's best single window."""
    return Slices((_channel("brain"),) * 3, side, MEAN[:1] * 3, STD[:1] * 3)


def neighbors(side: int, step: int = 1, window: str = "brain") -> Slices:
    """Slices s-step, s, s+step as channels in one window (SeuTao, first place; step 2: okotaku, third)."""
    channels = tuple(_channel(window, offset) for offset in (-step, 0, step))
    named = ("brain", "subdural", "bone")
    place = named.index(window) if window in named else 0  # of a window of one's own the brain's will do
    return Slices(channels, side, MEAN[place:place + 1] * 3, STD[place:place + 1] * 3)


def windows_and_neighbors(side: int) -> Slices:
    """Brain window of s-1, s, s+1, then subdural and bone of s: what both of the above see, in five channels."""
    channels = (_channel("brain", -1), _channel("brain"), _channel("brain", 1), _channel("subdural"), _channel("bone"))
    return Slices(channels, side, (MEAN[0], *MEAN[:1], *MEAN), (STD[0], *STD[:1], *STD))


def means_of_three(side: int) -> Slices:
    """Three windows over the mean of s-1, s, s+1: less noise, thicker slices (okotaku, third place)."""
    channels = tuple(_channel(name, -1, 0, 1) for name in ("brain", "subdural", "bone"))
    return Slices(channels, side, MEAN, STD)


def _channel(window: str, *offsets: int) -> Channel:
    check_name(WINDOWS, window, "window")
    return Channel(tuple(WINDOWS[window]), offsets or (0,))  # type: ignore[arg-type]
