"""Loss recovered: predictions of a language model from reconstructed activations."""

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from sparse_ae.analysis.base import Label, Need, Result, Subject, needs
from sparse_ae.coders import Coder
from sparse_ae.data import Activations
from sparse_ae.data.activations.predictions import ORIGINAL, Predictions
from sparse_ae.plotting.style import Array, finish, log_positions, looks, note

_LANGUAGE = Need(Activations, "loss_recovered needs a language model, and the data have none", "data=activations")

_BATCH = 1000
_RECONSTRUCTION, _MEAN, _ZERO = "reconstruction", "mean", "zero"
_COLOURS = {name: look.colour for name, look in looks([_RECONSTRUCTION, _MEAN, _ZERO, ORIGINAL]).items()}
_NAMES = {
    ORIGINAL: "original",
    _RECONSTRUCTION: "reconstruction",
    _MEAN: "mean of the training activations",
    _ZERO: "zero",
}


class Numbers(NamedTuple):
    """Losses in nats per predicted token; None where undefined."""

    predicts: str
    """Tokens that are predicted: ``next`` or ``masked``."""
    predictions: int
    """Number of predictions."""
    contexts: int
    """Number of contexts that they are made in."""
    groups: int
    """Number of documents, or of contexts where splits share documents, over which standard errors are."""
    loss_original: float | None
    """Cross-entropy of the model as it is."""
    loss_reconstruction: float | None
    """Cross-entropy with reconstructed activations."""
    loss_mean: float | None
    """Cross-entropy with all activations replaced by the mean training activation."""
    loss_zero: float | None
    """Cross-entropy with all activations replaced by 0."""
    loss_increase: Annotated[float | None, Label("increase of the loss by reconstruction (nats per token)")]
    """``loss_reconstruction - loss_original``."""
    loss_recovered: Annotated[float | None, Label("loss recovered (0: as with zeros, 1: as without replacement)")]
    """(L_zero - L_reconstruction) / (L_zero - L_original); None if zeros do not increase the loss."""
    loss_recovered_from_mean: Annotated[float | None, Label("loss recovered (0: as with the mean activation)")]
    """(L_mean - L_reconstruction) / (L_mean - L_original); None if the mean does not increase the loss."""
    kl_reconstruction: Annotated[float | None, Label("KL from the original to the new predictions (nats)")]
    """Mean KL(original || new) of the distributions over tokens, with reconstructed activations."""
    kl_mean: float | None
    """That with the mean activation."""
    kl_zero: float | None
    """That with zeros."""
    standard_error: dict[str, float | None]
    """Standard error of each number above; None for a single group."""


@needs(_LANGUAGE)
def analyse(subject: Subject, *, n_contexts: PositiveInt | None = 100, seed: NonNegativeInt = 0) -> Result:
    """Loss of the language model on held-out text with the layer's activations a replaced by decode(encode(a)).

    The references are a itself, the mean training activation, and 0. Replaced are the activations that are rows of the
    test split: special tokens, padding, rows left out for their norm, and tokens of other splits in the same context
    keep their own. That is what SAELens does with the tokens which it ignores.

    - Causal models: cross-entropy of the next token, for predictions made at replaced activations, as in SAELens.
    - Masked models: cross-entropy at masked tokens. Of the rows' tokens in each context that are not special, 15 % and
      at least one become the mask token, never another; they are drawn by ``seed`` and the number of the context. The
      activations of all rows are replaced, those of the mask token too.

    Standard errors are over documents, or over contexts where splits share documents, and by linearisation of ratios of
    sums (Cochran, *Sampling Techniques*, 1977). Sources: Bricken et al., "Towards Monosemanticity", 2023; Gao et al.,
    "Scaling and evaluating sparse autoencoders", 2024; ``evals.py`` of SAELens; ``evaluation.py`` of
    dictionary_learning, which also scores predictions at special tokens.

    Arrays, for C contexts: ``context (C,)``, ``predictions (C,)``, ``losses (4, C)`` and ``kls (3, C)``, means in each
    context, and their names ``loss_of`` and ``kl_of``.
    Raises ``ConfigError`` for data without a language model, and for a model that predicts no tokens.
    """
    if subject.sample.language is None:
        raise _LANGUAGE.error
    language = subject.sample.language()
    mean = language.mean().float()
    replacements = {
        _RECONSTRUCTION: lambda a: _reconstructed(subject.coder, a),
        _MEAN: lambda a: mean.to(a).expand_as(a),
        _ZERO: torch.zeros_like,
    }
    device = subject.sample.x.device
    found = language.predictions(replacements, n_contexts=n_contexts, seed=seed, device=device)
    return _result(found)


def _reconstructed(coder: Coder, a: Tensor) -> Tensor:
    return torch.cat([coder.decode(coder.encode(part)) for part in a.split(_BATCH)])


