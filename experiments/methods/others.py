"""Methods of other libraries that are not among those of ``conf/sparsity``: experiments/methods says why.

PYTHONPATH=. sparse-ae-train --config-dir experiments/methods/conf experiment=methods sparsity=group_max
"""

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn

from sparse_ae.config.checked import with_options_of
from sparse_ae.config.errors import ConfigError
from sparse_ae.functional import Reduction, as_cell, as_row, select_rows
from sparse_ae.models.linear_decoder import LinearDecoder
from sparse_ae.models.network import Network
from sparse_ae.models.sparse_products import code_product, linear
from sparse_ae.sparsity import TrainingData
from sparse_ae.sparsity.base import Coefficient, Decoder, Forward, Sparsity, Traits, check_units, whole_units

_SHIFT = 0.01
"""Added to codes before the power, whose slope at 0 would be infinite."""


class GroupMax(Sparsity):
    """z = ReLU(pre) of the largest of each of ``k`` equal groups of neighbouring units, else 0; no penalty.

    Source: Belrose et al., sparsify, 2024, ``activation="groupmax"``.
    """

    def __init__(self, *, k: PositiveInt = 32, reduction: Reduction = "mean", latent_dim: PositiveInt = 128) -> None:
        super().__init__({}, latent_dim=latent_dim, reduction=reduction)
        if latent_dim % k:
            raise ConfigError("k", k, "does not divide the units into equal groups", f"a divisor of {latent_dim}")
        self.k = k

    def activate(self, pre: Tensor) -> Tensor:
        groups = torch.relu(pre).unflatten(-1, (self.k, -1))
        value, place = groups.max(dim=-1, keepdim=True)
        return torch.zeros_like(groups).scatter(-1, place, value).flatten(-2)

    @classmethod
    def arguments_for(cls, l0: float, latent_dim: int) -> dict[str, Any]:
        return {"k": whole_units(l0, latent_dim)}


class AnnealedLp(Sparsity):
    """z = ReLU(pre); loss = reconstruction + coefficient * mean of (z + 0.01)^p - 0.01^p.

    p falls linearly from 1 to ``p_end`` over training, after its first ``p_start`` share.
    Source: Karvonen et al., "Measuring progress in dictionary learning for language model interpretability with board
    game models", 2024, p-annealing.
    """

    traits = Traits(steered="lp")
    p: Tensor

    def __init__(
        self,
        *,
        coefficient: Coefficient = 0.01,
        p_end: Annotated[float, Field(gt=0, le=1)] = 0.2,
        p_start: Annotated[float, Field(ge=0, lt=1)] = 0.25,
        reduction: Reduction = "mean",
        warmup_steps: NonNegativeInt = 0,
        latent_dim: PositiveInt = 128,
    ) -> None:
        super().__init__({"lp": coefficient}, latent_dim=latent_dim, reduction=reduction, warmup_steps=warmup_steps)
        self.p_end = p_end
        self.p_start = p_start
        self.register_buffer("p", torch.tensor(1.0))

    @property
    def needs_an_end(self) -> bool:
        return True

    def activate(self, pre: Tensor) -> Tensor:
        return torch.relu(pre)

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        p = as_cell(self.p)
        powers = (forward.z + _SHIFT) ** p - _SHIFT**p
        return {"lp": powers.mean(dim=(-2, -1)) if self.reduction == "mean" else powers.sum(dim=-1).mean(dim=-1)}

    @torch.no_grad()
    def on_step_start_(self, step: int, total_steps: float) -> None:
        super().on_step_start_(step, total_steps)
        done = max(0.0, step / total_steps - self.p_start) / (1 - self.p_start)
        self.p.fill_(1 + (self.p_end - 1) * min(1.0, done))


@with_options_of(LinearDecoder)
class PlainPursuit(LinearDecoder):
    """Matching pursuit without refitting: ``k`` times the unit most like the residual gets its inner product with it.

    The gradient goes through all steps. Source: Costa et al., "From flat to hierarchical: extracting sparse
    representations with matching pursuit", arXiv 2506.03093; SAELens and overcomplete have it.
    """

    sets_sparsity = True

    def __init__(self, input_dim: PositiveInt, *, k: PositiveInt = 32, **options: Any) -> None:
        super().__init__(input_dim, **options)
        self.k = check_units("k", k, self.latent_dim)

    def encode(self, x: Tensor) -> Tensor:
        residual = x - self.b_pre
        z = x.new_zeros(len(x), self.latent_dim)
        for _ in range(self.k):
            value, unit = (residual @ self.atoms.T).max(dim=1, keepdim=True)
            value = torch.relu(value)
            z = z.scatter_add(1, unit, value)
            residual = residual - value * self.atoms[unit.squeeze(1)]
        return z


