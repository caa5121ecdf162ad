"""How many steps a run takes, revised as its speed becomes known.

A run with a time budget cannot know its number of steps beforehand. The plan maps steps to progress
(0 to 1), from which the learning rate follows; a revision keeps the progress made and stretches or
shrinks what is left, so the rate is continuous and reaches its end with the run. Only where a run
ends with much of its time unused, progress is set back for more steps. Revisions are kept, hence a
resumed run repeats the same rates to the bit.
"""

from __future__ import annotations

import msgspec


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """From `step` on, where `progress` had been made, the run is to end at `total_steps`."""

    step: int
    progress: float
    total_steps: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of a run.

    Args:
        revisions: In force from their step on, oldest first; at least one.
        evaluate_every: Steps between evaluations.
    """

    revisions: tuple[Revision, ...]
    evaluate_every: int

    @classmethod
    def of(cls, total_steps: int, *, evaluate_every: int) -> Plan:
        """Plan `total_steps` steps from the start."""
        first = Revision(step=0, progress=0.0, total_steps=max(1, total_steps))
        return cls(revisions=(first,), evaluate_every=max(1, evaluate_every))

    @property
    def total_steps(self) -> int:
        """The step at which the run ends, as now planned."""
        return self.revisions[-1].total_steps

    def progress(self, step: int) -> float:
        """Tell the share of the run that is done after `step` steps, 0 to 1.

        >>> plan = Plan.of(100, evaluate_every=25).revise(50, total_steps=150)
        >>> plan.progress(25), plan.progress(50), plan.progress(100), plan.progress(150)
        (0.25, 0.5, 0.75, 1.0)
        """
        current = next(r for r in reversed(self.revisions) if r.step <= step)
        span = current.total_steps - current.step
        done = (step - current.step) / span if span else 1.0
        return min(1.0, current.progress + (1 - current.progress) * done)

    def evaluates_after(self, step: int) -> bool:
        """Tell whether an evaluation follows `step` steps: regularly, and at the very end.

        A regular one is left out where the last one is less than half an interval away.
        """
        left = self.total_steps - step
        return left <= 0 or (step % self.evaluate_every == 0 and 2 * left >= self.evaluate_every)

    def evaluations_after(self, step: int) -> int:
        """Count the evaluations that are to come after `step` steps."""
        return max(1, round((self.total_steps - step) / self.evaluate_every))

    def revise(self, step: int, *, total_steps: int) -> Plan:
        """Move the end, from `step` on; the end never falls before the next step."""
        revision = Revision(
            step=step, progress=self.progress(step), total_steps=max(step + 1, total_steps)
        )
        return msgspec.structs.replace(self, revisions=(*self.revisions, revision))

    def extend(self, step: int, *, total_steps: int) -> Plan:
        """Let a run that is at its end go on, its progress set back to its share of the steps.

        >>> plan = Plan.of(100, evaluate_every=25).extend(100, total_steps=400)
        >>> plan.progress(99), plan.progress(100), plan.progress(400)
        (0.99, 0.25, 1.0)
        """
        revision = Revision(step=step, progress=step / total_steps, total_steps=total_steps)
        return msgspec.structs.replace(self, revisions=(*self.revisions, revision))

    def slowed(self, step: int, times: int) -> Plan:
        """Let each step that is left, from `step` on, stand for so many of those planned.

        >>> Plan.of(100, evaluate_every=20).slowed(60, 10).total_steps
        64
        """
        left = max(1, (self.total_steps - step) // times)
        every = max(1, self.evaluate_every // times)
        revised = self.revise(step, total_steps=step + left)
        return msgspec.structs.replace(revised, evaluate_every=every)


class Speed:
    """Seconds that a step takes, measured anew from time to time.

    Args:
        window: Seconds of steps that make one measurement.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        self.seconds_per_step: float | None = None
        self._seconds, self._num_steps = 0.0, 0

    def add(self, seconds: float) -> bool:
        """Take a step into account, and tell whether it completed a measurement.

        A measurement counts as much as all before it together: a machine that was busy for a
        while is soon forgotten.

        >>> speed = Speed(window=2.0)
        >>> speed.add(1.0), speed.add(1.0), speed.seconds_per_step
        (False, True, 1.0)
        >>> speed.add(3.0), speed.seconds_per_step
        (True, 2.0)
        """
        self._seconds += seconds
        self._num_steps += 1
        if self._seconds < self.window:
            return False
        found = self._seconds / self._num_steps
        known = self.seconds_per_step
        self.seconds_per_step = found if known is None else (known + found) / 2
        self._seconds, self._num_steps = 0.0, 0
        return True


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What of a time budget is left for steps.

    Args:
        seconds: The whole budget.
        reserve: Seconds to keep for writing after the last step.
        reserved_evaluations: What the final evaluation takes, in units of a regular one.
        most_steps: Of the whole run, where its epochs are limited too.
    """

    seconds: float
    reserve: float
    reserved_evaluations: float
    most_steps: int | None = None

    def steps_left(
        self,
        step: int,
        elapsed: float,
        *,
        seconds_per_step: float,
        evaluation: float,
        num_evaluations: int,
    ) -> int:
        """Count the steps that still fit.

        Args:
            step: Steps taken so far.
            elapsed: Seconds used so far.
            seconds_per_step: Measured.
            evaluation: Seconds of one evaluation, measured.
            num_evaluations: Evaluations still to come before the final one.

        Returns:
            0 or more.
        """
        evaluations = num_evaluations + self.reserved_evaluations
        left = self.seconds - self.reserve - elapsed - evaluations * evaluation
        steps = max(0, int(left / seconds_per_step))
        return steps if self.most_steps is None else max(0, min(steps, self.most_steps - step))
