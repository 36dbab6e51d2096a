"""What an export wrote, what it takes, and how it was checked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .measure import Cost
from .verify import Check, IntegerCheck

_UNITS = {
    "bytes": "bytes",
    "nodes": "nodes",
    "multiply_adds": "multiply-adds a row",
    "wasm_bytes": "bytes of WebAssembly",
    "flash_bytes": "bytes of tables (flash)",
    "workspace_bytes": "bytes of workspace (RAM)",
}


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it was checked; `checks` is empty if it was not.

    machines: what the C takes of each that a compiler is installed for.
    """

    target: str
    model: str
    model_sha256: str
    files: tuple[str, ...]
    facts: Mapping[str, int]
    checks: tuple[Check | IntegerCheck, ...]
    machines: tuple[Cost, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "verified": bool(self.checks)}

    def lines(self) -> list[str]:
        """For people."""
        facts = ", ".join(f"{value:,} {_UNITS[name]}" for name, value in self.facts.items())
        found = [f"{self.target} of {self.model}: {facts}"]
        found += [cost.sentence for cost in self.machines]
        found += [check.sentence for check in self.checks]
        return found + ["Not compared with the model: --no-verify"] * (not self.checks)
