"""Each method's activation and loss terms, by hand."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sparse_ae.config.build import build
from sparse_ae.config.errors import ConfigError
from sparse_ae.functional import bernoulli_kl, hoyer
from sparse_ae.models import MLP, Linear, build_autoencoder
from sparse_ae.sparsity import (
    KL,
    L1,
    WTA,
    BatchTopK,
    Forward,
    Gated,
    Hoyer,
    JumpReLU,
    KSparse,
    Loss,
    Matryoshka,
    NoSparsity,
    Sparsity,
    TopK,
)
from tests.helpers import plain_config

PLAIN: Any = {"start": "random", "encoder_scale": 1, "atom_rate": 1}

PRE = torch.tensor([[-1.0, 2.0], [3.0, -4.0]])


def _forward(z: torch.Tensor) -> Forward:
    x = torch.zeros(2, 3)
    return Forward(x, x, PRE, z, x)


def _follow(method: Sparsity, forward: Forward) -> None:
    zero = torch.zeros(())
    method.on_backward_end_(Loss(zero, zero, {}, forward))


def _network() -> Linear:
    return Linear(input_dim=3, latent_dim=2, tied=False, unit_norm=False, b_pre="zeros", **PLAIN)


def test_none_is_dense() -> None:
    method = NoSparsity(reduction="mean", latent_dim=2)
    assert torch.equal(method.activate(PRE), PRE)
    assert method.losses(_forward(PRE), _network()) == {} == method.coefficients


def test_l1() -> None:
    method = L1(coefficient=0.5, atom_norm=False, reduction="mean", warmup_steps=0, latent_dim=2)
    z = method.activate(PRE)
    assert z.tolist() == [[0, 2], [3, 0]]
    assert method.losses(_forward(z), _network())["l1"].item() == 5 / 4
    assert method.coefficients["l1"].item() == 0.5


def test_l1_with_atom_norms_cannot_be_cheated_by_large_atoms() -> None:
    method = L1(coefficient=0.5, atom_norm=True, reduction="sum", warmup_steps=0, latent_dim=2)
    network = _network()
    z = method.activate(PRE)
    before = method.losses(_forward(z), network)["l1"]
    with torch.no_grad():
        network.atoms.mul_(10)
    torch.testing.assert_close(method.losses(_forward(z / 10), network)["l1"], before)
    assert before.item() == pytest.approx(5 / 2)


def test_kl() -> None:
    method = KL(coefficient=0.5, rho=0.25, reduction="mean", warmup_steps=0, latent_dim=2)
    z = method.activate(PRE)
    torch.testing.assert_close(z, 1 / (1 + torch.exp(-PRE)))
    expected = bernoulli_kl(torch.tensor(0.25), z.mean(dim=0)).sum()
    torch.testing.assert_close(method.losses(_forward(z), _network())["kl"], expected)


def test_coefficients_and_rho_are_buffers_that_a_checkpoint_restores() -> None:
    method = KL(coefficient=0.5, rho=0.25, reduction="mean", warmup_steps=0, latent_dim=2)
    method.coefficients["kl"].fill_(7)
    other = KL(coefficient=0.1, rho=0.5, reduction="mean", warmup_steps=0, latent_dim=2)
    other.load_state_dict(method.state_dict())
    assert other.coefficients["kl"].item() == 7
    assert other.get_buffer("rho").item() == 0.25
    assert list(method.parameters()) == []


def test_kl_with_another_activation_cannot_be_expressed() -> None:
    spec = {
        "_target_": "sparse_ae.sparsity.KL",
        "coefficient": 1,
        "rho": 0.1,
        "reduction": "mean",
        "warmup_steps": 0,
    }
    with pytest.raises(ConfigError, match=r"sparsity\.activation: no such key"):
        build(spec | {"activation": "relu"}, "sparsity", latent_dim=2)


OF_4: dict[str, Any] = {"reduction": "mean", "latent_dim": 4}
WIDE = torch.tensor([[0.3, -2.0, 1.5, 0.9], [-0.1, 0.2, -0.3, -0.4], [4.0, 3.0, 2.0, 1.0]])


def test_topk_keeps_the_k_largest_and_rectifies() -> None:
    method = TopK(k=2, signed=False, reduction="mean", latent_dim=4)
    expected = torch.tensor([[0, 0, 1.5, 0.9], [0, 0.2, 0, 0], [4, 3, 0, 0]])
    assert torch.equal(method.activate(WIDE), expected)


def test_signed_topk_keeps_the_largest_by_magnitude() -> None:
    method = TopK(k=2, signed=True, reduction="mean", latent_dim=4)
    expected = torch.tensor([[0, -2, 1.5, 0], [0, 0, -0.3, -0.4], [4, 3, 0, 0]])
    assert torch.equal(method.activate(WIDE), expected)


def test_topk_keeps_exactly_k_of_equal_values() -> None:
    method = TopK(k=2, signed=False, reduction="mean", latent_dim=4)
    assert (method.activate(torch.ones(5, 4)) != 0).sum(dim=1).tolist() == [2] * 5


def test_batch_topk_lets_samples_share() -> None:
    method = BatchTopK(k=2, reduction="mean", latent_dim=4)
    z = method.activate_batch(WIDE)  # the 6 largest of 12
    assert torch.equal(z, torch.tensor([[0, 0, 1.5, 0.9], [0, 0, 0, 0], [4, 3, 2, 1]]))


def test_batch_topk_codes_a_sample_alone_as_sparsely_as_a_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    method = BatchTopK(k=2, reduction="mean", latent_dim=50)
    assert torch.equal(method.activate(WIDE), WIDE.relu())  # nothing was estimated yet

    def draw(samples: int) -> torch.Tensor:
        return torch.randn(samples, 50, generator=generator).mul(1.5).exp() - 1

    def train(batches: int, samples: int = 8) -> None:
        for _ in range(batches):
            pre = draw(samples)
            _follow(method, _forward(method.activate_batch(pre))._replace(pre=pre))

    first = draw(8)
    z = method.activate_batch(first)
    _follow(method, _forward(z)._replace(pre=first))
    assert method.threshold.value == z[z > 0].min()
    train(2000)
    fresh = draw(20_000)
    z = method.activate(fresh)
    assert (z != 0).sum(dim=1).double().mean() == pytest.approx(2, rel=0.05)
    assert torch.equal(z, torch.cat([method.activate(row) for row in fresh.split(7000)]))
    assert torch.equal(z[z != 0], fresh[z != 0])
    for _ in range(6):  # elsewhere a quarter more pass than here: let 1.6 do so here
        train(300, samples=100)
        here = (method.activate(fresh) != 0).sum(dim=1).double().mean()
        method.on_validation_end_({"val/l0": 1.25 * float(here)})
    train(1000, samples=100)
    train(1000)
    assert (method.activate(fresh) != 0).sum(dim=1).double().mean() == pytest.approx(1.6, rel=0.05)
    before = method.threshold.value.clone()
    _follow(method, _forward(torch.zeros(3, 50))._replace(pre=torch.zeros(3, 50)))
    assert method.threshold.value == pytest.approx(float(0.99 * before))


def test_a_threshold_far_below_what_is_kept_starts_anew() -> None:
    """As after a first batch of which nearly everything was kept: at 1 % a batch it would take hundreds."""
    method = BatchTopK(k=1, reduction="mean", latent_dim=2)
    method.threshold.value.fill_(1e-4)
    pre = torch.tensor([[3.0, 1.0], [2.0, 0.5]])
    _follow(method, _forward(method.activate_batch(pre))._replace(pre=pre))
    assert method.threshold.value == 2.0


def test_a_wta_unit_that_starts_anew_has_a_new_threshold() -> None:
    method = WTA(share=0.5, encode="threshold", reduction="mean", latent_dim=2)
    method.threshold.value.copy_(torch.tensor([5.0, 5.0]))
    assert method.reset_units_(torch.tensor([1])) == []
    pre = torch.tensor([[6.0, 1.0], [2.0, 0.5]])
    _follow(method, _forward(method.activate_batch(pre))._replace(pre=pre))
    assert torch.equal(method.threshold.value, torch.tensor([5.0, 1.0]))


@pytest.mark.parametrize("method", [WTA(share=0.5, encode="threshold", **OF_4), BatchTopK(k=2, **OF_4)])
def test_thresholds_follow_bfloat16_codes_in_float32(method: WTA | BatchTopK) -> None:
    """A step of less than 0.4 % would be lost in bfloat16, and shares rounded."""
    method.threshold.value.fill_(1.0)
    pre = WIDE.bfloat16()
    _follow(method, _forward(method.activate_batch(pre))._replace(pre=pre))
    share = (WIDE >= 1.0).float().mean(dim=0) if isinstance(method, WTA) else (WIDE >= 1.0).float().mean()
    expected = 1 + 0.01 * (share / 0.5 - 1)
    torch.testing.assert_close(method.threshold.value, expected.expand_as(method.threshold.value))


def test_matryoshka_adds_up_to_the_mean_over_all_prefixes() -> None:
    torch.manual_seed(0)
    network = Linear(input_dim=3, latent_dim=4, tied=False, unit_norm=False, b_pre="zeros", **PLAIN)
    method = Matryoshka(k=2, widths=[1, 3], reduction="sum", latent_dim=4)
    z, target = torch.rand(5, 4), torch.rand(5, 3)
    forward = Forward(target, target, z, z, network.decode(z))
    errors = []
    for width in (1, 3, 4):
        kept = z * (torch.arange(4) < width)
        errors.append((target - kept @ network.atoms - network.b_pre).square().sum(dim=1).mean())
    terms = method.losses(forward, network)
    loss = errors[-1] + method.coefficients["prefixes"] * terms["prefixes"]
    torch.testing.assert_close(loss, 3 * torch.stack(errors).mean())


@pytest.mark.parametrize("network", ["linear", "mlp"])
def test_a_prefix_is_the_first_units_alone(network: str) -> None:
    torch.manual_seed(0)
    net = (
        Linear(input_dim=3, latent_dim=4, tied=False, unit_norm=True, b_pre="zeros", **PLAIN)
        if network == "linear"
        else MLP(input_dim=3, latent_dim=4, hidden_sizes=[5])
    )
    z = torch.rand(6, 4)
    torch.testing.assert_close(net.decode_prefix(z, 3), net.decode(z * torch.tensor([1, 1, 1, 0])))


class _JumpReLUByDefinition(torch.autograd.Function):
    """The source's pseudo-code: rectangle kernel, gradient to theta only through it."""

    @staticmethod
    def forward(ctx, pre, theta, bandwidth, value):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(pre, theta)
        ctx.bandwidth, ctx.value = bandwidth, value
        return pre * (pre > theta) if value else (pre > theta).to(pre.dtype)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        pre, theta = ctx.saved_tensors
        kernel = (((pre - theta) / ctx.bandwidth).abs() < 0.5).to(pre.dtype)
        scale = theta / ctx.bandwidth if ctx.value else 1 / ctx.bandwidth
        to_theta = (-scale * kernel * grad).sum(dim=0)
        return (grad * (pre > theta) if ctx.value else None), to_theta, None, None


