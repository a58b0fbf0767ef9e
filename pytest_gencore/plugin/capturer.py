"""In the process that runs the tests: the means of capturing, armed once."""

from __future__ import annotations

import atexit
import contextlib
import os
from typing import TYPE_CHECKING, Any, Literal

from pytest_gencore.errors import describe_error
from pytest_gencore.installed import has_extension
from pytest_gencore.plugin import places
from pytest_gencore.plugin.options import has_marker
from pytest_gencore.plugin.settings import Settings, apply_marker, find_ci, find_folders, read_marker
from pytest_gencore.unpatched import posix

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from pytest_gencore.capture import CaptureEngine, CaptureRequest, Trigger
    from pytest_gencore.plugin.children import WatchedChildren
    from pytest_gencore.plugin.memory import MemoryWatch
    from pytest_gencore.plugin.moment import Moment
    from pytest_gencore.plugin.reserve import Reserve
    from pytest_gencore.plugin.watch import Watch

Role = Literal["tests", "controller", "imports"]
"""What a process does while it is watched: runs tests, controls workers that do, or has not come that far."""


class Capturer:
    """Engine, crash handlers, deadlines and journal of one process."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        *,
        get_run_id: Callable[[], str],
        worker_id: str | None,
        once_a_worker: bool,
        place: str = places.SESSION_START,
        role: Role = "tests",
        outlives_session: bool = False,
    ) -> None:
        """``place`` is where it is armed, as ``encode_place`` says it.

        ``outlives_session``: the process has nothing else to do after it, and is watched until it is gone.
        """
        self._role = role
        self._children: WatchedChildren | None = None
        self._memory: MemoryWatch | None = None
        self._outlives_session = outlives_session
        self._place = place
        self.has_stderr = True
        """Whether collectors have our standard error: not if it is one of sshd, which waits for its end."""
        self.settings = settings
        self.get_run_id = get_run_id
        self.unavailable = ""
        """Why nothing can be captured; empty if it can, or if nobody asked yet."""
        self.engine: CaptureEngine | None = None
        self._config = config
        self._worker_id = worker_id
        self._once_a_worker = once_a_worker
        self.watch: Watch | None = None
        """What takes notice of tests that run; None if nothing does."""
        self.moment: Moment | None = None
        """What captures when exceptions are raised; None if no test asks for that."""
        self._plugins: list[object] = []
        self._stderr_fd = -1
        self._reserve: Reserve | None = None

    @property
    def is_armed(self) -> bool:
        """Return whether a capture was prepared, successfully or not."""
        return self.engine is not None or bool(self.unavailable)

    def arm(self) -> None:
        """Prepare captures, while nothing is patched by a test yet."""
        if self.is_armed:
            return
        try:
            if self._is_local and self._role == "tests" and has_extension():
                from pytest_gencore.plugin.reserve import Reserve

                self._reserve = Reserve()
            self.engine = self._make_engine()
        except Exception as error:  # noqa: BLE001 - the run goes on without captures, whatever is missing
            self.unavailable = describe_error(error)
        else:
            self._register_plugins(self.engine)
            if self._outlives_session:  # these run after those that are registered later
                atexit.register(self.engine.native.disarm_probe)  # it keeps modules from their end
                atexit.register(self.engine.native.set_last_test, places.INTERPRETER_END)

    def arm_moment(self) -> None:
        """Prepare captures when exceptions are raised."""
        if self.engine is None or self.moment is not None or self.engine.is_portable:
            return
        from pytest_gencore.plugin import moment
        from pytest_gencore.run.opening import load_run

        open_run = load_run()
        self.moment = moment.Moment(
            self.engine,
            settings_for=self.settings_for,
            make_request=self.make_request,
            get_run=lambda: open_run(self.settings.dir, self.get_run_id()),
        )
        self._register(self.moment, moment.NAME)

    def close(self) -> None:
        """Take handlers and timers back, and give up what they needed."""
        while self._plugins:
            self._config.pluginmanager.unregister(self._plugins.pop())
        self.release_reserve()
        if self.moment is not None:
            self.moment.close()
            self.moment = None
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        if self._children is not None:
            self._children.close()
            self._children = None
        if self._outlives_session and self.watch is not None and self.watch.outlive_session():
            return
        if self.watch is not None:
            self.watch.close()
            self.watch = None
        if self._stderr_fd >= 0:
            posix.close(self._stderr_fd)
            self._stderr_fd = -1

    def release_reserve(self) -> None:
        """Give up what was kept for the end of the session."""
        if self._reserve is not None:
            self._reserve.release()

    def ignore_cancels(self) -> None:
        """Leave signals to pytest from here on."""
        if self.watch is not None:
            self.watch.ignore_cancels()

    def paused_session(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the run need not make progress: we wait for something ourselves."""
        return contextlib.nullcontext() if self.watch is None else self.watch.session.paused()

    def note_progress(self) -> None:
        """Say that the run goes on, where the extension cannot see it."""
        if self.watch is not None:
            self.watch.session.note_progress()

    def settings_for(self, item: pytest.Item) -> Settings:
        """Return the settings of one test: for most, those of the run."""
        return apply_marker(self.settings, read_marker(item)) if has_marker(item) else self.settings

    def make_request(
        self, trigger: Trigger, settings: Settings, item: pytest.Item | None, **details: Any
    ) -> CaptureRequest:
        """Return a request for a capture of this process, while a test runs or between tests."""
        from pytest_gencore.capture import CaptureRequest

        return CaptureRequest(
            trigger=trigger,
            **settings.of_a_request(),
            nodeid=None if item is None else item.nodeid,
            attempt=getattr(item, "execution_count", 1),
            worker_id=self._worker_id,
            once_a_worker=self._once_a_worker,
            **details,
        )

    def find_url(self, archive: Path) -> str:
        """Return where an archive of this process will be in the store; empty without one."""
        if not self.settings.store:
            return ""
        from pytest_gencore.store.url import join

        return join(self.settings.store, self.get_run_id(), archive.name)

    def note_failure(self, report: pytest.TestReport) -> None:
        """Keep what is known of a failure for whoever speaks when this process cannot; a worker has told."""
        if self.engine is not None and self._is_local:
            from pytest_gencore.plugin.journal import note_failure

            note_failure(self.engine, report)

    @property
    def _is_local(self) -> bool:
        return self._worker_id is None

    def _make_engine(self) -> CaptureEngine:
        from pytest_gencore.capture import CaptureEngine
        from pytest_gencore.plugin.handlers import duplicate_stderr
        from pytest_gencore.plugin.secrets import GivenByUser

        secrets = GivenByUser(self._config, self.settings)
        self._stderr_fd = duplicate_stderr(self._config) if self.has_stderr else -1
        return CaptureEngine(
            self.settings.dir,
            self.get_run_id(),
            max_captures=self.settings.max_cores,
            max_bytes=self.settings.max_size,
            stderr_fd=self._stderr_fd,
            session=self._describe_session(),
            protection=secrets.protection,
            find_secrets=secrets.find,
        )

    def _make_memory_request(self, words: str) -> CaptureRequest:
        settings = self.settings._replace(threads="all", children="watch")  # there is no core
        return self.make_request("memory", settings, None, memory=words)

    def _describe_session(self) -> Any:
        from pytest_gencore.request.context import SessionContext

        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        path = self._config.getoption("xmlpath", None) if self._is_local else None
        junit_path = junit_base = None
        if path:
            from pytest_gencore.junit.attacher import find_junit_path, find_shown_base

            junit_path = find_junit_path(path)
            junit_base = None if junit_path is None else find_shown_base(junit_path, os.environ)
        target = find_ci(self._config, self.settings)
        return SessionContext(
            is_local=self._is_local,
            is_controller=self._role == "controller",
            folders=find_folders(self._config),
            junit_path=None if junit_path is None else str(junit_path),
            junit_base=junit_base,
            has_clear_text=self.settings.clear_text,
            ci=() if target is None else target,
            has_colour=bool(getattr(reporter, "hasmarkup", False)),
            is_brief=self._config.getoption("verbose", 0) <= 0,
            environment=self.settings.env,
            page_command=self.settings.page_command,
            store=self.settings.store,
            upload_command=self.settings.upload_command,
        )

    def _register_plugins(self, engine: CaptureEngine) -> None:
        from pytest_gencore.plugin import (  # now: later a test may have patched "open"
            debuggers,
            journal,
            watch,
        )

        self.watch = watch.Watch(
            self._config,
            engine,
            self.settings,
            settings_for=self.settings_for,
            make_request=self.make_request,
            local=self._is_local,
            place=self._place,
        )
        is_early = self._role == "imports"  # of all its hooks one can be called, and each takes time
        self._register(debuggers.Entered(self.watch.pytest_enter_pdb) if is_early else self.watch, watch.NAME)
        if self._role == "tests" and self.watch.is_owner and not engine.is_portable:
            self._watch_beside_tests(engine, self.watch)
        if self._is_local and self._config.getoption("xmlpath", None) and not engine.is_portable:
            self._register(journal.Journal(self._config, engine), journal.NAME)

    def _watch_beside_tests(self, engine: CaptureEngine, watch: Watch) -> None:
        """Watch the children of tests, and the memory, if the settings ask for it."""
        if self.settings.on_fail:
            from pytest_gencore.plugin.children import WatchedChildren

            self._children = WatchedChildren(
                engine,
                self.settings,
                watch.prepared,
                run_id=self.get_run_id(),
                worker_id=self._worker_id,
            )
        if self.settings.capture_memory is not None:
            from pytest_gencore.plugin.memory import MemoryWatch

            self._memory = MemoryWatch(
                engine,
                self.settings.capture_memory,
                make_request=self._make_memory_request,
                descriptor=self._stderr_fd,
            )

    def _register(self, plugin: object, name: str) -> None:
        self._config.pluginmanager.register(plugin, name)
        self._plugins.append(plugin)
