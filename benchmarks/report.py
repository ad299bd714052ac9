"""What a run prints and what it leaves as JSON: settings first, then tables, then remarks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.measurement import Measurement
    from benchmarks.tables import Table


@dataclass(frozen=True)
class Report:
    """One run of one figure. `servers` holds per peer what its figures depend on."""

    figure: str
    began_at: str
    options: Mapping[str, Any]
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    servers: Mapping[str, Mapping[str, str]]
    left_out: Mapping[str, str]
    measurements: Sequence[Measurement]
    tables: Sequence[Table]

    @property
    def failed(self) -> bool:
        """Whether any measurement has no values."""
        return any(not measurement.values for measurement in self.measurements)

    def __str__(self) -> str:
        parts = [
            f"{self.figure}, {self.began_at}",
            f"machine: {_listed(self.machine)}",
            f"versions: {_listed(self.versions)}",
            f"options: {_listed(self.options)}",
            "\n".join(f"{peer}: {_listed(facts) or 'no server'}" for peer, facts in self.servers.items()),
            *(f"left out: {peer} ({reason})" for peer, reason in self.left_out.items()),
            *(str(table) for table in self.tables),
        ]
        remarks = [
            f"round {m.round}, {m.cell}, {m.peer}: {remark}"
            for m in self.measurements
            for remark in m.remarks
        ]
        if remarks:
            parts.append("remarks:\n" + "\n".join(remarks))
        return "\n\n".join(parts)

    def write(self, path: Path) -> None:
        """Write everything as JSON; the tables too, so that they need not be computed again."""
        path.write_text(json.dumps(asdict(self), indent=1, default=str) + "\n")


def _listed(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {'none' if value == '' else value}" for name, value in facts.items())
