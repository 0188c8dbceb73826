"""The benchmark of what says best which sources to buy from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mnist_c_files import write_archive

import amtl_jax as amtl
from amtl_jax.experiment.config import EncoderConfig, FitConfig, MnistCConfig
from amtl_jax.experiment.loading import load_config
from benchmarks.source_evidence import correlations, gradient_cosines, leave_one_out_gains
from benchmarks.source_scores import ARMS, errors, main, table

NUM_SOURCES, DIM, FEATURES = 5, 8, 3


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(NUM_SOURCES), 30)
    x, y = rng.normal(size=(150, DIM)), rng.normal(size=150)
    batch = amtl.pack(x, y, task, num_tasks=NUM_SOURCES, block_rows=8)
    kernel = jnp.asarray(rng.normal(size=(DIM, FEATURES)), jnp.float32)
    features = jnp.matmul(batch.x, kernel, precision="highest")
    stats = amtl.head_stats(features, batch, num_tasks=NUM_SOURCES)
    own_x = jnp.asarray(rng.normal(size=(40, DIM)), jnp.float32)
    own_y = jnp.asarray(rng.normal(size=40), jnp.float32)
    heads = amtl.solve_heads(stats, ridge=1e-2)
    return task, x, y, batch, kernel, heads, own_x, own_y


def test_cosines_are_those_of_the_gradients(problem):
    task, x, y, batch, kernel, heads, own_x, own_y = problem
    head = amtl.loo_ridge(own_x @ kernel, own_y[:, None], jnp.ones(40)).head

    def gradient(x, y, weight, bias):
        def loss(kernel):
            return jnp.sum((x @ kernel @ weight[:, 0] + bias[0] - y) ** 2)

        return np.asarray(jax.grad(loss)(kernel), np.float64).ravel()

    own = gradient(own_x, own_y, head.weight, head.bias)
    found = gradient_cosines(kernel, heads, batch, own_x, own_y, head)
    for source in range(NUM_SOURCES):
        rows = task == source
        other = gradient(
            jnp.float32(x[rows]), jnp.float32(y[rows]), heads.weight[source], heads.bias[source]
        )
        cosine = own @ other / np.linalg.norm(own) / np.linalg.norm(other)
        assert float(found[source]) == pytest.approx(cosine, abs=1e-4)


def test_correlations_and_gains_are_those_of_the_predictions(problem):
    *_, kernel, heads, own_x, own_y = problem
    features = own_x @ kernel
    predicted = np.asarray(features @ heads.weight[..., 0].T, np.float64)
    wanted = [np.corrcoef(one, own_y)[0, 1] for one in predicted.T]
    np.testing.assert_allclose(correlations(features, own_y, heads), wanted, atol=1e-5)
    # A source whose head is the target's own truth explains all of it, one against it nothing.
    truth = jnp.stack([heads.weight[0], -heads.weight[0]])
    label = features @ heads.weight[0, :, 0]
    label = label + 0.1 * jnp.asarray(np.random.default_rng(1).normal(size=40), jnp.float32)
    gains = leave_one_out_gains(features, label, amtl.Heads(truth, None, None))
    assert gains[0] > 0
    assert float(gains[1]) == pytest.approx(0, abs=1e-7)
    assert (correlations(features, jnp.ones(40), heads) == 0).all()


def test_every_arm_is_judged_on_every_target(tmp_path, capsys):
    root = write_archive(tmp_path)
    config = dataclasses.replace(
        load_config("mnist_c_linear"),
        data=MnistCConfig(root=str(root), num_source=20, num_pool=20),
        num_target=20,
        budget=900,
        encoder=EncoderConfig(num_features=3),
        fit=FitConfig(num_steps=5, penalty=1e-4, warm_start=False),
    )
    found = [*errors(config, (0,), first=2), *errors(config, (1,), first=2)]
    assert [one[:2] for one in found] == [
        (name, seed) for seed in (0, 1) for name in ("brightness", "canny_edges")
    ]
    for *_, values in found:
        assert values.shape == (len(ARMS), 10, 2)
        assert np.isfinite(values).all()
    lines = list(table(found))
    assert [line.split(" | ")[0][2:] for line in lines[2:]] == list(ARMS[1:])
    for place in (0, 2):  # a file of each seed
        names, seeds, values = zip(*found[place : place + 2], strict=True)
        np.savez(tmp_path / f"{place}.npz", names=names, seeds=seeds, values=np.stack(values))
    page = tmp_path / "page.md"
    page.write_text("# Tables\n\n## other\n\n```sh\nother\n```\n")
    words = ["--merge", str(tmp_path / "0.npz"), str(tmp_path / "2.npz"), "--page", str(page)]
    for _ in range(2):
        main(words)
        assert capsys.readouterr().out.splitlines() == lines
    text = page.read_text("utf-8")
    assert text.count("\n".join(lines)) == text.count("\n## other\n") == 1
    assert "--root mnist_c --seeds 0 1\n" in text
    # Arms differ, and the same seed finds the same.
    assert len({values[:, :, 0].tobytes() for *_, values in found}) == len(found)