class Archetypal(Network):
    """pre = W_e (x - b_pre) + b_e;  x_hat = z @ atoms + b_pre, whose atoms are near convex combinations of data.

    atoms = exp(s) (M C + R): rows of M are not negative and sum to 1 (one with no positive weight becomes 0), rows of R
    have a norm of at most ``delta``. C are ``points`` centres of k-means of training data, less b_pre as it starts: at
    ``zeros``, or at the data's ``mean``. M, R and s are learned, M with ``mix_rate`` times the optimizer's learning
    rate. Atom i starts as centre i, s so that the mean norm of atoms is 1, and W_e as the atoms. Raises ``ConfigError``
    for fewer points than units or more than training samples, of which the first 10,000 are taken.
    Source: Fel et al., "Archetypal SAE", arXiv 2502.12892; overcomplete has it.
    """

    has_atoms = True
    points: Tensor

    def __init__(
        self,
        input_dim: PositiveInt,
        *,
        latent_dim: PositiveInt = 128,
        points: PositiveInt = 2048,
        delta: NonNegativeFloat = 1.0,
        mix_rate: PositiveFloat = 0.1,
        b_pre: Literal["zeros", "mean"] = "mean",
    ) -> None:
        super().__init__(input_dim, latent_dim)
        if points < latent_dim:
            raise ConfigError("points", points, "each atom starts as a centre of its own", f"{latent_dim} or more")
        self.delta = delta
        self.mix_rate = mix_rate
        self.b_pre_init = b_pre
        self.register_buffer("points", torch.randn(points, input_dim))
        self.mix = nn.Parameter(torch.eye(latent_dim, points))
        self.relaxation = nn.Parameter(torch.zeros(latent_dim, input_dim))
        self.log_scale = nn.Parameter(torch.tensor(0.0))
        self.encoder_weight = nn.Parameter(torch.zeros(latent_dim, input_dim))
        self.encoder_bias = nn.Parameter(torch.zeros(latent_dim))
        self.b_pre = nn.Parameter(torch.zeros(input_dim))

    def encode(self, x: Tensor) -> Tensor:
        return linear(x - as_row(self.b_pre), self.encoder_weight, self.encoder_bias)

    def decode(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        return code_product(z, self.dictionary, support) + as_row(self.b_pre)

    def decode_frozen(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        return code_product(z, self.dictionary.detach(), support) + as_row(self.b_pre.detach())

    @property
    def dictionary(self) -> Tensor:
        return as_cell(self.log_scale.exp()) * (self.mix @ self.points + self.relaxation)

    def atom_norms(self) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(self.dictionary, dim=-1)
        return norms

    def decoder_norms(self) -> Tensor:
        return self.atom_norms()

    def combine(self, z: Tensor, units: Tensor) -> Tensor:
        return z @ select_rows(self.dictionary, units)

    @torch.no_grad()
    def replace_units_(self, units: Tensor, x: Tensor, scale: float) -> list[nn.Parameter]:
        """Atoms become the centres most like the rows of ``x``."""
        nearest = (F.normalize(x - self.b_pre, dim=1) @ F.normalize(self.points, dim=1).T).argmax(dim=1)
        self.mix[units] = F.one_hot(nearest, len(self.points)).to(self.mix)
        self.relaxation[units] = 0
        self.encoder_bias[units] = 0
        others = torch.ones_like(self.encoder_bias, dtype=torch.bool).index_fill(0, units, False)
        typical = torch.linalg.vector_norm(self.encoder_weight[others], dim=1).mean() if bool(others.any()) else 1.0
        self.encoder_weight[units] = scale * typical * F.normalize(self.points[nearest], dim=1)
        return [self.mix, self.relaxation, self.encoder_bias, self.encoder_weight]

    @property
    def unit_bias(self) -> Tensor | None:
        return self.encoder_bias

    @property
    def learning_rates(self) -> dict[str, float]:
        return {"mix": self.mix_rate}

    @torch.no_grad()
    def setup_(self, data: TrainingData) -> None:
        if len(data.sample) < len(self.points):
            raise ConfigError("points", len(self.points), "more than there are samples", f"up to {len(data.sample)}")
        if self.b_pre_init == "mean":
            self.b_pre.copy_(data.mean)
        seed = int(torch.randint(2**31, ()))
        kmeans = MiniBatchKMeans(len(self.points), n_init=1, random_state=seed).fit(
            data.sample.flatten(1).cpu().numpy()
        )
        self.points.copy_(torch.from_numpy(kmeans.cluster_centers_) - self.b_pre.cpu())
        self.log_scale.copy_(-self.atom_norms().mean().log())
        self.encoder_weight.copy_(self.dictionary)

    @torch.no_grad()
    def on_step_end_(self) -> None:
        self.mix.copy_(F.normalize(torch.relu(self.mix), p=1, dim=-1))
        norms = torch.linalg.vector_norm(self.relaxation, dim=-1, keepdim=True)
        self.relaxation.mul_((self.delta / norms.clamp_min(1e-12)).clamp_max(1))
