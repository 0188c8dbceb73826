"""One protocol for every rule: pure, non-negative, equivariant, the same under jit."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import amtl_jax as amtl

NUM_SOURCES, NUM_FEATURES = 6, 3
NU = np.array([0.0, 1.0, -2.0, 0.0, 0.5, 0.0])
RULES = {
    "uniform": amtl.uniform(),
    "a_mtrl": amtl.a_mtrl(),
    "a_mtrl_ridge": amtl.a_mtrl(ridge=0.1),
    "l1_a_mtrl": amtl.l1_a_mtrl(),
    "alignment": amtl.alignment_rule(),
    "c_optimal": amtl.c_optimal(num_draws=4),
    "known_relevance": amtl.known_relevance(NU),
    "one_of": amtl.one_of((amtl.a_mtrl(), amtl.uniform())),
}


def evidence(seed=0, order=None):
    """Evidence of Gaussian source heads and a target made of sources 1, 2 and 4."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(NUM_SOURCES, NUM_FEATURES, 1))
    target = np.einsum("m,mko->ko", NU, weight)
    weight = weight if order is None else weight[order]
    heads = amtl.Heads(
        jnp.asarray(weight, jnp.float32),
        jnp.zeros((NUM_SOURCES, 1)),
        jnp.ones((NUM_SOURCES, 1)),
    )
    stats = amtl.HeadStats(
        jnp.broadcast_to(jnp.eye(NUM_FEATURES), (NUM_SOURCES, NUM_FEATURES, NUM_FEATURES)),
        heads.weight,
        jnp.ones((NUM_SOURCES, 1)),
        jnp.zeros((NUM_SOURCES, NUM_FEATURES)),
        jnp.zeros((NUM_SOURCES, 1)),
        jnp.full(NUM_SOURCES, 10.0),
    )
    return amtl.Evidence(
        source_heads=heads,
        target_head=amtl.Heads(jnp.asarray(target, jnp.float32), jnp.zeros(1), jnp.ones(1)),
        source_stats=stats,
        target_stats=jax.tree.map(lambda leaf: leaf[0], stats),
        alignment=jnp.linspace(-0.5, 0.5, NUM_SOURCES),
        noise=jnp.ones(NUM_SOURCES),
        target_loss=jnp.float32(1.0),
        target_ridge=jnp.float32(0.1),
        ridge=jnp.float32(0.1),
        held_out_loss=jnp.float32(1.0),
        input_dim=jnp.float32(10),
        intercept=jnp.asarray(False),
        spent=jnp.full(NUM_SOURCES, 10),
        price=jnp.ones(NUM_SOURCES),
        capacity=jnp.full(NUM_SOURCES, 1000),
        group=jnp.arange(NUM_SOURCES),
        floor=jnp.int32(2),
        budget=jnp.int32(60),
        key=jax.random.key(seed),
    )


@pytest.mark.parametrize("name", RULES)
def test_protocol(name):
    rule = RULES[name]
    first, state = rule.init(NUM_SOURCES)
    proposal, next_state = jax.jit(rule.update)(evidence(), state)
    for one in (first, proposal):
        chex.assert_shape([one.scores, one.relevance.nu], (NUM_SOURCES,))
        chex.assert_shape([one.cumulative, one.relevance.gap, one.relevance.ok], ())
        assert np.isfinite(one.scores).all()
        assert (one.scores >= 0).all()
        # what comes out has the structure, shapes and dtypes of what went in
        chex.assert_trees_all_equal_shapes_and_dtypes(one, first)
    chex.assert_trees_all_equal_shapes_and_dtypes(next_state, state)
    counts = amtl.allocate(proposal.scores, budget=60, floor=2)
    assert counts.sum() == 60
    again, _ = rule.update(evidence(), state)
    chex.assert_trees_all_close(again, proposal, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["uniform", "a_mtrl", "a_mtrl_ridge", "l1_a_mtrl"])
def test_permuting_sources_permutes_scores(name):
    order = np.array([3, 0, 5, 1, 4, 2])
    plain, _ = RULES[name].update(evidence(), ())
    permuted, _ = RULES[name].update(evidence(order=order), ())
    np.testing.assert_allclose(permuted.scores, plain.scores[order], atol=1e-4)


@pytest.mark.parametrize("name", ["uniform", "a_mtrl", "l1_a_mtrl"])
def test_relevance_ignores_the_scale_of_features_and_those_no_source_uses(name):
    found = evidence()
    plain, _ = RULES[name].update(found, ())

    def rescaled(scale):
        """The same predictors on features multiplied by `scale` `[K]`."""
        heads, target, stats = found.source_heads, found.target_head, found.source_stats
        return found._replace(
            source_heads=heads._replace(weight=heads.weight / scale[None, :, None]),
            target_head=target._replace(weight=target.weight / scale[:, None]),
            source_stats=stats._replace(gram=stats.gram * jnp.outer(scale, scale)[None]),
        )

    scaled, _ = RULES[name].update(rescaled(jnp.array([1e-3, 1.0, 30.0])), ())
    np.testing.assert_allclose(scaled.relevance.nu, plain.relevance.nu, atol=2e-3)

    # a feature the sources have all but switched off, though the target still uses it
    weight = found.source_heads.weight.at[:, 2].multiply(1e-5)
    unused = found._replace(source_heads=found.source_heads._replace(weight=weight))
    proposal, _ = RULES[name].update(unused, ())
    assert jnp.abs(proposal.relevance.nu).max() < 10
    # what was left out counts as not explained
    target = np.asarray(found.target_head.weight[:, 0])
    share = abs(target[2]) / np.linalg.norm(target)
    np.testing.assert_allclose(proposal.relevance.residual, share, rtol=1e-3)


