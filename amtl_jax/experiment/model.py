"""What a run leaves: a predictor of the target that needs nothing but its folder."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

import amtl_jax
from amtl_jax.answer import CANDIDATES, Answer, answer_template
from amtl_jax.chunks import in_chunks
from amtl_jax.data.columns import TableError
from amtl_jax.data.encoded import EncodedRows, encoded
from amtl_jax.data.rows import checked_inputs
from amtl_jax.data.schema import Schema, schema_from_plain, schema_to_plain
from amtl_jax.data.tables import Table, read_table
from amtl_jax.experiment.config import Config, ConfigError, EncoderConfig, to_plain
from amtl_jax.experiment.model_files import (
    FOLDER,
    ModelError,
    read_arrays,
    read_card,
    write_model,
)
from amtl_jax.experiment.predictor import predictor, transformer
from amtl_jax.experiment.problem import Problem
from amtl_jax.experiment.representation import encoder_from_settings, module_text
from amtl_jax.types import Encoder, Params

_KINDS = ("regression", "binary", "multiclass")


class Model:
    """Predicts the target task from new inputs. `amtl_jax.load(workdir)` makes one.

    Attributes:
      card: what the model says of itself: target, schema of the inputs, sources, how the answer is
        composed, its test metrics, the version that made it.
    """

    card: dict[str, Any]

    def __init__(
        self, card: dict[str, Any], encoder: Encoder | None, params: Params, answer: Answer
    ):
        self.card = card
        self._params, self._answer = params, answer
        self._schema = None if card["schema"] is None else schema_from_plain(card["schema"])
        self._predict = predictor(encoder)
        self._transform = jax.jit(transformer(encoder))

    def __repr__(self) -> str:
        """In one line."""
        made_of = ", ".join(
            f"{share:.2f} {name}"
            for name, share in zip(CANDIDATES, self._answer.shares, strict=True)
            if share > 0
        )
        return f"<Model of {self.card['target']}: {self.card['kind']}, {made_of}>"

    @property
    def schema(self) -> Schema | None:
        """The columns it needs, where it was made from a table."""
        return self._schema

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the outputs; empty for regression."""
        return tuple(self.card["classes"])

    def predict(self, x: Any) -> np.ndarray:
        """Predicts new inputs.

        Args:
          x: `[n, ...]` inputs as the sources have them, unsigned bytes being images; or, for a
            model of a table, a table: a path, a mapping of columns, or anything with
            `__arrow_c_stream__`. Columns may come in any order, and others may be among them. For
            a single column, such as an embedding, an array will do.

        Returns:
          `[n]` numbers in the units of the label; for classes `[n]` their names.

        Raises:
          ValueError: if the inputs do not fit: names the column, or the shape.
        """
        return self.decide(self.scores(x))

    def scores(self, x: Any) -> np.ndarray:
        """Outputs behind `predict`, `[n, O]`; see there for `x`.

        A number a row for regression and two classes (above ½ it is the second class), one for
        each class where there are more: the largest decides. They are least-squares fits to 0 and
        1, not probabilities.
        """
        outputs = self._predict(self._params, self._answer, self._inputs(x))
        offset, scale = self.card["offset"], self.card["scale"]
        if (offset, scale) == (0.0, 1.0):
            return outputs
        return offset + scale * outputs.astype(np.float64)

    def transform(self, x: Any) -> np.ndarray:
        """The learned representation of new inputs, `[n, K]` float32; see `predict` for `x`."""
        return in_chunks(self._transform, self._params, self._inputs(x))

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """Numbers, or names of classes."""
        if self.card["kind"] == "regression":
            return scores[:, 0]
        index = scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0.5).astype(int)
        return np.asarray(self.classes)[index]

    def _inputs(self, x: Any) -> np.ndarray | EncodedRows:
        shape = tuple(self.card["input_shape"])
        is_array = isinstance(x, np.ndarray | jax.Array | list)
        if self._schema is not None and is_array and len(self._schema.features) == 1:
            x, is_array = {self._schema.features[0].name: np.asarray(x)}, False
        if self._schema is not None and not is_array:
            table = x if isinstance(x, Table) else read_table(x)
            return encoded(self._schema, table, np.arange(table.num_rows))
        if self._schema is not None:
            raise ModelError(
                f"This model was made from a table: give a table with the columns "
                f"{', '.join(feature.name for feature in self._schema.features)} (a path, a mapping"
                " of columns, or a data frame), not an array."
            )
        if isinstance(x, str | os.PathLike | Mapping) or hasattr(x, "__arrow_c_stream__"):
            raise ModelError(f"This model predicts arrays [n, {_dims(shape)}], not tables.")
        try:
            return checked_inputs("inputs", x, shape).astype(np.float32)
        except ValueError as error:
            raise ModelError(str(error)) from error


