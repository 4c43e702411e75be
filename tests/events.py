"""Everything that a run logged to TensorBoard, read back record by record, nothing purged or deduplicated."""

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader


def logged(folder: Path) -> list[tuple[str, int, Any]]:
    """(tag, step, value) in the order written; wall times and the serialised config, whose order varies, left out."""
    records = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=_started):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                is_config = value.tag.startswith("_hparams_")
                records.append((value.tag, event.step, b"" if is_config else value.SerializeToString()))
    return records


def _started(path: Path) -> tuple[int, ...]:
    """``events.out.tfevents.<seconds>.<host>.<pid>.<number>``: two attempts may begin within one second."""
    parts = path.name.split(".")
    return tuple(int(parts[place]) for place in (3, -2, -1))
