"""The rule: what it buys when heads are known, and when they are not."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import amtl_jax as amtl
from amtl_jax.purse import make_purse

M, K, D = 8, 3, 20
NOISE = 0.25


def evidence(heads, target, rows, *, own_rows=200, seed=0, **changes):
    """Evidence as of `rows` `[M]` samples of each source with heads `[M, K, O]`."""
    rng = np.random.default_rng(seed)
    rows = np.asarray(rows)
    every = np.concatenate([heads, target[None]])
    counts = np.append(rows, own_rows)
    task = np.repeat(np.arange(M + 1), counts)
    features = rng.normal(size=(len(task), K))
    y = np.einsum("nk,nko->no", features, every[task])
    y += np.sqrt(NOISE) * rng.normal(size=y.shape)
    packed = amtl.pack(
        features.astype(np.float32),
        y.astype(np.float32),
        task,
        num_tasks=M + 1,
        block_rows=32,
    )
    stats = amtl.head_stats(packed.x, packed, num_tasks=M + 1)
    fitted = amtl.solve_heads(stats, ridge=1e-3, intercept=False)
    found = amtl.Evidence(
        source_heads=jax.tree.map(lambda leaf: leaf[:M], fitted),
        target_head=jax.tree.map(lambda leaf: leaf[M], fitted),
        source_stats=jax.tree.map(lambda leaf: leaf[:M], stats),
        target_stats=jax.tree.map(lambda leaf: leaf[M], stats),
        alignment=jnp.zeros(M),
        noise=jnp.ones(M),
        target_loss=jnp.float32(1.0),
        target_ridge=jnp.float32(0.1),
        ridge=jnp.float32(1e-3),
        held_out_loss=jnp.float32(jnp.nan),
        input_dim=jnp.float32(D),
        intercept=jnp.asarray(False),
        spent=jnp.asarray(rows, jnp.int32),
        price=jnp.ones(M),
        capacity=jnp.full(M, 2**30),
        group=jnp.arange(M),
        floor=jnp.int32(5),
        budget=jnp.int32(2000),
        key=jax.random.key(seed),
    )
    return found._replace(**changes)


@functools.cache
def compiled(**options):
    return jax.jit(amtl.c_optimal(**options).update)


def wanted(found, **options):
    proposal, _ = compiled(**options)(found, ())
    assert bool(proposal.cumulative)
    assert bool(proposal.relevance.ok.all())
    return proposal


def basis_problem(num_outputs=1):
    """Sources along two axes; the last alone along the third, which is the target's."""
    heads = np.zeros((M, K, num_outputs))
    heads[np.arange(M), np.arange(M) % (K - 1)] = 1.0
    heads[-1] = 0.0
    heads[-1, -1] = 1.0
    target = np.zeros((K, num_outputs))
    target[-1] = 1.0
    return heads, target


@pytest.mark.parametrize("num_outputs", [1, 2])
def test_buys_the_only_source_that_knows(num_outputs):
    heads, target = basis_problem(num_outputs)
    proposal = wanted(evidence(heads, target, np.full(M, 3000)))
    counts = np.asarray(proposal.scores)
    np.testing.assert_allclose(counts.sum(), M * 3000 + 2000, rtol=1e-4)
    np.testing.assert_allclose(counts[:-1], 3005, rtol=1e-5)
    nu = np.asarray(proposal.relevance.nu)
    assert np.argmax(np.abs(nu)) == M - 1
    np.testing.assert_allclose(np.abs(nu[-1]), 1.0, rtol=0.05)
    assert np.abs(nu[:-1]).max() < 0.1
    assert proposal.relevance.residual < 0.1
    assert proposal.relevance.gap < 0.05


def test_a_source_that_is_hardly_known_is_not_starved():
    rng = np.random.default_rng(3)
    heads = rng.normal(size=(M, K, 1))
    heads /= np.linalg.norm(heads, axis=1, keepdims=True)
    target = heads[1]  # and source 0 is seen to be nothing of the kind, on four rows
    few = np.full(M, 1500)
    few[0] = 4
    known = np.full(M, 1500)
    shares = []
    for rows in (few, known):
        bought = [
            np.asarray(wanted(evidence(heads, target, rows, seed=seed)).scores)[0] - rows[0]
            for seed in range(8)
        ]
        shares.append(np.mean(bought))
    assert shares[1] < 7  # the floor, and no more
    assert shares[0] > 3 * shares[1]


def test_prices_and_noise_follow_elfving():
    heads, _ = basis_problem()
    target = np.zeros((K, 1))
    target[0], target[-1] = 1.0, 1.0
    plain = np.asarray(wanted(evidence(heads, target, np.full(M, 50), budget=50_000)).scores)
    price = jnp.ones(M).at[-1].set(9.0)
    dear = wanted(evidence(heads, target, np.full(M, 50), price=price, budget=50_000))
    dear_counts = np.asarray(dear.scores)
    spent = np.asarray(price) @ dear_counts
    np.testing.assert_allclose(spent, float(np.asarray(price) @ np.full(M, 50)) + 50_000, rtol=1e-4)
    # n ∝ |nu|/√c: sources 0, 2, 4, 6 share one direction, the last has the other alone
    shared, dear_shared = plain[0:-1:2].sum(), dear_counts[0:-1:2].sum()
    np.testing.assert_allclose(plain[-1] / shared, 1.0, rtol=0.15)
    np.testing.assert_allclose(dear_counts[-1] / dear_shared, 1 / 3, rtol=0.15)


