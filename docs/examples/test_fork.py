"""A child is forked while another thread is inside of a logging handler: run it with a timeout, it hangs."""

from __future__ import annotations

import logging
import multiprocessing
import threading


class AuditHandler(logging.Handler):
    """Write one record at a time; logging makes its own locks anew in a child, but not this one."""

    def __init__(self) -> None:
        super().__init__()
        self.audit = threading.Lock()
        self.is_inside = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Take long."""
        with self.audit:
            self.format(record)
            self.is_inside.set()
            threading.Event().wait()


def test_log_in_a_child() -> None:
    """Hang."""
    handler = AuditHandler()
    log = logging.getLogger("audit")
    log.addHandler(handler)
    threading.Thread(target=log.error, args=("first",), name="chatter", daemon=True).start()
    handler.is_inside.wait()
    child = multiprocessing.get_context("fork").Process(target=log.error, args=("second",))
    child.start()
    child.join()
