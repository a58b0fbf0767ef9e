"""protocol.h and pytest_gencore/protocol.py say the same: a small C program prints every number."""

from __future__ import annotations

import os
import re
import struct
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from native_builds import CSRC, compile_c
from oracles import run_tool

from pytest_gencore import protocol
from pytest_gencore.corefile.machines import machine_for
from pytest_gencore.protocol import (
    CHILD,
    COMMAND,
    OPEN_FILE,
    RECORD,
    SNAPSHOT_STATUS,
    SOCKET,
    THREAD,
    WORKER,
    WORKER_TEST,
    CaptureResult,
    Command,
    Deadline,
    Descriptor,
    Layout,
    Phase,
    Stage,
    ThreadState,
    WorkerState,
)

if TYPE_CHECKING:
    from enum import IntEnum
    from pathlib import Path

pytestmark = needs("gcc")

ENUMS: dict[str, tuple[type[IntEnum], str]] = {
    "gencore_descriptor": (Descriptor, "GENCORE_FD_"),
    "gencore_stage": (Stage, "GENCORE_STAGE_"),
    "gencore_thread_state": (ThreadState, "GENCORE_THREAD_"),
    "gencore_phase": (Phase, "GENCORE_PHASE_"),
    "gencore_deadline": (Deadline, "GENCORE_DEADLINE_"),
    "gencore_worker_state": (WorkerState, "GENCORE_WORKER_"),
    "gencore_command_kind": (Command, "GENCORE_COMMAND_"),
}
LAYOUTS = {
    "gencore_record": RECORD,
    "gencore_thread": THREAD,
    "gencore_open_file": OPEN_FILE,
    "gencore_socket": SOCKET,
    "gencore_child": CHILD,
    "gencore_worker": WORKER,
    "gencore_worker_test": WORKER_TEST,
    "gencore_snapshot_status": SNAPSHOT_STATUS,
    "gencore_command": COMMAND,
}
ENUM = re.compile(r"^enum (\w+) \{(.*?)^\};", re.MULTILINE | re.DOTALL)
STRUCT = re.compile(r"^struct (\w+) \{(.*?)^\};", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def read_header() -> str:
    return COMMENT.sub("", (CSRC / "protocol.h").read_text())


def print_numbers(tmp_path: Path, *expressions: str) -> list[int]:
    """Compile a program against the header that prints constant expressions."""
    source = tmp_path / "numbers.c"
    lines = "".join(f'    printf("%lld\\n", (long long)({expression}));\n' for expression in expressions)
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "protocol.h"\nint main(void)\n{{\n{lines}}}\n'
    )
    return [int(line) for line in run_tool(compile_c(tmp_path / "numbers", [source])).splitlines()]


@pytest.mark.parametrize("name", ENUMS)
def test_values(tmp_path: Path, name: str) -> None:
    """Every member of either side has the same name and value on the other."""
    enum, prefix = ENUMS[name]
    body = dict(ENUM.findall(read_header()))[name]
    members = re.findall(r"\b(GENCORE_\w+)", body)
    values = print_numbers(tmp_path, *members)
    found = {member.removeprefix(prefix): value for member, value in zip(members, values, strict=True)}
    assert found == {member.name: member.value for member in enum}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(tmp_path: Path, name: str) -> None:
    """Every field has the same name, offset and size, in the same order; there is no padding."""
    layout = LAYOUTS[name]
    body = dict(STRUCT.findall(read_header()))[name]
    members = re.findall(r"(\w+)(?:\[\w+\])?;", body)
    offsets = print_numbers(tmp_path, *(f"offsetof(struct {name}, {member})" for member in members))
    sizes = print_numbers(tmp_path, *(f"sizeof(((struct {name} *)0)->{member})" for member in members))
    found = list(zip(members, offsets, sizes, strict=True))
    if layout is THREAD:
        registers = count_registers()
        assert found.pop() == ("regs", THREAD.size, 8 * registers)
        assert print_numbers(tmp_path, f"sizeof(struct {name})") == [THREAD.size + 8 * registers]
    else:
        assert print_numbers(tmp_path, f"sizeof(struct {name})") == [layout.size]
    assert found == [
        (field, layout.offset_of(field), struct.calcsize(f"<{code}")) for field, code in layout.fields
    ]


def test_nothing_is_left_out() -> None:
    header = read_header()
    assert set(dict(ENUM.findall(header))) == set(ENUMS)
    assert set(dict(STRUCT.findall(header))) == {*LAYOUTS, "gencore_crash"}, "its two numbers come one by one"
    assert {value for value in vars(protocol).values() if isinstance(value, Layout)} == set(LAYOUTS.values())


def count_registers() -> int:
    """Return how many registers of a thread the Python side expects behind ``THREAD``."""
    machine = machine_for(os.uname().machine)
    assert machine is not None
    return len(machine.registers)


def test_limits(tmp_path: Path) -> None:
    numbers = print_numbers(
        tmp_path,
        "GENCORE_NAME_SIZE",
        "GENCORE_REGISTERS",
        "GENCORE_STAGE_LAST",
        "GENCORE_DEADLINES",
        "GENCORE_NOT_READ",
        "GENCORE_LIST_HEAD",
        "GENCORE_LIST_SLOT",
    )
    assert numbers == [
        protocol.NAME_SIZE,
        count_registers(),
        max(Stage),
        len(Deadline),
        protocol.NOT_READ,
        protocol.LIST_HEAD,
        protocol.LIST_SLOT,
    ]


def test_the_result_of_a_capture() -> None:
    """The order of the tuple in module.c."""
    text = (CSRC / "module.c").read_text()
    (built,) = re.findall(r'Py_BuildValue\("\(iisiii\)",(.*?)\);', text, re.DOTALL)
    assert tuple(re.findall(r"result->(\w+)", built)) == CaptureResult._fields