@pytest.mark.parametrize("l0_target", [None, 2.0])
def test_jumprelu_has_the_straight_through_gradients_of_its_source(l0_target: float | None) -> None:
    torch.manual_seed(0)
    method = JumpReLU(
        coefficient=1,
        theta=0.5,
        theta_rate=1,
        bandwidth=0.4,
        l0_target=l0_target,
        reduction="sum",
        warmup_steps=0,
        latent_dim=6,
    )
    pre = torch.rand(32, 6, requires_grad=True)
    weights = torch.randn(32, 6)
    z = method.activate(pre)
    x = torch.zeros(32, 3)
    l0 = method.losses(Forward(x, x, pre, z, x), _network())["l0"]
    ((z * weights).sum() + l0).backward()

    pre_ref = pre.detach().clone().requires_grad_()
    log_theta = torch.full((6,), 0.5).log().requires_grad_()
    z_ref = _JumpReLUByDefinition.apply(pre_ref, log_theta.exp(), 0.4, True)
    count = _JumpReLUByDefinition.apply(pre_ref, log_theta.exp(), 0.4, False).sum() / 32
    l0_ref = count if l0_target is None else (count / l0_target - 1) ** 2
    ((z_ref * weights).sum() + l0_ref).backward()

    torch.testing.assert_close(z, z_ref)
    torch.testing.assert_close(l0, l0_ref)
    torch.testing.assert_close(pre.grad, pre_ref.grad)
    torch.testing.assert_close(method.log_theta.grad, log_theta.grad)


