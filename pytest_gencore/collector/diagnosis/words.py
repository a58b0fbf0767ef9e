"""The diagnosis in words: one phrase for each thing that is waited for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.diagnosis.kernel_words import (
    describe_child,
    describe_descriptor,
    describe_pool,
    told_by_pool,
)
from pytest_gencore.collector.diagnosis.task_words import project_place, task_name
from pytest_gencore.texts import printable
from pytest_gencore.units import format_duration

if TYPE_CHECKING:
    from pytest_gencore.collector.diagnosis.facts import Facts, Hold, Place, Wait
    from pytest_gencore.collector.diagnosis.graph import Edge, Graph, Node
    from pytest_gencore.collector.diagnosis.system.children import Child
    from pytest_gencore.texts import Folders

_NAME_LENGTH: Final = 60
_NAMES_SHOWN: Final = 5
_INSTALLED: Final = re.compile(r"^.*/(?:(?:site|dist)-packages|python3\.\d+t?)/")
_NOBODY: Final = "which no `with` of a thread or task holds: who has it is not known"
_NOT_KNOWN: Final = "whose holder is not known"


class Words:
    """Says what the nodes and edges of one graph are."""

    def __init__(self, graph: Graph, folders: Folders) -> None:
        """``folders``: those of the session, which say how files are named."""
        self.graph = graph
        self.facts: Facts = graph.facts
        self._folders = folders
        self._system = graph.system
        self.forked: dict[int, str] = {}
        """What children by fork wait for, as they say themselves, by process."""
        self.idle: set[int] = set()
        """Those that wait inside of multiprocessing itself."""

    # ---- places and names -------------------------------------------------------------

    def place(self, place: Place | None) -> str:
        """Return ``test_pay.py:8``; empty if it is not known."""
        if place is None:
            return ""
        file = self._folders.shorten(place.file)
        if file.startswith("/"):
            file = _INSTALLED.sub("", file)
        return printable(file if place.line is None else f"{file}:{place.line}")

    def place_of(self, node: Node) -> str:
        """Return where the project's innermost frame of a thread or task is."""
        thread, task = self.graph.thread(node), self.graph.task(node)
        if thread is not None:
            return self.place(thread.project)
        return self.place(project_place(task)) if task is not None else ""

    def name(self, node: Node, *, with_kind: bool = False) -> str:
        """Return how a reader knows a thread or task; ``with_kind``: ``task 'consumer'``."""
        thread, task = self.graph.thread(node), self.graph.task(node)
        if thread is not None:
            name = thread.name or f"thread {thread.native_id or hex(thread.id)}"
            return printable(name, _NAME_LENGTH)
        if task is None:
            return f"{node.kind} {node.id:#x}"
        name = printable(task_name(task), _NAME_LENGTH)
        kind = "greenlet" if task.framework == "greenlet" else "task"
        return f"{kind} '{name}'" if with_kind else name

    def resource(self, number: int | None) -> str:
        """Return the name of a resource in quotes; empty if it has none that is known."""
        name = self.facts.names.get(number or 0)
        return "" if name is None else f"'{printable(name.text, _NAME_LENGTH)}'"

    # ---- what is waited for -----------------------------------------------------------

    def what(self, edge: Edge) -> str:
        """Return what a node waits for, without who has it."""
        return self._of_wait(edge.wait, edge)

    def whole(self, edge: Edge) -> str:
        """Return how long a node waits if that is limited, for what, and who has it: it follows ``waits``."""
        holder = self.holder(edge)
        comma = "," if holder.startswith("which") else ""
        text = f"for {self.what(edge)}" + (f"{comma} {holder}" if holder else "")
        limit = _limit_of(edge.wait)
        return f"{limit} {text}" if limit else text

    def doing(self, wait: Wait) -> str:
        """Return what a call that may block is: of a thread that is not known to wait."""
        text, limit = self._of_wait(wait, None), _limit_of(wait)
        return f"{text}, {limit}" if limit else text

    def _of_wait(self, wait: Wait, edge: Edge | None) -> str:
        writer = getattr(self, f"_write_{wait.kind}", None)
        return str(writer(wait, edge)) if writer is not None else wait.kind.replace("_", " ")

    def _named(self, noun: str, wait: Wait) -> str:
        name = self.resource(wait.resource)
        return f"{noun} {name}" if name else f"{_article(noun)} {noun}"

    def _write_lock(self, wait: Wait, edge: Edge | None) -> str:
        return self._named("lock", wait)

    def _write_process_lock(self, wait: Wait, edge: Edge | None) -> str:
        text = self._named("lock between processes", wait)
        value = wait.number("value")
        return text if value is None else f"{text} (value {value})"

    def _write_semaphore(self, wait: Wait, edge: Edge | None) -> str:
        value = wait.number("value")
        return self._named("semaphore", wait) + ("" if value is None else f" ({value} left)")

    def _write_event(self, wait: Wait, edge: Edge | None) -> str:
        is_set = wait.details.get("is_set")
        state = "" if is_set is None else ", set" if is_set else ", not set"
        return self._named("event", wait) + state

    def _write_condition(self, wait: Wait, edge: Edge | None) -> str:
        return f"{self._named('condition', wait)} to be notified"

    def _write_barrier(self, wait: Wait, edge: Edge | None) -> str:
        count, parties = wait.number("count"), wait.number("parties")
        return self._named("barrier", wait) + (
            f" ({count} of {parties} there)" if parties is not None else ""
        )

    def _write_queue(self, wait: Wait, edge: Edge | None) -> str:
        name = self.resource(wait.resource)
        items, operation = wait.number("items"), wait.text("operation")
        state = "an empty" if items == 0 else "a full" if operation == "put" else "a"
        noun = "stream" if operation in ("receive", "send") else "queue"
        inside = [name] if name else []
        if operation == "join":
            unfinished = wait.number("unfinished")
            inside += [] if unfinished is None else [f"{unfinished} unfinished"]
            return "queue.join()" + (f" ({', '.join(inside)})" if inside else "")
        if items:
            inside.append(f"{items} item{'s' if items > 1 else ''}")
        preposition = "to" if operation in ("put", "send") else "of"
        suffix = f" ({', '.join(inside)})" if inside else ""
        return f"{noun}.{operation}() {preposition} {state} {noun}{suffix}"

    def _write_thread(self, wait: Wait, edge: Edge | None) -> str:
        holders = edge.holders if edge is not None else ()
        name = self.name(holders[0]) if holders else wait.text("name")
        return f"the end of thread '{name}'" if name else "the end of a thread"

    def _write_task(self, wait: Wait, edge: Edge | None) -> str:
        return self._several(edge) or "a task"

    def _write_gather(self, wait: Wait, edge: Edge | None) -> str:
        return f"gather of {self._several(edge) or 'futures'}"

    def _write_wait(self, wait: Wait, edge: Edge | None) -> str:
        return f"asyncio.wait of {self._several(edge) or 'futures'}"

    def _write_task_group(self, wait: Wait, edge: Edge | None) -> str:
        return f"its task group: {self._several(edge) or 'other tasks'}"

    def _write_future(self, wait: Wait, edge: Edge | None) -> str:
        text = self._named("future", wait)
        state = wait.text("state").strip("'").lower()
        text = f"the result of {text}" + (f" ({state})" if state else "")
        if edge is None or not edge.holders:
            return text
        names = ", ".join(self.name(holder, with_kind=True) for holder in edge.holders[:_NAMES_SHOWN])
        by = "run by" if edge.holders[0].kind == "thread" else "of"
        return f"{text}, {'queued for' if edge.needs == 'any' else by} {names}"

    def _write_futures(self, wait: Wait, edge: Edge | None) -> str:
        count = len(wait.ends_with)
        return f"{count} future{'s' if count != 1 else ''}"

    def _write_loop(self, wait: Wait, edge: Edge | None) -> str:
        return "events of its event loop"

    def _write_loop_thread(self, wait: Wait, edge: Edge | None) -> str:
        return "its turn: the thread of its event loop is inside of something else"

    def _write_import(self, wait: Wait, edge: Edge | None) -> str:
        module = wait.text("module")
        return f"the import of {printable(module, _NAME_LENGTH)}" if module else "the import of a module"

    def _write_sleep(self, wait: Wait, edge: Edge | None) -> str:
        left = wait.details.get("left")
        remains = f", {left} s left" if isinstance(left, (int, float)) else ""
        seconds = wait.details.get("seconds")
        return ("its time" if seconds is None else f"sleep({printable(str(seconds))})") + remains

    def _write_child(self, wait: Wait, edge: Edge | None) -> str:
        pid, child = self._find_child(wait, edge)
        if pid in self.forked:
            return f"child {pid} (forked)"
        if child is None:
            return "the end of a child process" if pid is None else f"child {pid}"
        return describe_child(self._system, child)

    def told_by_child(self, edge: Edge) -> str:
        """Return what the child whose end is awaited waits for itself; empty if it has not said it."""
        if edge.wait.kind == "pool":
            return told_by_pool(edge.wait, self._system, self.forked, self.idle)
        return self.forked.get(self._find_child(edge.wait, edge)[0] or 0, "")

    def _write_pool(self, wait: Wait, edge: Edge | None) -> str:
        return describe_pool(wait)

    def _find_child(self, wait: Wait, edge: Edge | None) -> tuple[int | None, Child | None]:
        pid = wait.number("pid")
        system = self._system
        children = system.children if system is not None else []
        child = next((child for child in children if child.pid == pid), None)
        if child is None and edge is not None and system is not None:
            child = system.child_of(self._tid(edge) or 0)
        return (pid if child is None else child.pid), child

    def _write_stream(self, wait: Wait, edge: Edge | None) -> str:
        return self._descriptor(wait.number("fd")) or f"{printable(wait.text('call'))}()"

    def _write_call(self, wait: Wait, edge: Edge | None) -> str:
        name = printable(wait.text("call"), _NAME_LENGTH)
        tid = self._tid(edge) if edge is not None else None
        call = self._system.calls.get(tid) if self._system is not None and tid is not None else None
        number = wait.number("fd")
        if call is not None and (call.child is not None or self._is_pidfd(call.reads)):
            return self._write_child(wait, edge)
        numbers = [number] if number is not None else [*call.reads, *call.writes] if call else []
        found = [text for text in map(self._descriptor, numbers[:_NAMES_SHOWN]) if text]
        if len(found) == 1 and (name or call is not None):
            return found[0]
        if name == "" and call is not None:
            name = call.describe()
        what = f"{name}()" if name and not name.endswith(")") else name or "a call of compiled code"
        return f"{what} of {'; '.join(found)}" if found else what

    def _is_pidfd(self, numbers: tuple[int, ...]) -> bool:
        known = self._system.descriptors if self._system is not None else {}
        return any(number in known and known[number].kind == "pidfd" for number in numbers)

    def _write_native_lock(self, wait: Wait, edge: Edge | None) -> str:
        return "a lock of compiled code"

    def _tid(self, edge: Edge) -> int | None:
        thread = self.graph.thread(edge.waiter)
        return None if thread is None else thread.native_id

    def _descriptor(self, number: int | None) -> str:
        return "" if number is None else describe_descriptor(self._system, number)

    def _several(self, edge: Edge | None) -> str:
        if edge is None or not edge.holders:
            return ""
        names = [self.name(holder, with_kind=True) for holder in edge.holders[:_NAMES_SHOWN]]
        more = max(len(edge.holders), len(edge.wait.ends_with)) - len(names)
        return ", ".join(names) + (f" and {more} more" if more else "")

    # ---- who has it ---------------------------------------------------------------------

    def holder(self, edge: Edge) -> str:
        """Return who has a lock, or that nobody is known: ``held by rival-thread (test_deadlock.py:23)``."""
        if edge.wait.kind == "native_lock":
            probably = "" if edge.wait.details.get("is_sure") else "probably "
            who = self.name(edge.holders[0]) if edge.holders else "a thread that Python does not know"
            who = "itself" if edge.waiter in edge.holders else who
            return f"{probably}held by {who}"
        if edge.wait.kind != "lock":
            return ""
        if not edge.holders:
            if edge.wait.details.get("locked") is False:
                return ""
            return _NOBODY if self.facts.is_complete else _NOT_KNOWN
        return " and ".join(
            self.held_by(node, hold, edge.waiter)
            for node, hold in zip(edge.holders, edge.holds, strict=False)
        )

    def held_by(self, node: Node, hold: Hold, waiter: Node | None = None) -> str:
        """Return who has a resource: ``held by rival-thread (test_deadlock.py:23)``."""
        if node == waiter:
            who = "itself"
        elif self.graph.thread(node) is None and self.graph.task(node) is None:
            who = f"a {node.kind} that no longer exists"
        else:
            who = self.name(node, with_kind=node.kind == "task")
        where = self.place(hold.place)
        return f"held by {who}" + (f" ({where})" if where else "")


def _limit_of(wait: Wait) -> str:
    limited = wait.timeout is not None and wait.kind != "sleep"
    return f"at most {format_duration(wait.timeout or 0)}" if limited else ""


def _article(noun: str) -> str:
    return "an" if noun[:1] in "aeiou" else "a"
