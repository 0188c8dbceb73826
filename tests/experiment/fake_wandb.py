"""A stand-in for the package wandb that remembers what it is told, as the server would."""

import types


class FakeRun:
    """A run; its history outlives the process that wrote it, unless it is offline."""

    def __init__(self, server, options):
        self._history = server.histories.setdefault(options["id"], {})
        self.step = max(self._history, default=-1) + 1 if not server.offline else 0
        self.offline, self.url = server.offline, "https://wandb.example/run"
        self.options, self.exit_code, self._server = options, None, server

    def log(self, values, *, step):
        if self._server.broken:
            raise ConnectionError("the network is gone")
        self._server.calls.append((self.options["name"], step))
        self._history[step] = values

    def finish(self, *, exit_code):
        self.exit_code = exit_code


class FakeWandb(types.ModuleType):
    """The module; put it at `sys.modules["wandb"]`."""

    def __init__(self, *, offline=False, has_key=True):
        super().__init__("wandb")
        self.offline, self.broken, self._has_key = offline, False, has_key
        self.runs, self.calls, self.histories, self.logins = [], [], {}, 0

    def login(self):
        self.logins += 1
        if not self._has_key:
            raise RuntimeError("No API key configured. Use `wandb login` to log in.")
        return True

    def init(self, **options):
        self.runs.append(FakeRun(self, options))
        return self.runs[-1]

    def history(self):
        """All values by name of the run and step."""
        names = {run.options["id"]: run.options["name"] for run in self.runs}
        return {names[one]: history for one, history in self.histories.items()}
