"""Selectivity of units for tokens, of data that are text: the share of a unit's activity that is on one token.

A unit's activity is |z|, which for codes >= 0 is the code itself.
"""

from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from scipy.stats import false_discovery_control, hypergeom

from sparse_ae.analysis.base import Label, Result, Subject
from sparse_ae.analysis.contexts import LEAST_SHOWN, unit_blocks
from sparse_ae.analysis.statistics import mean_defined
from sparse_ae.analysis.tokens import Array, Counts, TopTokens, Vocabulary, top_tokens
from sparse_ae.data.examples import Text
from sparse_ae.plotting.style import BLUE, GREY, finish, log_positions, note
from sparse_ae.plotting.text import Line, Paragraph, Span, paragraphs

_LEAST_ACTIVE = 10
"""Number of rows on which a unit that is tested is active."""
_BINS = 40
_ORANGE = "#D55E00"
_UNTESTED = f"no unit is active on {_LEAST_ACTIVE} tokens"


class Units(NamedTuple):
    """Measures of each of N units."""

    dead: npt.NDArray[np.bool_]
    """True for a unit whose code is never != 0, ``(N,)``."""
    top: TopTokens
    """Tokens with the largest shares of its activity, k of them."""
    precision: Array
    """Share of the rows that activate the unit that are of its top token, ``(N,)``; NaN without any."""
    recall: Array
    """Share of the rows of its top token that activate the unit, ``(N,)``; NaN for a dead unit."""
    tested: npt.NDArray[np.bool_]
    """True for a unit that is active often enough to be tested, ``(N,)``."""
    p_value: Array
    """P value of the top token, adjusted for the numbers of tokens and units, ``(N,)``; 1 for units not tested."""
    chance_share: Array
    """Share of the top token if the tokens are shuffled, ``(N,)``."""


class Numbers(NamedTuple):
    """Counts of units, and means over the units tested; a unit that is active once has all activity on one token."""

    samples: int
    """Number of tokens in the text."""
    tokens: int
    """Number of different tokens."""
    units: int
    """Number of units."""
    dead_units: int
    """Number of units whose code is never != 0."""
    untested_units: int
    """Number of units not active often enough to be tested, dead ones among them."""
    significant_units: int
    """Number of units that are active on their top token beyond chance."""
    single_token_units: Annotated[int, Label("units with most of their activity on one token")]
    """Number of significant units with a share of ``least_share`` or more of their activity on their top token."""
    single_token_share: Annotated[float, Label("single-token units (share of all)")]
    """Share of all units that are single-token units."""
    token_share: Annotated[float | None, Label("mean share of a unit's activity on its top token")]
    """Share of a unit's activity that is on its top token, mean; None if no unit was tested."""
    chance_token_share: float | None
    """Share on the top token with the tokens shuffled, mean."""
    precision: float | None
    """Share of the tokens that activate a unit that are its top token, mean."""
    recall: float | None
    """Share of a unit's top token that activates it, mean."""
    alpha: float
    """The option."""
    least_share: float
    """The option."""
    most_selective: list[dict[str, int | float | str]]
    """Units tested with the largest shares, and their top tokens."""


def analyse(subject: Subject, text: Text, *, alpha: float, least_share: float, n_units: int, n_tokens: int) -> Result:
    """Selectivity of each unit for its top token, the one with the largest share of its activity.

    A unit is significant if it is active on its top token more often than on as many rows drawn at random: by the
    hypergeometric distribution, times the number of different tokens, since the token was chosen among them, and with
    Benjamini-Hochberg over the units that are active on 10 rows or more. It is a single-token unit if also
    ``least_share`` of its activity or more is on that token. Recall tells whether it is active wherever the token is,
    or only in some contexts.

    Arrays: the fields of ``TopTokens``, with k = ``n_tokens``, and the others of ``Units``; ``single_token``, true for
    single-token units.
    """
    units = measure(subject, text, max(n_tokens, 1))
    share, tested = units.top.share[:, 0], units.tested
    significant = units.p_value <= alpha
    single = significant & (share >= least_share)
    ranking = np.argsort(-share, kind="stable")
    ranking = ranking[tested[ranking]]
    names = _names(text, units.top)
    numbers = Numbers(
        samples=len(text.token),
        tokens=len(text.token.unique()),
        units=len(share),
        dead_units=int(units.dead.sum()),
        untested_units=int((~tested).sum()),
        significant_units=int(significant.sum()),
        single_token_units=int(single.sum()),
        single_token_share=float(single.mean()),
        token_share=mean_defined(share[tested]),
        chance_token_share=mean_defined(units.chance_share[tested]),
        precision=mean_defined(units.precision[tested]),
        recall=mean_defined(units.recall[tested]),
        alpha=alpha,
        least_share=least_share,
        most_selective=[
            {
                "unit": int(i),
                "token": names[int(units.top.token[i, 0])],
                "share": float(share[i]),
                "precision": float(units.precision[i]),
                "recall": float(units.recall[i]),
            }
            for i in ranking[:n_units]
        ],
    )
    groups = {"most": ranking[:n_units], "least": ranking[::-1][:n_units]}
    figures = {
        "tokens": _tokens(units, groups, names, len(text.token)),
        "shares": _shares(units, single, numbers),
    }
    arrays = units._asdict() | {"single_token": single}
    arrays |= arrays.pop("top")._asdict()
    return Result.of(numbers, figures, arrays)


