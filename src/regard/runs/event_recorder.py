"""What a session does with every event of its training: report it, and write it to the folder."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from regard.hub.folder_lock import FolderLock
from regard.hub.model_folder import ModelFolder
from regard.runs.event_files import EventFiles
from regard.training.events import Diverged, Evaluated, Event, Report
from regard.training.signals import request_stop


class EventRecorder:
    """Reports events, and appends evaluations and a failure to ``metrics.jsonl``.

    Args:
        folder: The run's folder.
        report: Called with every event.
        data_warning: Returns what an evaluation shows of the data; None where it is as it should
            be. The first such warning is an event, too.
    """

    def __init__(
        self, folder: ModelFolder, report: Report, data_warning: Callable[[Evaluated], Event | None]
    ) -> None:
        self.report_error: OSError | None = None
        """Why the report cannot be written; nothing is reported from then on."""
        self.event_files: EventFiles | None = None
        """Event files of TensorBoard, where the settings ask for them."""
        self._folder, self._report, self._data_warning = folder, report, data_warning
        self._has_warned = False

    def record(self, lock: FolderLock, event: Event) -> None:
        """Report and write an event; a report that cannot be written asks the run to stop.

        Args:
            lock: Of the folder, which must still be the run's.
            event: Any.
        """
        lock.check()
        if self.report_error is None:
            try:
                self._report(event)
            except OSError as error:
                self.report_error = error
                request_stop()
            lock.check()  # what was called may have deleted the folder
        if self.event_files is not None:
            self.event_files.write(event)
        if isinstance(event, Evaluated):
            line = msgspec.to_builtins(event)
            del line["examples"]  # the folder of a model has no texts of its data
            self._folder.append_metrics(line)
            warning = self._data_warning(event)
            if warning is not None and not self._has_warned:
                self._has_warned = True
                self.record(lock, warning)
        elif isinstance(event, Diverged):
            self._folder.append_metrics(msgspec.to_builtins(event))
