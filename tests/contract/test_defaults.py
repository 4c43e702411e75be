"""Every YAML of a group lists exactly its constructor's parameters, with equal defaults."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparse_ae.config.build import PARTIAL, TARGET, locate
from sparse_ae.jobs.autoencoder import AutoencoderJob
from sparse_ae.jobs.coder import CoderJob
from sparse_ae.run.directory import Run
from tests.helpers import CONF, OF_SEVERAL, plain_config

SUPPLIED: dict[str, set[str]] = {
    "data": set(),
    "model": {"input_dim"},
    "sparsity": {"latent_dim"},
    "target": set(),
    "dead": {"latent_dim"},
    "scheduler": {"optimizer", "total_steps"},
    "optimizer": {"params"},
    "coder": set(),
    "analysis": {"subject", "subjects"},
    "callbacks": set(),
    "logger": {"run"},
}
"""Parameters that the framework supplies, by group."""


def _options() -> list[Any]:
    options = []
    for group in SUPPLIED:
        paths = sorted((CONF / group).glob("*.yaml"))
        options += [pytest.param(group, path, id=f"{group}={path.stem}") for path in paths]
    return options


def _spec(group: str, option: str) -> dict[str, Any]:
    name = "fit" if group == "coder" else "train"
    config: dict[str, Any] = plain_config(
        f"{group}=[{option}]" if group in OF_SEVERAL else f"{group}={option}", name=name
    )
    return config[group][option] if group in OF_SEVERAL else config[group]  # type: ignore[no-any-return]


def _free(path: Path) -> set[str]:
    """Keys that may differ from the signature: what an option that extends another lists, and interpolations."""
    raw = yaml.safe_load(path.read_text())
    parents = raw.get("defaults", [])
    interpolated = {key for key, value in raw.items() if "${" in str(value)}
    own = set(raw) if parents else interpolated
    return own.union(*(_free(path.with_name(f"{parent}.yaml")) for parent in parents))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(("group", "path"), _options())
def test_the_signature_is_the_schema(group: str, path: Path) -> None:
    spec = _spec(group, path.stem)
    if not spec or not spec[TARGET].startswith("sparse_ae."):
        pytest.skip("no constructor of ours")
    parameters = inspect.signature(locate(spec.pop(TARGET), group)).parameters
    spec.pop(PARTIAL, None)
    ours = {name: p.default for name, p in parameters.items() if name not in SUPPLIED[group]}
    assert spec.keys() == ours.keys()
    free = _free(path)
    assert {k: v for k, v in spec.items() if k not in free} == {k: _plain(v) for k, v in ours.items() if k not in free}


def test_a_key_that_is_removed_has_its_constructors_default(tmp_path: Path) -> None:
    """All keys of all groups at once, as ``~trainer.devices`` and its like do."""
    for name, kind in (("train", AutoencoderJob), ("fit", CoderJob)):
        config = plain_config(*(["coder=data_atoms"] if name == "fit" else ["target=l0", "sparsity=l1"]), name=name)
        for group, spec in config.items():
            if isinstance(spec, dict) and TARGET in spec:
                config[group] = {key: value for key, value in spec.items() if key in (TARGET, PARTIAL)}
        job = kind(config, Run(tmp_path / "run"))
        assert job.data.val_size == 5000
        assert not isinstance(job, AutoencoderJob) or job.validates
