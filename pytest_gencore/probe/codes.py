"""What bytecode says about a frame: how deep its value stack is, which ``with`` statements are around."""

from __future__ import annotations

import dis
import itertools
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import CodeType

VERSION = sys.version_info[:2]
HAS_TABLE = VERSION >= (3, 11)
"""Handlers of exceptions are in a table; 3.10 has instructions that set them up."""

_CODE_LIMIT = 100_000
"""Bytes of code that are looked at: beyond are generated tables."""
_JUMPS = frozenset(dis.hasjrel) | frozenset(dis.hasjabs)
_ENDS = frozenset(
    (
        "RETURN_VALUE",
        "RETURN_CONST",
        "RAISE_VARARGS",
        "RERAISE",
        "JUMP_FORWARD",
        "JUMP_ABSOLUTE",
        "JUMP_BACKWARD",
        "JUMP_BACKWARD_NO_INTERRUPT",
        "INTERPRETER_EXIT",
    )
)
_WITH = frozenset(
    dis.opmap[name]
    for name in ("BEFORE_WITH", "BEFORE_ASYNC_WITH", "SETUP_WITH", "SETUP_ASYNC_WITH", "LOAD_SPECIAL")
    if name in dis.opmap
)
_GENERATORS = 0x20 | 0x80 | 0x200
"""``CO_GENERATOR``, ``CO_COROUTINE``, ``CO_ASYNC_GENERATOR`` of the module inspect."""


class With(NamedTuple):
    """A ``with`` statement whose body a frame is inside of."""

    slot: int
    """Where its ``__exit__`` is on the value stack; counted from the bottom."""
    line: int | None
    after: int | None = None
    """Where its body begins."""


class Instruction(NamedTuple):
    """One instruction."""

    name: str
    argument: int | None
    line: int | None
    value: Any = None
    """What the argument stands for: a name, a constant."""


class Code:
    """A code object, analysed once."""

    def __init__(self, code: CodeType) -> None:
        """Read all instructions and follow every path once."""
        self.instructions: dict[int, Instruction] = {}
        self._targets: dict[int, Any] = {}
        self._opcodes: dict[int, int] = {}
        self._table: list[Any] = dis._parse_exception_table(code) if HAS_TABLE else []  # type: ignore[attr-defined]
        self._read(code)
        offsets = list(self.instructions)
        self._following = dict(itertools.pairwise(offsets))
        self.before = dict(zip(offsets[1:], offsets, strict=False))
        """The offset of the instruction in front of each."""
        self.depths: dict[int, int] = {}
        """Values on the stack before each instruction."""
        self._blocks: dict[int, tuple[With | None, ...]] = {}
        self._withs: dict[int, list[With]] = {}
        self._follow(code)

    def at(self, lasti: int) -> int:
        """Return the offset of the instruction that ``frame.f_lasti`` is in, inline caches included."""
        while lasti >= 0 and lasti not in self.instructions:
            lasti -= 2
        return lasti

    def withs(self, offset: int) -> list[With]:
        """Return the ``with`` statements around an instruction, innermost first."""
        if offset not in self._withs:
            self._withs[offset] = self._find_withs(offset)
        return self._withs[offset]

    def stores(self, name: str, after: int) -> bool:
        """Whether anything behind an instruction stores or deletes a variable."""
        return any(
            found.name.startswith(("STORE_", "DELETE_"))
            and (name in found.value if type(found.value) is tuple else found.value == name)
            for offset, found in self.instructions.items()
            if offset >= after
        )

    def _find_withs(self, offset: int) -> list[With]:
        if not HAS_TABLE:
            return [block for block in reversed(self._blocks.get(offset, ())) if block is not None]
        found: list[With] = []
        seen: set[int] = set()
        while True:
            entry = next((entry for entry in self._table if entry.start <= offset < entry.end), None)
            if entry is None or entry.target in seen:
                return found
            seen.add(entry.target)
            if self._handles_with(entry.target):
                start = min(other.start for other in self._table if other.target == entry.target)
                found.append(
                    With(entry.depth - 1, self.instructions[self.before.get(start, start)].line, start)
                )
            offset = entry.target  # outwards

    def _handles_with(self, target: int) -> bool:
        """Whether a handler calls ``__exit__``: those of an ``await`` come first, and do not."""
        after = self._following.get(target, target)
        return "WITH_EXCEPT_START" in (self.instructions[target].name, self.instructions[after].name)

    def _read(self, code: CodeType) -> None:
        line: int | None = code.co_firstlineno
        for instruction in dis.get_instructions(code):
            if VERSION >= (3, 13):
                line = instruction.line_number or line  # type: ignore[attr-defined]
            elif instruction.starts_line:
                line = instruction.starts_line
            offset = instruction.offset
            self.instructions[offset] = Instruction(
                instruction.opname, instruction.arg, line, instruction.argval
            )
            self._opcodes[offset] = instruction.opcode
            if instruction.opcode in _JUMPS:
                self._targets[offset] = instruction.argval

    def _follow(self, code: CodeType) -> None:
        start = 0
        if code.co_flags & _GENERATORS:  # 3.10 starts with GEN_START, which takes a value from the stack
            start = 1 if not HAS_TABLE or dis.stack_effect(dis.opmap["RETURN_GENERATOR"], None) == 0 else 0
        work: list[tuple[int, int, tuple[With | None, ...]]] = [(0, start, ())]
        work += [(entry.target, entry.depth + bool(entry.lasti) + 1, ()) for entry in self._table]
        while work:
            offset, depth, blocks = work.pop()
            at: int | None = offset
            while at is not None and at not in self.depths and at in self.instructions:
                self.depths[at] = depth
                self._blocks[at] = blocks
                name, argument, line, _ = self.instructions[at]
                opcode = self._opcodes[at]
                if at in self._targets:
                    inside = (*blocks, None) if name.startswith("SETUP_") else blocks
                    effect = dis.stack_effect(opcode, argument, jump=True)
                    work.append((self._targets[at], depth + effect, inside))
                if name.startswith("SETUP_"):  # 3.10 only
                    blocks = (*blocks, _find_with(name, depth, line, self._following.get(at)))
                elif name in ("POP_BLOCK", "POP_EXCEPT"):
                    blocks = blocks[:-1]
                depth += dis.stack_effect(opcode, argument, jump=False)
                at = None if name in _ENDS else self._following.get(at)


def _find_with(name: str, depth: int, line: int | None, after: int | None) -> With | None:
    """Return the block that an instruction of 3.10 begins; ``__exit__`` replaces the context manager."""
    if name == "SETUP_WITH":
        return With(depth - 1, line, after)
    return With(depth - 2, line, after) if name == "SETUP_ASYNC_WITH" else None


_known: dict[CodeType, Code | None] = {}
_has_with: dict[CodeType, bool] = {}


def analyse(code: CodeType) -> Code | None:
    """Return what is known of a code object, None if it is too long or not understood."""
    if code not in _known:
        try:
            _known[code] = Code(code) if len(code.co_code) <= _CODE_LIMIT else None
        except Exception:  # a version that is not known yet
            _known[code] = None
    return _known[code]


def has_with(code: CodeType) -> bool:
    """Whether there is a ``with`` statement in it."""
    if code not in _has_with:
        _has_with[code] = not _WITH.isdisjoint(code.co_code[::2])
    return _has_with[code]


def forget() -> None:
    """Give up what was analysed: it keeps code alive."""
    _known.clear()
    _has_with.clear()