def test_gated_trains_the_gate_without_the_decoder() -> None:
    torch.manual_seed(0)
    network = Linear(input_dim=3, latent_dim=2, tied=False, unit_norm=False, b_pre="zeros", **PLAIN)
    method = Gated(coefficient=0.5, reduction="sum", warmup_steps=0, latent_dim=2)
    with torch.no_grad():
        method.log_scale.copy_(torch.tensor([0.0, 1.0]))
        method.shift.copy_(torch.tensor([-1.0, 0.5]))
    pre = PRE.clone().requires_grad_()
    z = method.activate(pre)
    # unit 0: exp(0) 3 - 1; unit 1: e * 2 + 0.5; elsewhere the gate is closed
    torch.testing.assert_close(z, torch.tensor([[0.0, 2 * torch.e + 0.5], [2.0, 0.0]]))
    target = torch.rand(2, 3)
    terms = method.losses(Forward(target, target, pre, z, target), network)
    assert terms["l1"].item() == 2.5
    gate = PRE.relu()
    expected = (target - gate @ network.atoms).square().sum(dim=1).mean()
    torch.testing.assert_close(terms["gate"], expected)
    terms["gate"].backward()
    assert network.atoms.grad is None
    assert network.b_pre.grad is None
    assert pre.grad is not None
    assert (pre.grad != 0).any()


