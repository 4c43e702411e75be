"""Predictions of a language model on the text of a split, as they are and with activations replaced."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations.head import Batch, HeadedModel, Kind, Replace
from sparse_ae.data.activations.tokens import Contexts, Tokens, special_ids
from sparse_ae.data.rows import Rows
from sparse_ae.functional import stream_seed

ORIGINAL = "original"
"""Name of the predictions with nothing replaced."""

_MASKED_SHARE = 0.15
_LOGITS_AT_ONCE = 2**24
"""Number of logits of a batch, 64 MB in float32; a batch of one context may have more."""
_TOLERANCE = 0.05
"""Relative difference between activations and those in the cache, in 16 bits and perhaps of another device."""


class Predictions(NamedTuple):
    """Losses of n predictions, by the name of what replaced the activations."""

    kind: Kind
    """Tokens that are predicted: the next, or masked ones."""
    loss: dict[str, Tensor]
    """Cross-entropy in nats, float64 ``(n,)``; that of ``ORIGINAL`` comes first."""
    kl: dict[str, Tensor]
    """KL(original || replaced) of the distributions over all tokens, in nats, float64 ``(n,)``."""
    context: Tensor
    """Number of the context that a prediction is made in, ``(n,)``."""
    group: Tensor
    """Document of the token at which a prediction is made, or its context where splits share documents, ``(n,)``."""


class Language(NamedTuple):
    """Text of a split of activations, and the language model that they are of."""

    load: Callable[[], HeadedModel]
    """Loads the model. Raises ``ConfigError`` for one that cannot predict tokens."""
    layer: str
    """Module of the model without its head that the activations are of."""
    contexts: Contexts
    """Token sequences of all splits."""
    tokens: Tokens
    """Place in the text of each row of the split."""
    group: Tensor
    """Document of each row, or its context where splits share documents, ``(n_rows,)``."""
    rows: Rows
    """Activations of the split as stored, ``(n_rows, D)``."""
    mean: Callable[[], Tensor]
    """Mean activation of the training split, ``(D,)``."""

    def predictions(
        self, replacements: Mapping[str, Replace], *, n_contexts: int | None, seed: int, device: torch.device
    ) -> Predictions:
        """Predictions in ``n_contexts`` contexts of the split, evenly spread, or in all.

        Activations that are rows of the split are replaced: special tokens, padding, rows left out for their norm, and
        tokens of other splits keep theirs. A causal model's predictions are scored if they are made at a replaced
        activation and the context has a next token. A masked model's are scored at masked tokens: of the words of a
        context that give rows, 15 % but at least one are drawn by ``seed`` and the number of the context, and replaced
        with the mask token in the input. The activations of all rows are replaced then, at masked tokens and others.

        Raises ``ConfigError`` for a model that cannot predict tokens or gives other activations than these, and for a
        split without any token to predict.
        """
        model = self.load()
        model.move(device)
        names = [ORIGINAL, *replacements]
        rows: list[Tensor] = []
        losses: list[Tensor] = []
        divergences: list[Tensor] = []
        for batch in self._batches(model, n_contexts, seed):
            if not rows:
                self._check_activations(model, batch)
            loss, kl = _scores(model, batch, self.layer, replacements.values())
            rows.append(batch.row)
            losses.append(loss)
            divergences.append(kl)
        if not sum(map(len, rows)):
            raise ConfigError("data.test_size", reason="leaves no token to predict", expected="more text to test on")
        row, loss, kl = torch.cat(rows), torch.cat(losses, dim=1), torch.cat(divergences, dim=1)
        return Predictions(
            model.kind,
            dict(zip(names, loss, strict=True)),
            dict(zip(replacements, kl, strict=True)),
            self.tokens.context[row],
            self.group[row],
        )

    def _batches(self, model: HeadedModel, n_contexts: int | None, seed: int) -> Iterator["_Scored"]:
        """Yield the chosen contexts, as many at a time as their logits allow."""
        order = (self.tokens.context * int(self.contexts.start.diff().max()) + self.tokens.position).argsort()
        numbers, counts = self.tokens.context[order].unique_consecutive(return_counts=True)
        of_context = dict(zip(numbers.tolist(), order.split(counts.tolist()), strict=True))
        n = len(numbers) if n_contexts is None else min(n_contexts, len(numbers))
        chosen = numbers[(2 * torch.arange(n) + 1) * len(numbers) // (2 * n)].tolist() if n else []
        longest = max((len(self.contexts.tokens(number)) for number in chosen), default=1)
        size = max(1, _LOGITS_AT_ONCE // (longest * model.vocabulary))
        for begin in range(0, n, size):
            part = chosen[begin : begin + size]
            yield self._batch(model, part, [of_context[number] for number in part], seed)

    def _batch(self, model: HeadedModel, numbers: list[int], rows: list[Tensor], seed: int) -> "_Scored":
        """Contexts side by side; ``rows`` are those of each, by position."""
        contexts = [self.contexts.tokens(number).long() for number in numbers]
        token = pad_sequence(contexts, batch_first=True, padding_value=model.padding)
        length = torch.tensor([len(context) for context in contexts])
        mask = (torch.arange(token.shape[1]) < length[:, None]).long()
        row = torch.cat(rows)
        owner = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(own) for own in rows]))
        place = owner * token.shape[1] + self.tokens.position[row]
        if model.kind == "causal":
            own = self.tokens.position[row] + 1 < length[owner]
            target, seen = token.flatten()[place[own] + 1], token
        else:
            can = ~torch.isin(token.flatten()[place], torch.tensor(sorted(special_ids(model.tokenizer))))
            of_context = can.split([len(own) for own in rows])
            own = torch.cat([_drawn(can, seed, number) for number, can in zip(numbers, of_context, strict=True)])
            target, seen = token.flatten()[place[own]], token.clone()
            seen.view(-1)[place[own]] = model.mask_token
        return _Scored(Batch(seen, mask, place, place[own]), token, target, row, row[own])

    def _check_activations(self, model: HeadedModel, batch: "_Scored") -> None:
        """Raise ``ConfigError`` unless the model gives the activations in the cache."""
        given = model.activations(batch.batch._replace(token=batch.token), self.layer).cpu()
        known = self.rows.take(batch.replaced).float()
        if not (given - known).norm() <= _TOLERANCE * known.norm():
            reason = f"its {self.layer} does not give the activations in the cache; its files have changed since"
            raise ConfigError("data.model", model.name, reason, "the model that they were harvested from")


class _Scored(NamedTuple):
    """Contexts with the tokens that are to be predicted."""

    batch: Batch
    token: Tensor
    """Token ids before any is masked, ``(B, T)``."""
    target: Tensor
    """Token to predict at each scored place, ``(n,)``."""
    replaced: Tensor
    """Rows of the split whose activations are replaced."""
    row: Tensor
    """Rows of the split at which predictions are scored, ``(n,)``."""


def _drawn(can: Tensor, seed: int, number: int) -> Tensor:
    """True for 15 % of the tokens of a context that ``can`` be drawn, ``(n,)``, but at least one."""
    places = can.nonzero()[:, 0]
    generator = torch.Generator().manual_seed(stream_seed(seed, number))
    order = torch.randperm(len(places), generator=generator)
    drawn = torch.zeros_like(can)
    drawn[places[order[: max(1, round(_MASKED_SHARE * len(places)))]]] = True
    return drawn


def _scores(model: HeadedModel, scored: _Scored, layer: str, replacements: Iterable[Replace]) -> tuple[Tensor, Tensor]:
    """Cross-entropies ``(1 + R, n)``, the original's first, and KL divergences from it ``(R, n)``."""
    log_p = model.logits(scored.batch, layer).float().log_softmax(dim=1)
    target = scored.target.to(log_p.device)
    losses, divergences = [F.nll_loss(log_p, target, reduction="none")], []
    for replace in replacements:
        log_q = model.logits(scored.batch, layer, replace).float().log_softmax(dim=1)
        losses.append(F.nll_loss(log_q, target, reduction="none"))
        divergences.append(F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1).clamp_min(0))
    return torch.stack(losses).double().cpu(), torch.stack(divergences).double().cpu()
