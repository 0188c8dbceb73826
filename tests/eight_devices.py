"""What `test_eight_devices.py` looks at, computed on eight devices of a CPU.

    python tests/eight_devices.py FOLDER

writes `arrays.npz`, numbers by `<mesh>/<name>`, and `facts.json`. A process of its own, because
XLA_FLAGS and NPROC, which that test sets, tell before JAX starts how many devices there are.
"""

import dataclasses
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

import amtl_jax as amtl
from amtl_jax.encoding import encode_live
from amtl_jax.experiment.buying import buy
from amtl_jax.experiment.config import EncoderConfig, FitConfig, ScaleConfig
from amtl_jax.experiment.on_mesh import jit_round
from amtl_jax.experiment.preview import preview
from amtl_jax.experiment.study.cases import batched, several
from amtl_jax.scale.mesh import make_mesh, place_batch, place_whole
from amtl_jax.sharded import num_parts

MESHES = {
    "none": None,
    "data_1": {"data": 1},
    "data_2": {"data": 2},
    "data_8": {"data": 8},
    "tasks_4_data_2": {"tasks": 4, "data": 2},
}
ROUNDS, FITS, FEATURES = ("none", "data_8"), ("none", "tasks_4_data_2"), ("none", "data_8")
NUM_TASKS, LARGEST = 13, 9
NUM_SOURCES, NUM_TARGET, BUDGET = 8, 20, 400


def skewed_batch(inputs: tuple[int, ...], *, rows: int, block_rows: int) -> amtl.TaskBatch:
    """Samples of which a fifth are of one task, one task has none, and one a single row."""
    counts = np.full(NUM_TASKS, rows * 4 // 5 // (NUM_TASKS - 2))
    counts[[2, 5, LARGEST]] = 1, 0, rows // 5
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(NUM_TASKS), counts)
    x = rng.normal(size=(len(task), *inputs)).astype(np.float32)
    columns = x.reshape(len(x), -1)
    # Two shared directions, another head a task, and noise.
    theta = rng.normal(size=(NUM_TASKS, 2)) @ rng.normal(size=(2, columns.shape[1]))
    y = (columns * theta[task]).sum(axis=1) + rng.normal(size=len(x)) + 1.0
    weight = rng.uniform(0.5, 2.0, len(x)).astype(np.float32)
    return amtl.pack(
        x, y.astype(np.float32), task, weight, num_tasks=NUM_TASKS, block_rows=block_rows
    )


def mesh_of(name):
    return None if MESHES[name] is None else make_mesh(**MESHES[name])


def on(name, function, batch, *shared):
    """What `function(batch, *shared)` gives on a mesh, twice the same, and the program it was."""
    mesh = mesh_of(name)
    if mesh is None:
        program = jax.jit(function).lower(batch, *shared).compile()
        return twice(program, batch, *shared), program.as_text()
    placed = place_batch(batch, mesh), *place_whole(shared, mesh)
    with jax.set_mesh(mesh):
        program = jax.jit(function).lower(*placed).compile()
        return twice(program, *placed), program.as_text()