def test_hoyer_is_one_minus_the_sparseness_and_ignores_scale() -> None:
    method = Hoyer(coefficient=1, reduction="mean", warmup_steps=0, latent_dim=4)
    z = torch.tensor([[0.0, 0, 3, 0], [2, 2, 2, 2], [0, 0, 0, 0], [3, 4, 0, 0]], requires_grad=True)
    x, network = torch.zeros(4, 3), MLP(3, latent_dim=4)
    term = method.losses(Forward(x, x, z, z, x), network)["hoyer"]
    assert term.item() == pytest.approx((0 + 1 + 0 + (7 / 5 - 1)) / 4)
    scaled = method.losses(Forward(x, x, z, 10 * z, x), network)["hoyer"]
    torch.testing.assert_close(scaled, term)
    term.backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def _hoyer_of(network: Linear, z: torch.Tensor) -> torch.Tensor:
    method = Hoyer(coefficient=1, latent_dim=network.latent_dim)
    return method.losses(Forward(z, z, z, z, network.decode(z)), network)["hoyer"]


def test_hoyer_counts_no_more_of_a_code_than_what_it_reconstructs() -> None:
    """Units 2 and 3 have opposite atoms and cancel, unit 4 is constant: neither makes a code sparser."""
    network = Linear(4, latent_dim=5, unit_norm=False).requires_grad_(requires_grad=False)
    network.atoms.copy_(torch.tensor([[2.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, -1, 0], [0, 0, 0, 1]]))
    codes = torch.tensor([[1.5, 0.0], [0, 4], [0, 0]])  # 3 and 4 long as parts; their mean is (1, 4/3)

    def term(pair: float, constant: float) -> float:
        return float(_hoyer_of(network, torch.cat([codes, torch.tensor([[pair, pair, constant]] * 3)], dim=1)))

    def expected(added: float) -> float:
        first = (3 + added) / math.hypot(3 - 1, 4 / 3)  # what varies is shorter than the parts
        second = (4 + added) / math.hypot(1, 4 - 4 / 3)
        third = added / min(added, math.hypot(1, 4 / 3)) if added else 1.0  # without codes it does not count
        return ((first - 1) + (second - 1) + (third - 1)) / 3 / (5**0.5 - 1)

    assert term(0, 0) == pytest.approx(expected(0))
    assert term(2, 0) == pytest.approx(expected(4))
    assert term(0, 3) == pytest.approx(expected(3))


def test_hoyer_is_bounded_and_finite_where_nothing_varies() -> None:
    torch.manual_seed(0)
    network = Linear(20, latent_dim=16)
    row = torch.rand(1, 16)
    rows = torch.cat([row, torch.zeros(1, 16), row.expand(100, 16)])
    for z in (row, row.expand(3, 16).clone(), rows, torch.zeros(4, 16)):
        z.requires_grad_()
        term = _hoyer_of(network, z)
        assert 0 <= float(term.detach()) <= 4 + 1
        network.zero_grad()
        term.backward()
        assert network.atoms.grad is not None
        for gradient in (z.grad, network.atoms.grad):
            assert gradient is not None
            assert float(gradient.abs().max()) < 100
    assert float(_hoyer_of(network, row).detach()) == pytest.approx(1 - float(hoyer(row.detach())))


def test_hoyer_has_the_gradient_of_its_term() -> None:
    torch.manual_seed(0)
    network = Linear(6, latent_dim=5).double()
    z = torch.rand(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: _hoyer_of(network, z), (z,))


def test_k_sparse_anneals_k_and_does_not_rectify() -> None:
    method = KSparse(k=1, alpha=3.0, anneal_from=4.0, anneal_share=0.5, reduction="mean", latent_dim=4)
    kept = []
    for step in (0, 20, 40, 50, 99):
        method.on_step_start_(step, 100)
        kept.append(int((method.activate_batch(WIDE) != 0).sum(dim=1)[2]))
    assert kept == [4, 3, 2, 1, 1]
    method.on_step_start_(20, 100)
    assert torch.equal(method.activate_batch(WIDE)[1], torch.tensor([-0.1, 0.2, -0.3, 0]))
    assert torch.equal(method.activate(WIDE)[1], torch.tensor([-0.1, 0.2, -0.3, 0]))  # alpha * k = 3
    with pytest.raises(ValueError, match="max_epochs=-1"):
        method.on_step_start_(0, float("inf"))