def test_scores_follow_the_papers():
    found = evidence()
    w = np.asarray(found.source_heads.weight[..., 0]).T  # [K, M]
    nu = np.linalg.pinv(w) @ np.asarray(found.target_head.weight[:, 0])
    squared, _ = RULES["a_mtrl"].update(found, ())
    np.testing.assert_allclose(squared.scores, nu**2, rtol=1e-3, atol=1e-5)
    absolute, _ = RULES["l1_a_mtrl"].update(found, ())
    assert absolute.scores.sum() <= np.abs(nu).sum() + 1e-4
    assert (np.asarray(absolute.scores) > 1e-5).sum() <= NUM_FEATURES
    np.testing.assert_allclose(w @ absolute.relevance.nu, found.target_head.weight[:, 0], atol=1e-4)
    even, _ = RULES["uniform"].update(found, ())
    assert (even.scores == 0).all()


@pytest.mark.parametrize("name", sorted(RULES.keys() - {"c_optimal"}))
def test_several_targets_are_those_of_one_each_and_share_the_scores(name):
    rule, found = RULES[name], evidence()
    _, state = rule.init(NUM_SOURCES)
    targets = jnp.stack([found.target_head.weight, found.source_heads.weight[3]])
    alone = [
        rule.update(found._replace(target_head=found.target_head._replace(weight=weight)), state)[0]
        for weight in targets
    ]
    several = found._replace(
        alignment=jnp.stack([found.alignment, found.alignment]),
        target_head=found.target_head._replace(weight=targets),
        target_stats=jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), found.target_stats),
    )
    both, _ = jax.jit(rule.update)(several, state)
    nu = np.stack([one.relevance.nu for one in alone])
    np.testing.assert_allclose(both.relevance.nu, nu, atol=1e-4)
    chex.assert_shape([both.relevance.gap, both.relevance.ok, both.relevance.residual], (2,))
    assert both.relevance.ok.all()
    # Counts ∝ √Σ_t nu_t² make Σ_t Σ_m nu_tm²/n_m least; the square of it is A-MTRL's.
    expected = {
        "uniform": 0 * nu[0],
        "known_relevance": alone[0].scores,
        "alignment": sum(one.scores for one in alone),
        "l1_a_mtrl": np.sqrt((nu**2).sum(axis=0)),
    }.get(name, (nu**2).sum(axis=0))
    np.testing.assert_allclose(both.scores, expected, atol=2e-3)


def test_alignment_buys_by_a_power_of_the_positive_correlations():
    found = evidence()
    proposal, _ = amtl.alignment_rule(power=2.0).update(found, ())
    np.testing.assert_allclose(proposal.scores, [0, 0, 0, 0.01, 0.09, 0.25], atol=1e-6)
    fourth, _ = RULES["alignment"].update(found, ())
    np.testing.assert_allclose(fourth.scores, proposal.scores**2, atol=1e-6)
    # What people are told is the relevance of the heads.
    least, _ = RULES["a_mtrl"].update(found, ())
    np.testing.assert_allclose(proposal.relevance.nu, least.relevance.nu)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_known_relevance(power):
    proposal, _ = amtl.known_relevance(NU, power).init(NUM_SOURCES)
    np.testing.assert_allclose(proposal.scores, np.abs(NU) ** power)
    np.testing.assert_allclose(proposal.relevance.nu, NU)


@pytest.mark.parametrize("rule", [amtl.uniform, amtl.a_mtrl, amtl.l1_a_mtrl, amtl.alignment_rule])
def test_every_rule_can_have_a_schedule_and_the_target_in_its_fit(rule):
    plain, chosen = rule(), rule(schedule=(0.3, 0.7), target_in_fit=True)
    assert (plain.schedule, plain.target_in_fit) == (None, False)
    assert (chosen.schedule, chosen.target_in_fit) == ((0.3, 0.7), True)
    assert amtl.known_relevance(NU, schedule=(1.0,)).schedule == (1.0,)
    both = amtl.one_of((chosen, rule(schedule=(0.3, 0.7), target_in_fit=True)))
    assert (both.schedule, both.target_in_fit) == ((0.3, 0.7), True)
    with pytest.raises(ValueError, match="same schedule and target_in_fit"):
        amtl.one_of((plain, chosen))


def test_one_of_acts_by_index_and_keeps_every_proposal():
    joined = RULES["one_of"]
    _, choice = joined.init(NUM_SOURCES)
    for index, name in enumerate(("a_mtrl", "uniform")):
        acting, after = joined.update(evidence(), choice._replace(index=jnp.int32(index)))
        alone, _ = RULES[name].update(evidence(), ())
        chex.assert_trees_all_close(acting, alone)
        chex.assert_trees_all_close(after.proposals[index], alone)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: amtl.known_relevance([[1.0]]), r"finite vector nu \[M\]"),
        (lambda: amtl.known_relevance([np.nan]), r"finite vector nu \[M\]"),
        (lambda: amtl.known_relevance([1.0], 0), "power > 0, got 0"),
        (lambda: amtl.known_relevance([1.0]).init(3), "1 entries, the learner 3 sources"),
        (lambda: amtl.alignment_rule(power=-1), "finite power >= 0, got -1"),
        (lambda: amtl.one_of(()), "same schedule and target_in_fit"),
        (
            lambda: amtl.one_of((amtl.uniform(), amtl.uniform()._replace(schedule=(1.0,)))),
            "one learner for each kind",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
