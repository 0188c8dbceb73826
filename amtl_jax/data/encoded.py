"""Rows of a table as inputs: encoded at once, or when they are drawn where a column is on disk."""

import numpy as np

from amtl_jax.data.on_demand import RowsOnDemand
from amtl_jax.data.schema import Schema, encode_table
from amtl_jax.data.stored import StoredMatrix
from amtl_jax.data.tables import Table


class EncodedRows(RowsOnDemand):
    """Rows of a table as inputs `[n, D]`, read and encoded when they are asked for.

    Args:
      schema: how columns become inputs.
      table: where the rows are.
      rows: `[n]` their numbers.
    """

    def __init__(self, schema: Schema, table: Table, rows: np.ndarray):
        self.shape: tuple[int, ...] = (len(rows), schema.num_inputs)
        self._schema = schema
        self._table = table
        self._rows = rows

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Encodes some of the rows; see `encode_table`."""
        return encode_table(self._schema, self._table, self._rows[rows])


def encoded(schema: Schema, table: Table, rows: np.ndarray) -> np.ndarray | EncodedRows:
    """Inputs `[n, D]` of rows of a table, in memory unless one of their columns stays on disk."""
    if stored_bytes(schema, table):
        return EncodedRows(schema, table, rows)
    return encode_table(schema, table, rows)


def stored_bytes(schema: Schema, table: Table) -> int:
    """Bytes of the feature columns that stay on disk."""
    wanted = {feature.name for feature in schema.features}
    columns = [column.values for name, column in table.columns.items() if name in wanted]
    return sum(values.num_bytes for values in columns if isinstance(values, StoredMatrix))
