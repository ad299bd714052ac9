"""One verification from its beginning to its end: the checks in their order, and nothing left behind."""

from __future__ import annotations

import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from celery_postgres.errors import Error

from .checks import CHECKS, OWN_TASK, UNTOUCHED, Check
from .interruption import signals_interrupt, undisturbed
from .outcome import FAIL, PASS, SKIP, Fault, NotRun, Outcome
from .stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from .request import Request


class Verification:
    """All checks of one request. `schema` is where they take place; `outcomes` grow as it runs."""

    def __init__(self, request: Request, tell: Callable[[Outcome], None]) -> None:
        self.outcomes: list[Outcome] = []
        self._request = request
        self._tell = tell
        self._stage = Stage(request)
        self._passed: set[str] = set()

    @property
    def schema(self) -> str:
        return self._stage.schema

    def run(self) -> None:
        """Make all checks and tell each outcome as it comes. Once, and in the main thread.

        Takes a quarter of a minute. Whatever happens, also a signal, the workers are ended and the schema
        is removed, unless it is to be kept. Raises KeyboardInterrupt after that if it was told to stop.
        """
        with signals_interrupt():
            try:
                for check in (*CHECKS, *([OWN_TASK] if self._request.own_task else [])):
                    self._make(check)
            finally:
                with undisturbed():
                    self._clean_up()

    def _make(self, check: Check) -> None:
        """One check, unless one that it builds on did not pass."""
        if check.needs and check.needs not in self._passed:
            self._add(Outcome(check.name, SKIP, 0.0, f"it needs {check.needs}, which did not pass"))
            return
        offsets = {worker.log: worker.log.stat().st_size for worker in self._stage.workers}
        begin = time.monotonic()
        try:
            finding = check.run(self._stage)
        except NotRun as reason:
            self._add(Outcome(check.name, SKIP, time.monotonic() - begin, str(reason)))
        except Fault as fault:
            log = self._keep_log(check.name, offsets)
            self._add(Outcome(check.name, FAIL, time.monotonic() - begin, fault.said, fault.remedy, log=log))
        except Error as error:  # its message ends with the remedy
            log = self._keep_log(check.name, offsets)
            self._add(Outcome(check.name, FAIL, time.monotonic() - begin, str(error), log=log))
        except Exception as error:  # noqa: BLE001 - a bug in one check must not hide what the others find
            log = self._keep_log(check.name, offsets, traceback.format_exc())
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            remedy = "look into the log; report it as a bug if the database is well"
            self._add(Outcome(check.name, FAIL, time.monotonic() - begin, said, remedy, log=log))
        else:
            self._passed.add(check.name)
            taken = time.monotonic() - begin
            self._add(Outcome(check.name, PASS, taken, finding.said, figures=finding.figures))

    def _clean_up(self) -> None:
        """End the workers, remove the schema, and look whether all else is as it was."""
        stage = self._stage
        begin = time.monotonic()
        try:
            stage.end_workers()
            if not self._request.keep:
                said = stage.ground.remove()
                if "connection" in self._passed:
                    self._add(Outcome("removal", PASS, time.monotonic() - begin, said))
            if "connection" in self._passed:
                self._make(UNTOUCHED)
        except Exception as error:  # noqa: BLE001 - what could not be removed has to be said
            said = f"the schema {stage.schema} could not be removed: {' '.join(str(error).split())}"
            remedy = f'DROP SCHEMA "{stage.schema}" CASCADE;'
            self._add(Outcome("removal", FAIL, time.monotonic() - begin, said, remedy))
        finally:
            stage.close()

    def _keep_log(self, name: str, offsets: dict[Path, int], more: str = "") -> Path | None:
        """What the workers wrote since then, in a file that stays; None if that is nothing."""
        said = [more]
        for worker in self._stage.workers:
            with worker.log.open("rb") as log:
                log.seek(offsets.get(worker.log, 0))
                text = log.read().decode(errors="replace")
            said.append(f"--- {worker.name}\n{text}" if text else "")
        if not any(said):
            return None
        kept = Path(tempfile.mkdtemp(prefix="celery-postgres-verify-")) / f"{name.replace(' ', '-')}.log"
        kept.write_text("\n".join(filter(None, said)), encoding="utf-8")
        return kept

    def _add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._tell(outcome)
