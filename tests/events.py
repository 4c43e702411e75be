"""Everything that a run logged to TensorBoard, read back record by record, nothing purged or deduplicated."""

import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a package that TensorBoard carries along
    from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin


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


class HParamsTab(NamedTuple):
    """TensorBoard's HParams tab, as its server answers for it."""

    columns: list[dict[str, Any]]
    """Hyperparameters in the order in which they are offered."""
    metrics: list[str]
    """Names of the metrics in their order."""
    rows: dict[str, dict[str, Any]]
    """Hyperparameters of each run, by its folder."""
    results: dict[str, dict[str, float]]
    """Metrics of each run, by its folder."""

    @property
    def names(self) -> list[str]:
        """Names of the hyperparameters in their order."""
        return [column["name"] for column in self.columns]

    @property
    def differing(self) -> list[str]:
        """Names of the hyperparameters that TensorBoard knows to differ."""
        return [column["name"] for column in self.columns if column["differs"]]


def hparams_tab(folder: Path, *sorted_by: str) -> HParamsTab:
    """What TensorBoard shows of the runs below ``folder``: its own backend, asked as the browser asks it."""
    runs = EventMultiplexer()
    runs.AddRunsFromDirectory(str(folder))
    runs.Reload()
    context = TBContext(data_provider=MultiplexerDataProvider(runs, str(folder)), logdir=str(folder))
    routes = HParamsPlugin(context).get_plugin_apps()
    statuses = [f"STATUS_{name}" for name in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    columns = [{"hparam": name, "order": "ORDER_ASC"} for name in sorted_by]
    experiment = _post(routes["/experiment"], {"experimentName": ""})
    wanted = {"experimentName": "", "allowedStatuses": statuses, "startIndex": 0, "sliceSize": 100}
    groups = _post(routes["/session_groups"], wanted | {"colParams": columns}).get("sessionGroups", [])
    return HParamsTab(
        experiment.get("hparamInfos", []),
        [metric["name"]["tag"] for metric in experiment.get("metricInfos", [])],
        {group["name"]: group["hparams"] for group in groups},
        {group["name"]: {m["name"]["tag"]: m["value"] for m in group.get("metricValues", [])} for group in groups},
    )


def _post(route: Any, request: dict[str, Any]) -> dict[str, Any]:
    answer = Client(route).post("/", json=request)
    assert answer.status_code == 200, answer.text
    decoded: dict[str, Any] = json.loads(answer.get_data())
    return decoded
