"""The memory of a campaign: its book, rows and checkpoints, and the fits that are due."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amtl_jax.answer import CANDIDATES
from amtl_jax.data.sources import Rows
from amtl_jax.experiment import checkpoint
from amtl_jax.experiment.campaign_book import Asked, Book, Delivered, Fitted, read_book, write_book
from amtl_jax.experiment.campaign_checks import Checked
from amtl_jax.experiment.campaign_files import read_rows, write_rows
from amtl_jax.experiment.campaign_fit import CampaignLearner
from amtl_jax.experiment.campaign_intake import Intake
from amtl_jax.experiment.checkpoint import Checkpoint, CheckpointError
from amtl_jax.experiment.journal import Journal
from amtl_jax.experiment.model import save_model
from amtl_jax.experiment.rounds import is_good_enough
from amtl_jax.types import LearnerState


class CampaignStore:
    """What a campaign keeps in its workdir, and the learner that it keeps it for.

    Its methods are called while the workdir is locked.
    """

    workdir: Path
    learner: CampaignLearner

    def __init__(self, workdir: Path, config: str, learner: CampaignLearner):
        self.workdir, self.learner = workdir, learner
        self._config = config  # its fingerprint
        self._rows: dict[int, tuple[Rows, list[str | None]]] = {}
        self._fits: list[Checkpoint] = []

    def current(self) -> Book:
        """Returns the book as it is now, after doing what a killed process left undone."""
        return self.fitted(read_book(self.workdir, self._config))

    def write(self, book: Book) -> None:
        """Writes the book."""
        write_book(self.workdir, self._config, book)

    def asking(self, book: Book, index: int, counts: np.ndarray) -> Book:
        """Opens the request of a round, counts `[M]`, and writes the book."""
        names = self.learner.setting.problem.source.names
        wanted = {name: int(count) for name, count in zip(names, counts, strict=True) if count}
        facts = [self._config, index, wanted, [one.sha256 for one in book.deliveries]]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
        asked = Asked(f"r{index + 1}-{digest}", index, wanted)
        book = book._replace(requests=(*book.requests, asked), open=asked.id)
        self.write(book)
        return book

    def keep_rows(self, book: Book, checked: Checked, intake: Intake, sha256: str) -> Book:
        """Writes the accepted rows of a delivery, and returns the book that names them."""
        kept = intake.kept
        rows = Rows(checked.x[kept], checked.y[kept], checked.task[kept], checked.weight[kept])
        row_ids = [checked.row_id[row] for row in kept]
        number = len(book.deliveries) + 1
        write_rows(self.workdir, self._config, number, rows, row_ids, sha256)
        is_catalogue = checked.paid is None
        one = Delivered(sha256, len(kept), intake.target, intake.paid, is_catalogue, intake.counts)
        return book._replace(deliveries=(*book.deliveries, one))

    def known_rows(self, book: Book) -> set[tuple[int, str]]:
        """Returns task and id of all accepted rows that have an id."""
        known = set()
        for number in range(1, len(book.deliveries) + 1):
            rows, row_ids = self._delivered(book, number)
            ids = zip(rows.task.tolist(), row_ids, strict=True)
            known.update((task, row_id) for task, row_id in ids if row_id is not None)
        return known

    def state(self, book: Book) -> LearnerState:
        """Returns the learner's state after the last fit."""
        return self.last(book).state if book.fits else self.learner.fresh()

    def last(self, book: Book) -> Checkpoint:
        """Returns the last fit."""
        return self._checkpoint(book, len(book.fits) - 1)

    def fitted(self, book: Book) -> Book:
        """Fits what is due, the checkpoint first and then the book.

        Raises:
          RunError: if the numbers are not finite; the fit stays due.
        """
        if not book.pending:
            return book
        state = self.state(book)
        # After the end there is no request: what comes then is one more round.
        asked = book.requests[-1].round if book.requests else 0
        fit = Fitted(max(asked, int(state.round)), len(book.deliveries))
        one = self._computed(book, fit, state)
        self._save(fit, one)
        self._fits = [*self._fits[: len(book.fits)], one]
        book = book._replace(fits=(*book.fits, fit), pending=False)
        book = book._replace(finished=book.finished or self._end(one))
        records = [self._checkpoint(book, number).record for number in range(len(book.fits))]
        Journal(self.workdir, self._config, ()).write_metrics(records)
        _after_fit(self.workdir, self.learner, one, num_target=self.num_target(book))
        self.write(book)
        return book

    def sample(self, book: Book) -> Rows:
        """Returns all rows that the last fit was made of, those of the target among them."""
        number = book.fits[-1].deliveries
        return _joined([self._delivered(book, place + 1)[0] for place in range(number)])

    def num_target(self, book: Book) -> int:
        """Returns how many rows the target's sample has by now."""
        new = sum(one.target for one in book.deliveries)
        return self.learner.setting.config.num_target + new

    def _end(self, one: Checkpoint) -> str | None:
        """Why nothing more will be asked after a fit, or None."""
        config = self.learner.setting.config
        if is_good_enough(config, one.record):
            return (
                f"the held-out error {one.record['held_out_error']:.4g} is within the wished "
                f"{config.until:g}"
            )
        if self.learner.next_counts(one.state) is None:
            return "the budget is spent, or its rounds are over"
        return None

    def _computed(self, book: Book, fit: Fitted, state: LearnerState) -> Checkpoint:
        """Computes a fit from what was delivered."""
        parts = [self._delivered(book, number + 1)[0] for number in range(fit.deliveries)]
        told = book.deliveries[: fit.deliveries]
        is_catalogue = all(one.is_catalogue for one in told)
        return self.learner.fit(
            fit.round,
            state,
            _joined(parts),
            bought=book.bought(self.learner.setting.problem.source.names, fit.deliveries),
            paid=None if is_catalogue else sum(one.paid for one in told),
        )

    def _checkpoint(self, book: Book, number: int) -> Checkpoint:
        """Fit `number`, from its file; a damaged one is named in a warning and made anew."""
        while len(self._fits) <= number:
            fit = book.fits[len(self._fits)]
            path, identity = self._place(fit)
            try:
                one = checkpoint.load(path, self.learner.template(), identity=identity)
            except (CheckpointError, FileNotFoundError) as error:
                warnings.warn(f"{error} This round is computed again.", stacklevel=2)
                before = self._fits[-1].state if self._fits else self.learner.fresh()
                one = self._computed(book, fit, before)
                self._save(fit, one)
            self._fits.append(one)
        return self._fits[number]

    def _save(self, fit: Fitted, one: Checkpoint) -> None:
        path, identity = self._place(fit)
        checkpoint.save(path, one, identity=identity)

    def _place(self, fit: Fitted) -> tuple[Path, dict[str, Any]]:
        """File and identity of a fit's checkpoint."""
        slot = self.learner.slot(fit.round)
        journal = Journal(self.workdir, self._config, (slot,))
        return journal.path(slot), journal.identity(slot) | {"deliveries": fit.deliveries}

    def _delivered(self, book: Book, number: int) -> tuple[Rows, list[str | None]]:
        """Rows and ids of delivery `number`, from 1."""
        if number not in self._rows:
            source = self.learner.setting.problem.source
            self._rows[number] = read_rows(
                self.workdir,
                self._config,
                number,
                book.deliveries[number - 1],
                input_shape=source.input_shape,
                num_outputs=source.num_outputs,
            )
        return self._rows[number]


def _joined(parts: Sequence[Rows]) -> Rows:
    return Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _after_fit(
    workdir: Path, learner: CampaignLearner, one: Checkpoint, *, num_target: int
) -> None:
    """Leaves the model of the last fit, so that the campaign's answer can be used at any time."""
    setting = learner.setting_for(num_target)
    facts = {
        "arm": learner.arm,
        "seed": learner.seed,
        "samples_total": one.record["samples_total"],
        "shares": dict(zip(CANDIDATES, map(float, one.answer.shares), strict=True)),
        "test": one.record["answer"]["target"],
        "num_features": one.record["num_features"],
        "diagnosis": one.record.get("diagnosis"),
    }
    save_model(
        workdir,
        setting.config,
        setting.problem,
        setting.encoder,
        one.state.params,
        one.answer,
        facts=facts,
    )