def test_capacity_floor_and_the_end_of_the_money():
    heads, target = basis_problem()
    rows = np.full(M, 500)
    full = jnp.full(M, 2**30).at[-1].set(700)
    counts = np.asarray(wanted(evidence(heads, target, rows, capacity=full)).scores)
    np.testing.assert_allclose(counts[-1], 700, rtol=1e-5)
    np.testing.assert_allclose(counts.sum(), M * 500 + 2000, rtol=1e-4)
    last = wanted(evidence(heads, target, rows, budget=jnp.int32(0), floor=jnp.int32(0)))
    np.testing.assert_allclose(last.scores, rows, rtol=1e-4)


def test_labels_of_one_input_are_bought_together():
    heads, target = basis_problem()
    group = jnp.array([0, 1, 2, 3, 4, 5, 0, 0])  # the last source's labels come with 0 and 6
    spent = np.full(M, 300)
    found = evidence(heads, target, spent, group=group)
    counts = np.asarray(wanted(found).scores)
    np.testing.assert_allclose(counts[[0, 6]], counts[7], rtol=1e-6)
    assert counts[7] > 300 + 1900
    # paid once: six groups of 300 and the round
    np.testing.assert_allclose(counts[:6].sum(), 6 * 300 + 2000, rtol=1e-4)
    purse = make_purse(
        6000, (0.3, 0.7), amtl.Floor(count=5), num_sources=M, capacity=None, price=None, group=group
    )
    proposal = wanted(found._replace(budget=jnp.int32(4200)))
    bought = purse.counts(proposal, jnp.int32(1), jnp.asarray(spent), jnp.int32(1800))
    np.testing.assert_array_equal(bought[jnp.array([0, 6])], bought[7])
    assert int(bought[:6].sum()) == 4200
    assert bought[7] > 4100


def test_two_targets_both_get_their_source():
    heads, _ = basis_problem()
    targets = np.stack([heads[0], heads[-1]])
    single = evidence(heads, targets[0], np.full(M, 300))
    other = evidence(heads, targets[1], np.full(M, 300))
    both = single._replace(
        target_head=jax.tree.map(
            lambda *leaves: jnp.stack(leaves), single.target_head, other.target_head
        ),
        target_stats=jax.tree.map(
            lambda *leaves: jnp.stack(leaves), single.target_stats, other.target_stats
        ),
    )
    for criterion in ("sum", "max"):
        proposal = wanted(both, criterion=criterion)
        counts = np.asarray(proposal.scores)
        chex.assert_shape(proposal.relevance.nu, (2, M))
        assert counts[-1] > 800
        assert counts[0:-1:2].sum() > counts[1:-1:2].sum() + 300


def test_same_key_same_counts_and_other_draws_little_else():
    heads, target = basis_problem()
    found = evidence(heads, target, np.full(M, 60))
    first, again = wanted(found), wanted(found)
    np.testing.assert_array_equal(first.scores, again.scores)
    other = wanted(found._replace(key=jax.random.key(99)))
    np.testing.assert_allclose(other.scores, first.scores, atol=0.1 * 2000)


def test_saves_against_uniform_in_a_campaign():
    """Few seeds of a small `dup2`; the benchmark has hundreds of the reference's size."""
    ratios = []
    for seed in range(3):
        truth = amtl.synthetic_truth("dup2", seed=seed, num_tasks=12, input_dim=16, num_features=3)
        source = amtl.SyntheticSource(truth)
        own = source.draw_target(jax.random.key(100 + seed), 200)
        risks = []
        for rule in (amtl.uniform(), amtl.c_optimal()):
            fit = amtl.active_fit(
                source,
                own.x,
                own.y,
                budget=2400,
                strategy=rule,
                encoder=amtl.linear_encoder(3),
                seed=seed,
                penalty=1e-7,
            )
            kernel = fit.params["params"]["kernel"]
            theta = truth.encoder @ truth.target_head
            risks.append(float(amtl.representation_risk(kernel, jnp.asarray(theta, jnp.float32))))
        ratios.append(risks[1] / risks[0])
    assert np.mean(ratios) < 0.6


def test_heads_that_say_nothing_are_bought_alike():
    """As after a penalty so strong that nothing is left of the representation."""
    heads, target = basis_problem()
    found = evidence(heads, target, np.full(M, 100))
    nothing = jax.tree.map(jnp.zeros_like, found.source_stats)._replace(
        count=found.source_stats.count, energy=found.source_stats.energy
    )
    own = jax.tree.map(lambda leaf: leaf[0], nothing)
    proposal = wanted(found._replace(source_stats=nothing, target_stats=own))
    np.testing.assert_allclose(proposal.scores, 100 + 2000 / M, rtol=1e-4)


def test_error_text():
    with pytest.raises(ValueError, match="num_draws >= 1 and num_steps >= 1, got 0 and 40"):
        amtl.c_optimal(num_draws=0)
