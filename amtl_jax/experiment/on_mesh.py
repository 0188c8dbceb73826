"""The devices of a run: its mesh, and a round computed on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

from amtl_jax.experiment.config import ConfigError, ScaleConfig
from amtl_jax.scale.mesh import make_mesh, place_whole


def mesh_of(scale: ScaleConfig) -> Mesh | None:
    """The mesh that a config asks for; None where one device does everything.

    Raises:
      ConfigError: if there are not so many devices, or several processes of which it leaves some
        without work.
    """
    wanted = scale.targets * scale.tasks * scale.data
    if wanted == 1 and jax.process_count() == 1:
        return None
    if jax.process_count() > 1 and wanted != len(jax.devices()):
        raise ConfigError(
            f"scale.tasks x scale.data must be all {len(jax.devices())} devices of the "
            f"{jax.process_count()} processes, got {scale.tasks} x {scale.data}."
        )
    try:
        return make_mesh(targets=scale.targets, tasks=scale.tasks, data=scale.data)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def keep_programs(folder: str | None) -> None:
    """Has JAX keep compiled programs in a folder, and look there first.

    Raises:
      OSError: if the folder cannot be made.
    """
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", folder)


def jit_round(tell: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """Compiles `Learner.tell`, on a mesh for a batch that lies on it.

    Returns:
      `(key, state, batch, *own)` to what `tell` gives, on this process's default device.
    """
    if mesh is None:
        return jax.jit(tell)
    compiled = jax.jit(tell, out_shardings=NamedSharding(mesh, Spec()))

    def on_mesh(key: Any, state: Any, batch: Any, *own: Any) -> Any:
        key, state, own = place_whole((key, state, own), mesh)
        with jax.set_mesh(mesh):
            told = compiled(key, state, batch, *own)
        return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), told)

    return on_mesh
