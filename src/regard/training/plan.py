"""The number of steps of a run, revised as its speed becomes known.

A run with a time budget cannot know its number of steps beforehand. The plan maps steps to progress
(0 to 1), from which the learning rate follows; a revision keeps the progress made and stretches or
shrinks the rest, so the rate is continuous and reaches its end with the run. Only where a run ends
with much of its time unused, progress is set back for more steps. Revisions are kept, so that a
resumed run repeats the same rates exactly.
"""

from __future__ import annotations

from collections import deque
from statistics import median_low
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]
"""A number that a checkpoint holds, checked when it is read."""
PositiveCount = Annotated[int, msgspec.Meta(ge=1)]
Amount = Annotated[float, msgspec.Meta(ge=0)]

EVALUATION_FRACTION = 0.1  # of a time budget, at most, for the regular evaluations
_WINDOWS = 3  # of steps that the speed is measured on
_FEWEST_STEPS = 32  # of those, where steps are long: a pause is a small part of them
_LONGEST = 4.0  # medians; a longer step counts as this


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """A new end of the run, `total_steps`, from `step` on, where `progress` had been made."""

    step: Count
    progress: Annotated[float, msgspec.Meta(ge=0, le=1)]
    total_steps: PositiveCount


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of a run.

    Args:
        revisions: In force from their step on, oldest first; at least one, the first from step 0.
        evaluate_every: Steps between evaluations.
    """

    revisions: Annotated[tuple[Revision, ...], msgspec.Meta(min_length=1)]
    evaluate_every: PositiveCount

    def __post_init__(self) -> None:
        if self.revisions[0].step:
            raise ValueError(f"a plan begins at step 0, not {self.revisions[0].step:,}")

    @classmethod
    def from_start(cls, total_steps: int, *, evaluate_every: int) -> Plan:
        """Plan `total_steps` steps from the start."""
        first = Revision(step=0, progress=0.0, total_steps=max(1, total_steps))
        return cls(revisions=(first,), evaluate_every=max(1, evaluate_every))

    @property
    def total_steps(self) -> int:
        """The step at which the run ends, as now planned."""
        return self.revisions[-1].total_steps

    def progress(self, step: int) -> float:
        """Return the fraction of the run that is done after `step` steps, 0 to 1.

        >>> plan = Plan.from_start(100, evaluate_every=25).revise(50, total_steps=150)
        >>> plan.progress(25), plan.progress(50), plan.progress(100), plan.progress(150)
        (0.25, 0.5, 0.75, 1.0)
        """
        current = next(r for r in reversed(self.revisions) if r.step <= step)
        span = current.total_steps - current.step
        done = (step - current.step) / span if span else 1.0
        return min(1.0, current.progress + (1 - current.progress) * done)

    def progress_within(self, step: int) -> float:
        """Return the fraction of the run that is done in the middle of the step after `step` steps.

        The rate of a step follows from it: at its start a run of one step would have the lowest.

        >>> Plan.from_start(1, evaluate_every=1).progress_within(0)
        0.5
        """
        return (self.progress(step) + self.progress(step + 1)) / 2

    def evaluates_after(self, step: int) -> bool:
        """Return whether an evaluation follows `step` steps: regularly, and at the very end.

        A regular one is left out where the last one is less than half an interval away.
        """
        left = self.total_steps - step
        return left <= 0 or (step % self.evaluate_every == 0 and 2 * left >= self.evaluate_every)

    def evaluations_after(self, step: int) -> int:
        """Return the number of evaluations after `step` steps."""
        return max(1, round((self.total_steps - step) / self.evaluate_every))

    def revise(self, step: int, *, total_steps: int) -> Plan:
        """Return the plan with another end from `step` on, after the next step or later."""
        revision = Revision(
            step=step, progress=self.progress(step), total_steps=max(step + 1, total_steps)
        )
        return msgspec.structs.replace(self, revisions=(*self.revisions, revision))

    def extend(self, step: int, *, total_steps: int) -> Plan:
        """Return a longer plan for a run at its end; progress is set back in proportion.

        >>> plan = Plan.from_start(100, evaluate_every=25).extend(100, total_steps=400)
        >>> plan.progress(99), plan.progress(100), plan.progress(400)
        (0.99, 0.25, 1.0)
        """
        revision = Revision(step=step, progress=step / total_steps, total_steps=total_steps)
        return msgspec.structs.replace(self, revisions=(*self.revisions, revision))

    def with_fewer_evaluations(self, most: int) -> Plan:
        """Return the plan with evaluations so far apart that there are at most `most`.

        A plan that has become much longer than it was would have too many.

        >>> plan = Plan.from_start(100, evaluate_every=1)
        >>> plan.with_fewer_evaluations(20).evaluate_every
        5
        """
        every = max(self.evaluate_every, -(-self.total_steps // most))
        return msgspec.structs.replace(self, evaluate_every=every)

    def slowed(self, step: int, stride: int) -> Plan:
        """Return a plan in which each step after `step` replaces `stride` of those planned.

        >>> Plan.from_start(100, evaluate_every=20).slowed(60, 10).total_steps
        64
        """
        left = max(1, (self.total_steps - step) // stride)
        every = max(1, self.evaluate_every // stride)
        revised = self.revise(step, total_steps=step + left)
        return msgspec.structs.replace(revised, evaluate_every=every)


class Speed:
    """Seconds that a step takes, from the last steps.

    A pause of the machine, or a burst of other work, is a few very long steps among many others. So
    the mean is taken after steps longer than four medians are cut to four medians (winsorized).

    Args:
        window: Seconds of steps after which a plan is revised; three windows are remembered.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        self._steps: deque[float] = deque()
        self._seconds = 0.0  # since the last revision
        self._num_steps: deque[int] = deque(
            [0], maxlen=_WINDOWS
        )  # of each window, the last is open

    @property
    def seconds_per_step(self) -> float:
        """Seconds of a step; at least one step has been added."""
        longest = _LONGEST * median_low(self._steps)
        return sum(min(seconds, longest) for seconds in self._steps) / len(self._steps)

    def add(self, seconds: float) -> bool:
        """Return whether a step, which is added, completes a window.

        >>> speed = Speed(window=2.0)
        >>> speed.add(1.0), speed.add(1.0), speed.seconds_per_step
        (False, True, 1.0)
        >>> speed.add(15.0), speed.seconds_per_step
        (True, 2.0)
        """
        self._steps.append(seconds)
        self._seconds += seconds
        self._num_steps[-1] += 1
        if self._seconds < self.window:
            return False
        recent = max(_FEWEST_STEPS, sum(self._num_steps))
        while len(self._steps) > recent:
            self._steps.popleft()
        self._num_steps.append(0)
        self._seconds = 0.0
        return True


class TimeBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A time budget, and the parts of it that are not for steps.

    Args:
        seconds: The whole budget.
        reserve: Seconds to keep for writing after the last step.
        reserved_evaluations: Cost of the final evaluation, in units of a regular one.
        most_steps: Of the whole run, where its epochs are limited too.
    """

    seconds: float
    reserve: float
    reserved_evaluations: float
    most_steps: int | None = None

    def num_evaluations(self, seconds: float, *, most: int) -> int:
        """Return the number of regular evaluations, 1 to `most`, if one takes `seconds`."""
        affordable = EVALUATION_FRACTION * self.seconds / max(seconds, 1e-9)
        return max(1, int(min(most, affordable)))

    def seconds_left(self, elapsed: float, evaluation: float, num_evaluations: int = 0) -> float:
        """Return the seconds for steps, after what is reserved; negative if there are none.

        Args:
            elapsed: Seconds used so far.
            evaluation: Seconds of one evaluation, measured.
            num_evaluations: Evaluations still to come before the final one.
        """
        evaluations = num_evaluations + self.reserved_evaluations
        return self.seconds - self.reserve - elapsed - evaluations * evaluation

    def steps_left(
        self,
        step: int,
        elapsed: float,
        *,
        seconds_per_step: float,
        evaluation: float,
        num_evaluations: int,
    ) -> int:
        """Return the number of steps that still fit.

        Args:
            step: Steps taken so far.
            elapsed: Seconds used so far.
            seconds_per_step: Measured.
            evaluation: Seconds of one evaluation, measured.
            num_evaluations: Evaluations still to come before the final one.

        Returns:
            0 or more.
        """
        seconds = self.seconds_left(elapsed, evaluation, num_evaluations)
        steps = max(0, int(seconds / seconds_per_step))
        return steps if self.most_steps is None else max(0, min(steps, self.most_steps - step))
