"""The folder of one stack: where each thing lies."""

import os
from dataclasses import dataclass
from pathlib import Path

from headrace.local.files import private_dir


@dataclass(frozen=True, slots=True)
class Home:
    """All paths of a stack. Nothing is made until `make` is called."""

    path: Path

    def make(self) -> None:
        """Make the folders, mode 0700. Idempotent."""
        for folder in (self.path, self.logs, self.secrets):
            private_dir(folder)

    @property
    def lock(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.path / "supervisor.lock"

    @property
    def ports(self) -> Path:
        """The ports, chosen once."""
        return self.path / "state.json"

    @property
    def run(self) -> Path:
        """What runs, as the supervisor last wrote it down."""
        return self.path / "run.json"

    @property
    def logs(self) -> Path:
        """One log per part."""
        return self.path / "logs"

    @property
    def secrets(self) -> Path:
        """Passwords, one a file."""
        return self.path / "secrets"

    @property
    def api_keys(self) -> Path:
        """Keys of the gateway."""
        return self.path / "api-keys.json"

    @property
    def models(self) -> Path:
        """Folder of the model folders."""
        return self.path / "models"

    def log(self, part: str) -> Path:
        """Log of a part."""
        return self.logs / f"{part}.log"

    def data(self, part: str) -> Path:
        """Data of a part."""
        return self.path / part


def find_home(path: Path | None = None) -> Home:
    """Return the stack's home: the argument, else `HEADRACE_HOME`, else `.headrace` in the working folder."""
    return Home((path or Path(os.environ.get("HEADRACE_HOME") or ".headrace")).expanduser().resolve())
