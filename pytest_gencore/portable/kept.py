"""Functions as they were when captures were armed: tests patch modules, and freezegun whoever has a function.

It looks for the functions themselves among the attributes of all modules, so these are wrapped.
"""

from __future__ import annotations

import functools
import time

now = functools.partial(time.monotonic)
sleep = functools.partial(time.sleep)
wall_seconds = functools.partial(time.time)
wall_ns = functools.partial(time.time_ns)
split_utc = functools.partial(time.gmtime)
format_time = functools.partial(time.strftime)
process_seconds = functools.partial(time.process_time)
