"""Estimate of the time that a run still takes."""

from __future__ import annotations

from collections.abc import Sequence

from ..execution.trial.task import Task


class TimeLeft:
    """Estimates the seconds left from what tasks have taken so far, for each competitor, and from the start of workers.

    Tasks cost about as much as they have competitors, because each competitor has the same budget: on the recorded
    runs the estimate stays between 0.74 and 1.54 of the truth after the first tenth; the mean of tasks, whatever their
    competitors, between 0.47 and 1.54. Workers are started once for each number of ranks.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks_s = 0.0
        self._done = 0
        self._left = sum(len(task.competitors) for task in tasks)
        self._starts_s: list[float] = []
        self._starts_left = len({task.problem.ranks for task in tasks})

    def started(self, seconds: float) -> None:
        """Note that workers were started, and how long that took."""
        self._starts_s.append(seconds)
        self._starts_left -= 1

    def finished(self, task: Task, seconds: float) -> None:
        """Note that a task is done, and how long it took."""
        self._tasks_s += seconds
        self._done += len(task.competitors)
        self._left -= len(task.competitors)

    def seconds(self, slots: int) -> float:
        """Return the estimate where ``slots`` tasks are measured side by side; at least one task must be done."""
        starts = self._starts_left * sum(self._starts_s) / max(1, len(self._starts_s))
        return starts + self._left * self._tasks_s / max(1, self._done) / max(1, slots)

    @property
    def share_done(self) -> float:
        """Share of the work that is done, from 0 to 1."""
        return self._done / max(1, self._done + self._left)
