"""Ask/tell campaigns: a run whose samples somebody collects, saved between the calls."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from amtl_jax.experiment.campaign_book import Book, read_book, write_book
from amtl_jax.experiment.campaign_checks import Checked, checked_delivery
from amtl_jax.experiment.campaign_files import content_hash, locked
from amtl_jax.experiment.campaign_fit import CampaignLearner, campaign_arm
from amtl_jax.experiment.campaign_intake import Intake, take_in
from amtl_jax.experiment.campaign_reports import receipt_of, refused_repeat, request_of, status_of
from amtl_jax.experiment.campaign_store import CampaignStore
from amtl_jax.experiment.campaign_table import delivery_of_table, template_columns
from amtl_jax.experiment.campaign_types import (
    CampaignError,
    Delivery,
    DeliveryError,
    Receipt,
    Request,
    Status,
)
from amtl_jax.experiment.checkpoint import Checkpoint
from amtl_jax.experiment.config import Config
from amtl_jax.experiment.journal import Slot
from amtl_jax.experiment.loading import load_config
from amtl_jax.experiment.observer import LogObserver, Observer
from amtl_jax.experiment.representation import module_text
from amtl_jax.experiment.rounds import Setting
from amtl_jax.experiment.validation import check
from amtl_jax.experiment.workdir import BOOK, claim, fingerprint, refuse_other
from amtl_jax.files import write_atomically
from amtl_jax.types import LearnerState, TaskBatch


def start_campaign(
    config: Config,
    workdir: str | Path,
    *,
    observer: Observer | None = None,
    encoder: object = None,
) -> "Campaign":
    """Starts a campaign in a workdir, or opens the one that is there.

    Args:
      config: as for `run`, with one arm that buys and one seed. The rows of its sources are not
        drawn: they come by deliveries.
      workdir: folder of the campaign, made if missing.
      observer: hears what a person should know; unless told, the logger `amtl_jax` does.
      encoder: a linen module, where `config.encoder.kind` is `module`.

    Raises:
      ConfigError: if the config does not fit together, or the workdir belongs to another config
        or to a run; nothing is written then.
      OSError: if the workdir cannot be read or written.
      ImportError: if the data needs a package that is not installed.
    """
    if encoder is not None and config.encoder.kind == "module":  # known by how it prints
        named = dataclasses.replace(config.encoder, module=module_text(encoder))
        config = dataclasses.replace(config, encoder=named)
    check(config)
    campaign_arm(config)
    workdir = Path(workdir)
    refuse_other(workdir, config, "campaign")
    learner = CampaignLearner(config, observer or LogObserver(), encoder)
    claim(workdir, config)
    with locked(workdir):
        if not (workdir / BOOK).exists():
            write_book(workdir, fingerprint(config), Book(learner.data))
        elif read_book(workdir, fingerprint(config)).data != learner.data:
            raise CampaignError(
                f"The data of the config is not what it was when the campaign in {workdir} "
                "started: its tasks, prices, target sample, test rows or columns differ. Restore "
                "the file; what was collected is told, not added to it."
            )
    return Campaign(config, workdir, learner)


def open_campaign(workdir: str | Path, *, observer: Observer | None = None) -> "Campaign":
    """Opens the campaign of a workdir.

    One whose representation is a module of your own is opened by `start_campaign`, with its config
    and encoder: nothing in a workdir is executed.

    Raises:
      ConfigError: if there is no campaign, or it was made by another version.
      OSError: if the workdir cannot be read or written.
    """
    workdir = Path(workdir)
    if not (workdir / BOOK).is_file():
        raise CampaignError(
            f"{workdir} holds no campaign. amtl ask {workdir} CONFIG starts one, or start_campaign "
            "in Python."
        )
    return start_campaign(load_config(str(workdir / "config.json")), workdir, observer=observer)


class LastFit(NamedTuple):
    """The last fit of a campaign.

    Attributes:
      setting: for the target sample as it is by now.
      slot: arm, seed and number of the fit.
      checkpoint: its state and record.
      batch: the packed samples.
    """

    setting: Setting
    slot: Slot
    checkpoint: Checkpoint
    batch: TaskBatch


class Campaign:
    """A campaign in a workdir; `start_campaign` and `open_campaign` make one.

    Everything is saved before a call returns, and a process that is killed in the middle of one
    leaves a campaign that goes on: what it had begun is finished by the next call. Several
    processes may use one workdir, one at a time.

    Attributes:
      config: of the campaign.
      workdir: its folder.
    """

    config: Config
    workdir: Path

    def __init__(self, config: Config, workdir: Path, learner: CampaignLearner):
        self.config, self.workdir = config, workdir
        self._learner = learner
        self._store = CampaignStore(workdir, fingerprint(config), learner)

    def ask(self) -> Request | None:
        """Returns what to collect next: the same until it was told. None: nothing more.

        Raises:
          CampaignError: if another process is at work here, or the budget cannot be split.
          OSError: if the workdir cannot be read or written.
        """
        with locked(self.workdir):
            book = self._store.current()
            if book.open is None and book.finished is None:
                found = self._learner.next_counts(self._store.state(book))
                if found is not None:
                    book = self._store.asking(book, *found)
            return None if book.open is None else self._request(book)

    def tell(
        self, delivery: Any = None, *, request: str | None = None, close: bool = False
    ) -> Receipt:
        """Takes a delivery in, and fits the round when its request is complete.

        Partial deliveries wait for the rest. Late rows, which answer an older request, and rows
        beyond what was asked join the next fit as long as the budget has room. Rows that were told
        before are refused, by their ids or as a whole delivery. New rows of the target join its
        sample.

        Args:
          delivery: a `Delivery`; or a table, as `read_table` takes it, with the columns of the
            config's table and, where wanted, `row_id`, `paid` and `request`. None: only close.
          request: id that the rows answer, where they do not say; None: the open one.
          close: fits the open round although its request is not complete. A delivery that answers
            older requests alone does not close it.

        Raises:
          DeliveryError: if the delivery is wrong: names the row; nothing was written.
          TableError: if the table cannot be read: names row and column; nothing was written.
          RunError: if the fit's numbers are not finite; the delivery is kept.
          OSError: if the workdir cannot be read or written.
        """
        with locked(self.workdir):
            book = self._store.current()
            num_fits, intake, number = len(book.fits), None, None
            if delivery is None and not close:
                raise DeliveryError("Give a delivery, or close the open request.")
            if delivery is not None:
                checked, sha256 = self._checked(delivery, book, request)
                known = [one.sha256 for one in book.deliveries]
                if sha256 in known:
                    before = known.index(sha256)
                    intake = refused_repeat(checked, self._learner.setting.problem, before + 1)
                    close &= book.open in book.deliveries[before].counts
                else:
                    close &= book.open in {one or book.open for one in checked.request}
                    intake = self._taken_in(checked, book, closing=close)
                    if len(intake.kept):
                        book = self._store.keep_rows(book, checked, intake, sha256)
                        number = len(book.deliveries)
            elif book.open is None:
                raise CampaignError("No request is open: there is nothing to close.")
            book = self._closed(book, close=close, has_news=number is not None)
            self._store.write(book)
            book = self._store.fitted(book)
            return receipt_of(
                book,
                intake,
                number=number,
                budget=self._learner.setting.config.budget,
                fitted=len(book.fits) > num_fits,
            )

    def status(self) -> Status:
        """Returns where the campaign stands.

        Raises:
          CampaignError: if another process is at work here.
          OSError: if the workdir cannot be read or written.
        """
        with locked(self.workdir):
            book = self._store.current()
            request = None if book.open is None else self._request(book)
            record = self._store.last(book).record if book.fits else None
            return status_of(book, self.config, self._learner, request, record)

    def columns(self) -> list[str]:
        """Returns the columns of a delivery in a table, those that may be left out at the end."""
        return template_columns(self._learner.setting.problem, self.config.data)

    def state(self) -> LearnerState:
        """Returns the learner's state after the last fit."""
        with locked(self.workdir):
            return self._store.state(self._store.current())

    def last_fit(self) -> LastFit:
        """Returns the last fit with the samples that it was made of.

        Raises:
          CampaignError: if nothing was fitted yet, or another process is at work here.
          OSError: if the workdir cannot be read or written.
        """
        with locked(self.workdir):
            book = self._store.current()
            if not book.fits:
                raise CampaignError(
                    f"The campaign in {self.workdir} has no fit yet: its first request is open."
                )
            one, sample = self._store.last(book), self._store.sample(book)
            setting, batch = self._learner.packed(sample)
            return LastFit(setting, self._learner.slot(len(book.fits) - 1), one, batch)

    def _request(self, book: Book) -> Request:
        """The open request in full; its file is written again where it is missing."""
        request = request_of(book, self._learner)
        path = self.workdir / "requests" / f"{request.id}.json"
        if not path.exists():
            body = json.dumps(request._asdict(), indent=2, allow_nan=False)
            write_atomically(path, body.encode() + b"\n")
        return request

    def _checked(self, delivery: Any, book: Book, request: str | None) -> tuple[Checked, str]:
        """The delivery as arrays, and what it is known by."""
        problem = self._learner.setting.problem
        if not isinstance(delivery, Delivery):
            delivery = delivery_of_table(delivery, problem, self.config.data)
        checked = checked_delivery(
            delivery,
            problem,
            requests=[one.id for one in book.requests],
            default=request,
            has_prices=self._learner.prices is not None,
        )
        arrays = (checked.x, checked.y, checked.weight)
        return checked, content_hash(list(map(str, delivery.task)), arrays, checked.row_id)

    def _taken_in(self, checked: Checked, book: Book, *, closing: bool) -> Intake:
        return take_in(
            checked,
            self._learner.setting.problem,
            book,
            seen=self._store.known_rows(book),
            own_rows=self._learner.own_rows(),
            budget=self._learner.setting.config.budget,
            price=self._learner.prices,
            closing=closing,
        )

    def _closed(self, book: Book, *, close: bool, has_news: bool) -> Book:
        """Says in the book whether a fit is due."""
        if book.open is None:
            # Nobody will ask again, so what comes after the end is fitted at once.
            return book._replace(pending=has_news and book.finished is not None)
        setting = self._learner.setting
        source = setting.problem.source
        price = dict(zip(source.names, source.price.tolist(), strict=True))
        if not (close or book.is_complete(price, setting.config.budget)):
            return book
        if not any(one.rows > one.target for one in book.deliveries):
            raise DeliveryError("Not one source sample was delivered yet; there is nothing to fit.")
        return book._replace(open=None, pending=True)
