"""How far the bench is: a bar on a terminal, a line for each step elsewhere."""

import sys
import time
from typing import TextIO

WIDTH = 28


class Progress:
    """Counts seconds of expected work. `begin` names a step, `tick` draws, `end` counts the step as done."""

    def __init__(self, total_s: float, out: TextIO = sys.stderr) -> None:
        self.total_s, self._out = max(total_s, 1e-9), out
        self._done_s = 0.0
        self._step, self._step_s = "", 0.0
        self._began = time.monotonic()
        self._live = out.isatty()

    def begin(self, step: str, expected_s: float) -> None:
        """A step that should take so long."""
        self._step, self._step_s, self._began = step, expected_s, time.monotonic()
        if not self._live:
            print(f"{100 * self._done_s / self.total_s:3.0f} % {step}", file=self._out, flush=True)
        self.tick()

    def tick(self) -> None:
        """Draw the bar."""
        if self._live:
            done_s = self._done_s + min(time.monotonic() - self._began, self._step_s)
            print(f"\r{self.drawn(done_s)}\x1b[K", end="", file=self._out, flush=True)

    def drawn(self, done_s: float) -> str:
        """The bar when so much is done."""
        share = min(done_s / self.total_s, 1)
        left_s = int(max(self.total_s - done_s, 0))
        bar = "█" * round(WIDTH * share) + "░" * (WIDTH - round(WIDTH * share))
        return f"{bar} {100 * share:3.0f} %  {left_s // 60}:{left_s % 60:02} left  {self._step}"

    def end(self) -> None:
        """The step is done."""
        self._done_s += self._step_s

    def say(self, line: str) -> None:
        """A line above the bar."""
        print(f"\r{line}\x1b[K" if self._live else line, file=self._out, flush=True)

    def close(self) -> None:
        """Leave the line."""
        if self._live:
            print(f"\r{self.drawn(self._done_s)}\x1b[K", file=self._out, flush=True)