def _dims(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def save_model(
    workdir: Path,
    config: Config,
    problem: Problem,
    encoder: Encoder | None,
    params: Params,
    answer: Answer,
    *,
    facts: dict[str, Any],
) -> Model:
    """Writes `WORKDIR/model/`.

    Args:
      workdir: folder of the run.
      config: of the run.
      problem: its tasks.
      encoder: of the representation; None where the answer looks at the inputs alone.
      params: its parameters, host arrays.
      answer: host arrays.
      facts: plain data that the card has besides: seed, arm, test metrics.

    Raises:
      OSError: if it cannot be written.
    """
    table = problem.table
    settings = None
    if encoder is not None:
        settings = to_plain(config)["encoder"] | {"num_features": encoder.num_features}
    classes = table.label.classes if table else ("0", "1") if problem.kind == "binary" else ()
    card = {
        "amtl_jax": amtl_jax.__version__,
        "name": config.name,
        "target": problem.target_name,
        "kind": problem.kind,
        "classes": list(classes),
        "offset": problem.offset,
        "scale": problem.scale,
        "input_shape": list(problem.source.input_shape),
        "num_outputs": problem.source.num_outputs,
        "schema": None if table is None else schema_to_plain(table.schema),
        "label": None if table is None else table.label.column,
        "encoder": settings,
        "source_names": list(problem.source.names),
        "num_target": problem.num_target,
        **facts,
    }
    write_model(workdir / FOLDER, card, {"params": params, "answer": answer})
    return Model(read_card(workdir / FOLDER), encoder, params, answer)


def load(workdir: str | Path, *, encoder: Any = None) -> Model:
    """Loads the model that a run left in its workdir.

    In a new process it predicts what it predicted in the run, bit for bit on the same kind of
    device. Nothing in the folder is executed: a representation of your own is given as `encoder`.

    Args:
      workdir: of the run; or its folder `model`, which may have been copied elsewhere.
      encoder: the linen module, where the run's `encoder.kind` was `module`.

    Raises:
      ModelError: if there is no model, or it is damaged; a `ValueError`.
      OSError: if a file cannot be read.
    """
    folder = Path(workdir)
    if (folder / FOLDER).is_dir():
        folder = folder / FOLDER
    card = read_card(folder)
    try:
        shape, num_outputs = _checked_card(card)
        own = None
        if card["encoder"] is not None:
            settings = dict(card["encoder"])
            widths = settings["widths"]
            settings["widths"] = None if widths is None else tuple(widths)
            if encoder is not None and module_text(encoder) != settings["module"]:
                raise ModelError(
                    f"{folder}: the model's encoder was {settings['module']}, got "
                    f"{module_text(encoder)}."
                )
            own = encoder_from_settings(EncoderConfig(**settings), shape, encoder)
        template = {
            "params": () if own is None else _params_template(own, shape),
            "answer": answer_template(
                int(np.prod(shape)), 0 if own is None else own.num_features, num_outputs
            ),
        }
        arrays = read_arrays(folder, card, template)
        return Model(card, own, arrays["params"], arrays["answer"])
    except ModelError:
        raise
    except ConfigError as error:
        raise ModelError(f"{folder}: {error}") from error
    except (KeyError, TypeError, TableError) as error:
        raise ModelError(
            f"{folder}: the card is not one of a model ({type(error).__name__}: {error}). Run its "
            "config again."
        ) from error


def _checked_card(card: dict[str, Any]) -> tuple[tuple[int, ...], int]:
    """Input shape and outputs of a card whose numbers can be believed."""
    shape, num_outputs, classes = card["input_shape"], card["num_outputs"], card["classes"]
    sizes = [*shape, num_outputs]
    if any(type(size) is not int or not 1 <= size <= 10**9 for size in sizes):
        raise TypeError(f"sizes {sizes!r:.80}")
    if card["kind"] not in _KINDS or any(type(name) is not str for name in classes):
        raise TypeError(f"kind {card['kind']!r:.40} with classes {classes!r:.80}")
    wanted = {"regression": 0, "binary": 2, "multiclass": num_outputs}[card["kind"]]
    if len(classes) != wanted:
        raise TypeError(f"{len(classes)} classes, expected {wanted}")
    for name in ("offset", "scale"):
        if type(card[name]) not in (int, float) or not np.isfinite(card[name]):
            raise TypeError(f"{name} {card[name]!r:.40}")
    return tuple(shape), num_outputs


def _params_template(encoder: Encoder, shape: tuple[int, ...]) -> Params:
    row = jax.ShapeDtypeStruct((1, *shape), np.float32)
    return jax.eval_shape(encoder.init, jax.random.key(0), row)