def twice(program, *arguments):
    """NumPy arrays of what a program gives; it must give the same bits again."""
    one, again = (jax.tree.map(np.asarray, program(*arguments)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, again, one)
    return one


def statistics(name):
    """Statistics and heads of 64 features: without a mesh and on two devices in several tiles."""
    batch = skewed_batch((64,), rows=6000, block_rows=64)

    def stats_of(batch):
        return amtl.head_stats(batch.x, batch, num_tasks=NUM_TASKS)

    stats, text = on(name, stats_of, batch)
    heads, _ = on(name, lambda batch: amtl.solve_heads(stats_of(batch), ridge=0.1), batch)
    size = -(-len(batch.task) // num_parts(1))
    facts = communication(text) | {
        "parts_of_largest": len({*(np.flatnonzero(batch.task == LARGEST) // size).tolist()})
    }
    return {**stats._asdict(), **heads._asdict()}, facts


def communication(text):
    """Collectives of a compiled program: how many sums, and sizes of what else travels."""
    others = r"= \(?(\w+\[[\d,]*\]).* (?:all-gather|all-to-all|collective-permute)(?:-start)?\("
    return {
        "sums": len(re.findall(r"= .*all-reduce\(|all-reduce-start\(", text)),
        "others": re.findall(others, text),
    }


def fits(name):
    batch = skewed_batch((6,), rows=1000, block_rows=16)
    found = {}
    for kind, make in (("lbfgs", amtl.lbfgs_fitter), ("gram", amtl.gram_fitter)):
        fitter = make(amtl.linear_encoder(2), num_tasks=NUM_TASKS, num_steps=60)

        def fit(batch, fitter=fitter):
            return fitter.fit(fitter.init(jax.random.key(0), batch, 1e-3), batch, 1e-3)

        one, _ = on(name, fit, batch)
        # Features are known up to a rotation; what they and the heads predict is not.
        theta = np.einsum("dk,mko->mdo", one.params["params"]["kernel"], one.heads.weight)
        found |= {f"{kind}_objective": one.objective, f"{kind}_theta": theta}
        found |= {f"{kind}_bias": one.heads.bias}
    return found


def features(name):
    """Of a convolution, two blocks at a time, and those of rows that count."""
    batch = skewed_batch((6, 6, 1), rows=500, block_rows=16)
    encoder = amtl.conv_encoder(3, channels=(2,))._replace(chunk_rows=32)
    params = encoder.init(jax.random.key(0), jnp.asarray(batch.x[0]))

    def encoded(batch, params):
        return encode_live(encoder, params, batch.x, batch.weight)

    found, _ = on(name, encoded, batch, params)
    counts = np.asarray(batch.weight) > 0
    return {"features": found[: len(counts)][counts]}


def rounds(name):
    """Two rounds of a learner: counts, and how often each was traced and compiled."""
    traces, compiles = [], []

    def heard(event, seconds, **_):
        del seconds
        if event == "/jax/core/compile/backend_compile_duration":
            compiles.append(event)

    jax.monitoring.register_event_duration_secs_listener(heard)
    rule = amtl.a_mtrl()

    def update(evidence, state):
        traces.append(name)
        return rule.update(evidence, state)

    options = {"num_tasks": NUM_SOURCES + 1, "intercept": False, "num_steps": 30}
    learner = amtl.active_learner(
        amtl.lbfgs_fitter(amtl.linear_encoder(2), **options),
        rule._replace(update=update),
        num_sources=NUM_SOURCES,
        num_target=NUM_TARGET,
        budget=BUDGET,
        penalty=1e-3,
    )
    key, tell = jax.random.key(0), jit_round(learner.tell, mesh_of(name))
    state = learner.init(key, bought(np.zeros(NUM_SOURCES, int)))
    counts, traced, compiled = [], [], []
    for index in range(2):
        own = jax.random.fold_in(key, index)
        counts.append(np.asarray(learner.ask(own, state)))
        batch = bought(np.asarray(state.spent) + counts[-1])
        mesh = mesh_of(name)
        batch = batch if mesh is None else place_batch(batch, mesh)
        before = len(traces), len(compiles)
        state, info = tell(own, state, batch)
        traced.append(len(traces) - before[0])
        compiled.append(len(compiles) - before[1])
    counts.append(np.asarray(learner.ask(key, state)))  # what the second round taught
    return {"counts": np.stack(counts), "relevance": info.relevance.nu}, {
        "traced": traced,
        "compiled": compiled,
    }


def bought(spent):
    truth = amtl.synthetic_truth(
        "dup", seed=0, num_tasks=NUM_SOURCES, input_dim=6, num_features=2, noise=0.3
    )
    source, key = amtl.SyntheticSource(truth), jax.random.key(0)
    rows, target = source.draw(key, spent), source.draw_target(key, NUM_TARGET)
    x, y, task = (np.concatenate(parts) for parts in zip(rows[:3], target[:3], strict=True))
    num_blocks = amtl.max_blocks(BUDGET + NUM_TARGET, NUM_SOURCES + 1, 16)
    return amtl.pack(x, y, task, num_tasks=NUM_SOURCES + 1, block_rows=16, num_blocks=num_blocks)


def purchases():
    """Half of a budget bought on eight devices: blocks with rows on each, and what was asked for.

    The samples come from a function, of which no row may be asked for twice.
    """
    truth = amtl.synthetic_truth("dup", seed=0, num_tasks=NUM_SOURCES, input_dim=6, num_features=2)
    made, key, asked = amtl.SyntheticSource(truth), jax.random.key(0), []
    target, counts = made.draw_target(key, NUM_TARGET), np.array([90, 5, 0, 40, 3, 30, 20, 12])

    def draw(task, rows, seed):
        asked.extend((task, row) for row in rows.tolist())
        x = np.random.default_rng(seed).normal(size=(500, 6))[rows]
        return x, x[:, 0] + made.names.index(task)

    source = amtl.CallableSource(draw, made.names, input_shape=(6,))
    data = amtl.SyntheticConfig("dup", num_tasks=NUM_SOURCES)
    config = amtl.Config("some", data, num_target=NUM_TARGET, budget=BUDGET, block_rows=4)
    alone = buy(config, SimpleNamespace(source=source), None, key, counts, target).samples
    arrays = {f"alone/{name}": leaf for name, leaf in alone._asdict().items()}
    facts = {"asked": len(asked), "twice": len(asked) - len(set(asked)), "live": {}}
    asked.clear()
    again = SimpleNamespace(source=amtl.CallableSource(draw, made.names, input_shape=(6,)))
    for lengths in (1, 8):
        own = dataclasses.replace(config, scale=ScaleConfig(data=8, lengths=lengths))
        batch = buy(own, again, mesh_of("data_8"), key, counts, target).samples
        arrays |= {f"{lengths}/{name}": leaf for name, leaf in batch._asdict().items()}
        shards = sorted(batch.weight.addressable_shards, key=lambda one: one.index[0].start)
        live = [int(np.asarray(one.data).any(axis=1).sum()) for one in shards]
        facts["live"][lengths] = live
    facts["asked_on_mesh"] = len(asked)
    facts["twice"] += len(asked) - len(set(asked))
    return {name: np.asarray(leaf) for name, leaf in arrays.items()}, facts


def dry_run():
    """What a dry run of eight devices says of its batch and of a round's fit."""
    config = amtl.Config(
        "some",
        amtl.SyntheticConfig("dup", num_tasks=NUM_SOURCES, input_dim=6, num_features=2),
        num_target=NUM_TARGET,
        budget=BUDGET,
        schedule=(0.5, 0.5),
        encoder=EncoderConfig(num_features=2),
        fit=FitConfig(num_steps=5, penalties=(1e-2, 1e-3)),
        arms=("uniform",),
        block_rows=4,
        scale=ScaleConfig(data=8),
    )
    found = preview(config)
    return {"blocks": found.batch_shape[0], "seconds": found.cost.seconds}


def campaigns():
    """Fits of three targets, one by one and dealt to four devices; what travels between those."""
    batch = skewed_batch((6,), rows=500, block_rows=16)
    fitter = amtl.lbfgs_fitter(amtl.linear_encoder(2), num_tasks=NUM_TASKS, num_steps=5)

    def fit(batch, scale):
        own = batch._replace(y=scale * batch.y)
        return fitter.fit(fitter.init(jax.random.key(0), own, 1e-3), own, 1e-3).objective

    mesh, scales = make_mesh(targets=4), jnp.arange(1.0, 5.0)
    cases = [(scale,) for scale in scales[:3]]
    one = several(fit, 1)
    alone = [one(batch, [case])[0] for case in cases]
    dealt = several(fit, 1, mesh)(place_whole(batch, mesh), cases)
    program = jax.jit(batched(fit, 1, 1, mesh)).lower(batch, scales).compile()
    return {"alone": np.stack(alone), "dealt": np.stack(dealt)}, communication(program.as_text())


def main(folder):
    arrays, facts = {}, {"devices": len(jax.devices())}
    for name in MESHES:
        found, facts[f"{name}/statistics"] = statistics(name)
        arrays |= {f"{name}/{key}": value for key, value in found.items()}
    for names, compute in ((FITS, fits), (FEATURES, features)):
        for name in names:
            arrays |= {f"{name}/{key}": value for key, value in compute(name).items()}
    for name in ROUNDS:
        found, facts[f"{name}/programs"] = rounds(name)
        arrays |= {f"{name}/{key}": value for key, value in found.items()}
    found, facts["purchases"] = purchases()
    arrays |= {f"purchases/{key}": value for key, value in found.items()}
    facts["dry_run"] = dry_run()
    found, facts["campaigns"] = campaigns()
    arrays |= {f"campaigns/{key}": value for key, value in found.items()}
    np.savez(Path(folder) / "arrays.npz", **arrays)
    (Path(folder) / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1])