def _result(found: Predictions) -> Result:
    loss, kl, one = found.loss, found.kl, torch.ones(len(found.context), dtype=torch.float64)
    original, reconstruction = loss[ORIGINAL], loss[_RECONSTRUCTION]
    ratios = {
        **{f"loss_{name}": (values, one) for name, values in loss.items()},
        "loss_increase": (reconstruction - original, one),
        "loss_recovered": (loss[_ZERO] - reconstruction, loss[_ZERO] - original),
        "loss_recovered_from_mean": (loss[_MEAN] - reconstruction, loss[_MEAN] - original),
        **{f"kl_{name}": (values, one) for name, values in kl.items()},
    }
    group, context = (of.unique(return_inverse=True)[1] for of in (found.group, found.context))
    estimates = {name: Ratio.of(part, whole, group) for name, (part, whole) in ratios.items()}
    predictions = context.bincount()
    numbers = Numbers(
        predicts="next" if found.kind == "causal" else "masked",
        predictions=len(context),
        contexts=len(predictions),
        groups=int(group.max()) + 1,
        **{name: estimate.value for name, estimate in estimates.items()},
        standard_error={name: estimate.error for name, estimate in estimates.items()},
    )

    def by_context(values: Mapping[str, Tensor]) -> Array:
        sums = torch.zeros(len(values), len(predictions), dtype=torch.float64)
        means: Array = (sums.index_add_(1, context, torch.stack(list(values.values()))) / predictions).numpy()
        return means

    arrays = {
        "context": found.context.unique().numpy(),
        "predictions": predictions.numpy(),
        "loss_of": np.array(list(loss)),
        "losses": by_context(loss),
        "kl_of": np.array(list(kl)),
        "kls": by_context(kl),
    }
    return Result.of(numbers, {"loss_recovered": _panels(numbers, dict(zip(kl, arrays["kls"], strict=True)))}, arrays)


class Ratio(NamedTuple):
    """Ratio of two sums over samples that come in groups."""

    value: float | None
    """None if it is undefined."""
    error: float | None
    """Standard error over groups; None for a single one."""

    @classmethod
    def of(cls, part: Tensor, whole: Tensor, group: Tensor) -> "Ratio":
        """R = sum part / sum whole of samples ``(n,)`` in ``group (n,)``, undefined unless sum whole > 0.

        SE^2 = G / (G - 1) * sum_g (part_g - R whole_g)^2 / (sum whole)^2 over the sums of G groups, by linearisation.

        >>> Ratio.of(torch.tensor([1.0, 3.0]), torch.ones(2), torch.tensor([0, 1]))
        Ratio(value=2.0, error=1.0)
        """
        n = int(group.max()) + 1
        parts, wholes = (torch.zeros(n, dtype=torch.float64).index_add_(0, group, x.double()) for x in (part, whole))
        if not (wholes.sum() > 0 and (parts + wholes).isfinite().all()):
            return cls(None, None)
        value = parts.sum() / wholes.sum()
        if n == 1:
            return cls(float(value), None)
        error = (n / (n - 1) * (parts - value * wholes).square().sum()).sqrt() / wholes.sum()
        return cls(float(value), float(error))


def _panels(numbers: Numbers, kls: Mapping[str, Array]) -> Figure:
    """Loss with each replacement, and the distribution of the KL divergence over contexts."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _losses(left, numbers)
    _divergences(right, kls)
    recovered, error = numbers.loss_recovered, numbers.standard_error["loss_recovered"]
    told = "undefined" if recovered is None else f"{recovered:.3f}" + ("" if error is None else f" ± {error:.3f}")
    title = f"{numbers.predictions:,} {numbers.predicts} tokens in {numbers.contexts:,} contexts: loss recovered {told}"
    finish(figure, title, columns=3)
    left.grid(visible=False, axis="x")
    return figure


def _losses(axes: Axes, numbers: Numbers) -> None:
    for at, name in enumerate(_NAMES):
        value, error = getattr(numbers, f"loss_{name}"), numbers.standard_error[f"loss_{name}"]
        axes.bar([at], [value or 0], yerr=[error or 0], color=_COLOURS[name], capsize=4)
        text = "n/a" if value is None else f"{value:.3f}"
        axes.annotate(text, (at, (value or 0) + (error or 0)), (0, 3), textcoords="offset points", ha="center")
    axes.set_xticks(range(len(_NAMES)), list(_NAMES))
    axes.set(title="Loss, with its standard error", ylabel=f"nats per {numbers.predicts} token", xlabel="activations")
    axes.margins(y=0.12)
    axes.set_ylim(bottom=0)


def _divergences(axes: Axes, kls: Mapping[str, Array]) -> None:
    axes.set(
        title="KL(original || new) of the predictions", xlabel="mean in a context, nats", ylabel="share of contexts"
    )
    if not all(np.isfinite(values).all() for values in kls.values()):
        note(axes, "undefined")
        return
    values = np.concatenate(list(kls.values()))
    positions = log_positions(axes, "x", values).reshape(len(kls), -1)
    for name, own in zip(kls, positions, strict=True):
        axes.step(
            np.sort(own), np.arange(1, len(own) + 1) / len(own), where="post", color=_COLOURS[name], label=_NAMES[name]
        )
    axes.set_ylim(0, 1.02)
