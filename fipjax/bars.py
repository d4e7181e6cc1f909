"""Progress bars: live on a terminal or in a notebook; in a log file a line every ten seconds, of what takes as long."""
from __future__ import annotations

import sys
from collections.abc import Iterable

import tqdm

LIVE, LOGGED = 1.0, 10.0  # seconds


def bar(iterable: Iterable | None = None, *, show: bool = True, leave: bool = False, **how) -> tqdm.tqdm:
    """A progress bar on standard error.

    Args:
      iterable: what to pass on, or None for a bar that is updated by hand.
      show: False for none.
      leave: whether its last state stays.
      how: desc, unit, total, initial, unit_scale as tqdm has them.
    """
    live = sys.stderr.isatty() or 'ipykernel' in sys.modules
    every = LIVE if live else LOGGED
    return tqdm.tqdm(iterable, disable=not show, leave=leave, mininterval=every, maxinterval=every,
                     delay=0 if live else every, dynamic_ncols=live, **how)
