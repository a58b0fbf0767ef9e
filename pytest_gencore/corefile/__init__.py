"""The ELF core format of Linux on 64-bit little-endian machines: read, build and lay out; pure, no policy.

Sources: elf(5), core(5), ``include/uapi/linux/elf.h``, ``include/uapi/linux/elfcore.h``,
``fs/binfmt_elf.c``.
"""

from __future__ import annotations
