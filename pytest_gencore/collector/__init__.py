"""The separate process: snapshot in, archive out.

Started by ``capture`` for one capture each, in a session of its own. It sees none of what a test has patched
and survives the end of the process that it captures. It imports neither pytest nor the extension.
"""

from __future__ import annotations