def measure(subject: Subject, text: Text, k: int) -> Units:
    """Measure all units, some at a time."""
    vocabulary, threshold = Vocabulary.of(text.token), subject.sample.threshold
    n, rows = len(subject.dead), len(text.token)
    shuffled = torch.randperm(rows, generator=torch.Generator().manual_seed(0)).numpy()
    by_chance = vocabulary._replace(place=vocabulary.place[shuffled])
    tops, chance = [], []
    for _, z in unit_blocks(subject, torch.arange(n)):
        activity = z.abs().numpy()
        tops.append(top_tokens(activity, vocabulary, k, threshold))
        chance.append(top_tokens(activity, by_chance, 1, threshold).share[:, 0])
    top = TopTokens(*map(np.concatenate, zip(*tops, strict=True)))
    on, of, count = top.active[:, 0], top.activating, top.rows[:, 0]
    tested, p_value = of >= _LEAST_ACTIVE, np.ones(n)
    if tested.any():
        raw = hypergeom.sf(on[tested] - 1, rows, count[tested], of[tested])
        p_value[tested] = false_discovery_control((raw * len(vocabulary.token)).clip(max=1))
    return Units(
        dead=subject.dead.numpy(),
        top=top,
        precision=np.divide(on, of, out=np.full(n, np.nan), where=of > 0),
        recall=np.divide(on, count, out=np.full(n, np.nan), where=count > 0),
        tested=tested,
        p_value=p_value,
        chance_share=np.concatenate(chance),
    )


def _names(text: Text, top: TopTokens) -> dict[int, str]:
    tokens = np.unique(top.token[top.token >= 0]).tolist()
    return dict(zip(tokens, text.names(tokens), strict=True))


def _tokens(units: Units, groups: dict[str, Counts], names: dict[int, str], rows: int) -> Figure:
    """Units with the largest and the smallest shares, each with its top tokens."""
    blocks = []
    for name, chosen in groups.items():
        if not len(chosen):
            continue
        lines = []
        for i in chosen:
            spans = []
            for token, share in zip(units.top.token[i], units.top.share[i], strict=True):
                if share >= LEAST_SHOWN:
                    spans += [Span(f" {names[int(token)]} {share:.0%} ", float(share)), Span(" ")]
            lines.append(Line(str(i), spans))
        blocks.append(Paragraph(f"unit     top tokens of the units with the {name} of their activity on one", lines))
    title = (
        f"Tokens with the largest shares of a unit's activity, over {rows:,} test tokens\n"
        f"units active on {_LEAST_ACTIVE} tokens or more; background: the share"
    )
    return paragraphs(blocks, title, empty=_UNTESTED)


def _shares(units: Units, single: npt.NDArray[np.bool_], numbers: Numbers) -> Figure:
    """Two panels: shares of the units tested beside those of shuffled tokens; shares and how often units are active."""
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    tested, share = units.tested, units.top.share[:, 0]
    edges = np.linspace(0, 1, _BINS + 1)
    left.stairs(np.histogram(share[tested], edges)[0], edges, fill=True, color=BLUE, label="units tested")
    expected = np.histogram(units.chance_share[tested], edges)[0]
    left.stairs(expected, edges, color=GREY, linewidth=1.5, label="with shuffled tokens")
    bound = f"single-token unit: {numbers.least_share:g} or more"
    left.axvline(numbers.least_share, color="black", linestyle="--", linewidth=1, label=bound)
    left.set(title="Activity on a unit's top token", xlabel="share of the unit's activity", ylabel="units")
    frequency = units.top.activating / numbers.samples
    for chosen, colour, name in ((tested & ~single, BLUE, "others"), (single, _ORANGE, "single-token units")):
        if chosen.any():
            right.scatter(frequency[chosen], share[chosen], s=9, color=colour, alpha=0.6, linewidths=0, label=name)
    if tested.any():
        log_positions(right, "x", frequency[tested])
    else:
        for axes in (left, right):
            note(axes, _UNTESTED)
    right.axhline(numbers.least_share, color="black", linestyle="--", linewidth=1)
    right.set(title="Selective and frequent units", xlabel="share of the tokens that activate the unit")
    right.set(ylabel="share on the top token", ylim=(-0.02, 1.02))
    title = (
        f"{numbers.single_token_units} of {numbers.units} units are single-token units: "
        f"at least {numbers.least_share:.0%} of their activity on one token, false discovery rate {numbers.alpha:g}"
    )
    finish(figure, title, columns=5)
    return figure