def test_wta_codes_a_sample_alone_as_sparsely_as_a_batch() -> None:
    """Two winners of 40 with a heavy tail: the mean of the smaller one lets through a third too few."""
    generator = torch.Generator().manual_seed(0)
    method = WTA(share=0.05, encode="threshold", reduction="mean", latent_dim=50)

    def draw(samples: int) -> torch.Tensor:
        return torch.randn(samples, 50, generator=generator).mul(1.5).exp() - 1

    smallest = []
    for _ in range(2000):
        pre = draw(40)
        z = method.activate_batch(pre)
        smallest.append(torch.where(z > 0, z, torch.inf).amin(dim=0))
        _follow(method, _forward(z)._replace(pre=pre))
    fresh = draw(20_000)
    mean_of_smallest = torch.stack(smallest).mean(dim=0)
    assert (fresh >= mean_of_smallest).double().mean() < 0.04
    assert (method.activate(fresh) != 0).double().mean() == pytest.approx(0.05, rel=0.05)


def test_wta_keeps_each_units_strongest_responses() -> None:
    method = WTA(share=0.3, encode="threshold", reduction="mean", latent_dim=4)  # ceil(0.9) = 1 of 3 samples
    z = method.activate_batch(WIDE)
    assert torch.equal(z, torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 0], [4, 3, 2, 1]]))
    _follow(method, _forward(z)._replace(pre=WIDE))
    assert method.threshold.value.tolist() == [4, 3, 2, 1]
    assert torch.equal(method.activate(WIDE), z)
    free = WTA(share=0.3, encode="relu", reduction="mean", latent_dim=4)
    assert torch.equal(free.activate(WIDE), WIDE.relu())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(k=9, signed=False, reduction="mean", latent_dim=4), "k=9: not a number of units"),
        (lambda: TopK(k=0, signed=False, reduction="mean", latent_dim=4), "k=0: not a number of units"),
        (
            lambda: Matryoshka(k=2, widths=[3, 2], reduction="mean", latent_dim=4),
            r"widths=\[3, 2\]: not nested prefixes",
        ),
        (
            lambda: Matryoshka(k=2, widths=[2, 4], reduction="mean", latent_dim=4),
            r"widths=\[2, 4\]: not nested prefixes",
        ),
        (lambda: Matryoshka(k=2, widths=[], reduction="mean", latent_dim=4), r"widths=\[\]: not nested prefixes"),
        (
            lambda: Hoyer(coefficient=1, reduction="mean", warmup_steps=0, latent_dim=1),
            "one unit has no Hoyer sparseness",
        ),
        (lambda: TopK.arguments_for(2.5, 4), "l0=2.5: not a whole number of units"),
        (lambda: WTA.arguments_for(5, 4), "l0=5: not a number of active units"),
        (lambda: NoSparsity.arguments_for(2, 4), "NoSparsity has no sparsity to set"),
    ],
)
def test_impossible_numbers_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_methods_take_a_target_as_their_own_number() -> None:
    assert TopK.arguments_for(32, 100) == BatchTopK.arguments_for(32, 100) == {"k": 32}
    assert KSparse.arguments_for(32, 100) == {"k": 32, "alpha": 1}
    assert WTA.arguments_for(5, 100) == {"share": 0.05}
    assert L1.arguments_for(5, 100) == {}


def test_warmup_raises_the_steered_coefficient_alone() -> None:
    method = Gated(coefficient=0.5, reduction="mean", warmup_steps=10, latent_dim=2)
    seen = []
    for step in (0, 4, 9, 50):
        method.on_step_start_(step, 100)
        seen.append(round(method.coefficients["l1"].item(), 6))
    assert seen == [0.05, 0.25, 0.5, 0.5]
    assert method.coefficients["gate"].item() == 1


@pytest.mark.parametrize("method", ["batch_topk", "matryoshka", "wta"])
def test_methods_that_couple_samples_are_refused_where_codes_come_in_steps(method: str) -> None:
    config = plain_config(f"sparsity={method}", "model=lista", "model.latent_dim=1024")
    with pytest.raises(
        ValueError, match=r"learns one threshold .* LISTA codes in several steps \(expected model=linear"
    ):
        build_autoencoder(config["model"], config["sparsity"], input_dim=20)
