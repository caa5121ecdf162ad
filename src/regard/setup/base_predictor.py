"""What the predictors of all tasks share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NoReturn

if TYPE_CHECKING:
    from pathlib import Path

    from regard.setup.config import RunConfig


class BasePredictor:
    """A trained model with its vocabulary and settings, which is applied to inputs.

    Where it is asked for what the models of other tasks do, it says what it is for.
    """

    verb: ClassVar[str]
    """The method that uses the model, such as ``translate``."""
    config: RunConfig
    """The settings of its run."""
    folder: Path | None = None
    """The folder that it was opened from; None where it was built in memory."""

    if not TYPE_CHECKING:  # a wrong name is an error of types

        def __getattr__(self, name: str) -> NoReturn:
            """Raise AttributeError, which names the task and the method of the model."""
            if name.startswith("_") or hasattr(type(self), name) or "config" not in vars(self):
                return object.__getattribute__(self, name)  # raises Python's own error
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}: it is a model for "
                f"{self.config.task}, used by `{self.verb}`.",
                name=name,
                obj=self,
            )
