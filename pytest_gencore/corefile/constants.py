"""Numbers of the ELF core format, under the names that elf(5) and ``include/uapi/linux/elf.h`` give them."""

from __future__ import annotations

from typing import Final

ELF_MAGIC: Final = b"\x7fELF"
ELFCLASS64: Final = 2
ELFDATA2LSB: Final = 1
EV_CURRENT: Final = 1

ET_EXEC: Final = 2
ET_DYN: Final = 3
ET_CORE: Final = 4


EHDR_SIZE: Final = 64
PHDR_SIZE: Final = 56
SHDR_SIZE: Final = 64

PN_XNUM: Final = 0xFFFF
"""``e_phnum`` when the real count is in ``sh_info`` of section header 0."""
SHT_NULL: Final = 0

PT_LOAD: Final = 1
PT_NOTE: Final = 4

PF_X: Final = 1
PF_W: Final = 2
PF_R: Final = 4

NT_PRSTATUS: Final = 1
NT_FPREGSET: Final = 2
NT_PRPSINFO: Final = 3
NT_AUXV: Final = 6
NT_SIGINFO: Final = 0x53494749
NT_FILE: Final = 0x46494C45
NT_X86_XSTATE: Final = 0x202
NT_X86_XSAVE_LAYOUT: Final = 0x205
NT_ARM_TLS: Final = 0x401
NT_ARM_SVE: Final = 0x405
NT_ARM_PAC_MASK: Final = 0x406
NT_ARM_SSVE: Final = 0x40B
NT_ARM_ZA: Final = 0x40C
NT_ARM_ZT: Final = 0x40D

NT_GNU_BUILD_ID: Final = 3
"""In notes named ``GNU`` of executables and libraries; in notes named ``CORE`` 3 is NT_PRPSINFO."""

NOTE_CORE: Final = "CORE"
"""Name of the notes that every machine has."""
NOTE_LINUX: Final = "LINUX"
"""Name of the notes that only Linux, or only one machine, has."""
NOTE_GNU: Final = "GNU"
