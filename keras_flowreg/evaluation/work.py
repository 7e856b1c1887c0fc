"""The work of an evaluation, batch by batch: what is proven, and then what attacks do to the rest."""

import functools
import time
from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np

from keras_flowreg.attacks import Attack
from keras_flowreg.attacks.chunks import filled_chunks
from keras_flowreg.attacks.raised_loss import RaisedLoss
from keras_flowreg.attacks.runner import expect_examples, traced_classifier
from keras_flowreg.batches import Batches
from keras_flowreg.evaluation.certified import Certifier
from keras_flowreg.evaluation.journal import Journal, digest
from keras_flowreg.evaluation.record import AttackRecord
from keras_flowreg.evaluation.results import Run
from keras_flowreg.evaluation.shards import Shard
from keras_flowreg.ops.validation import as_images
from keras_flowreg.types import Images, KerasModel, Labels, LossFunction

_SECONDS_BETWEEN_UPDATES = 0.5  # of the progress bar
_PROOF = "certify", "linf"  # what a journal calls a proof, with its radius; an attack has but two parts


class Search(NamedTuple):
    """An attack, and the loss that it raises."""

    attack: Attack
    loss: LossFunction

    def expect_examples(self, model: KerasModel, images: Images, labels: Labels) -> None:
        """Checks that a batch is one that the attack takes, and that every label is a class of the model's.

        Raises:
          TypeError: if images or labels are not numbers.
          ValueError: if they are not such a batch. A label that the loss ignores is no class.
        """
        checked, labels = expect_examples(self.attack, images, labels, model)
        predictions = traced_classifier(model, checked, self.attack.jit_compile).predictions
        RaisedLoss(self.loss, targeted=False).expect_labels(labels, predictions)


class Batch(NamedTuple):
    """Images and labels, and what tells them from others."""

    number: int
    images: Images
    labels: Labels
    data: str  # their `digest`


class Work:
    """Certifies and attacks an evaluation's batches, one after another, and keeps what is done.

    ```python
    from keras_flowreg.batches import Batches
    from keras_flowreg.evaluation.certified import Certifier
    from keras_flowreg.evaluation.journal import Journal
    from keras_flowreg.evaluation.shards import Shard
    from keras_flowreg.evaluation.work import Search, Work

    searches = {fr.evaluation.Run("FlowFGSM", 0.4): Search(fr.attacks.FlowFGSM(0.4), model.loss)}
    work = Work(model, searches, Certifier(model, [0.4]), Journal(None, {}))
    records, certified = work.done(Batches((images, labels), "data"), Shard(1, 1))
    print(certified[0.4].mean(), [1 - record.success.mean() for record in records.values()])
    ```

    Args:
      model: the Keras model.
      searches: `{Run: Search}`.
      certifier: proves, at its radii, what attacks then leave out.
      journal: has what is done already, and is given what is done now.
    """

    def __init__(self, model: KerasModel, searches: Mapping[Run, Search], certifier: Certifier, journal: Journal):
        self._model = model
        self._searches = searches
        self._certifier = certifier
        self._journal = journal
        self._records: dict[Run, list[AttackRecord]] = {}

    def done(
        self, batches: Batches, shard: Shard, verbose: int = 0
    ) -> tuple[dict[Run, AttackRecord], dict[float, np.ndarray]]:
        """Does all of it.

        Args:
          batches: the data.
          shard: which of the batches are done.
          verbose: 1 for a progress bar, 0 for silence.

        Returns:
          `({Run: AttackRecord}, {ε: bool [examples]})`: what each attack did to all examples, and which are certified.

        Raises:
          ValueError: if there is no batch in the shard, or the journal holds what is not of these data.
        """
        self._records = {run: [] for run in self._searches}
        certified: dict[float, list[np.ndarray]] = {epsilon: [] for epsilon in self._certifier.epsilons}
        progress = self._progress(batches.size(), shard, verbose)
        for number, (images, labels) in enumerate(batches):
            if shard.takes(number):
                for search in self._searches.values():
                    search.expect_examples(self._model, images, labels)
                batch = Batch(number, images, labels, digest([images, labels]))
                proven = self._prove(batch, progress)
                for epsilon, of_batch in proven.items():
                    certified[epsilon].append(of_batch)
                self._attack(batch, proven, progress)
        shard.expect_batches(min(map(len, self._records.values())))
        records = {run: AttackRecord.joined(parts) for run, parts in self._records.items()}
        return records, {epsilon: np.concatenate(parts) for epsilon, parts in certified.items()}

    def _progress(self, batches, shard, verbose):
        """A bar over each proof and each attack of each batch."""
        pieces = len(self._searches) + len(self._certifier.epsilons)
        total = None if batches is None else pieces * sum(map(shard.takes, range(batches)))
        names = [str(run) for run in self._searches]
        return keras.utils.Progbar(
            total, verbose=verbose, interval=_SECONDS_BETWEEN_UPDATES, stateful_metrics=names, unit_name="attack"
        )

    def _prove(self, batch, progress):
        """`{ε: bool [batch]}`, which examples are certified."""
        proven: dict[float, np.ndarray] = {}
        # What holds in a ball holds in a smaller one.
        known = np.zeros(len(batch.images), bool)
        for epsilon in reversed(self._certifier.epsilons):
            prove = functools.partial(self._certifier.prove, batch.images, batch.labels, epsilon, known)
            found = self._recorded(batch, (*_PROOF, epsilon), prove)
            proven[epsilon] = known = np.array(found.get("certified", ()), bool)
            _expect_size(known, batch, f"the proof at {epsilon:g} px")
            progress.add(1)
        return {epsilon: proven[epsilon] for epsilon in self._certifier.epsilons}

    def _attack(self, batch, proven, progress):
        for run, search in self._searches.items():
            chosen = self._certifier.attacked(search.attack, proven, batch.number, len(batch.images))
            attack = functools.partial(self._attack_some, batch, search, chosen)
            record = AttackRecord.from_dict(self._recorded(batch, run, attack))
            _expect_size(record.success, batch, run)
            self._records[run].append(record)
            left = 1 - np.mean(AttackRecord.joined(self._records[run]).success)
            progress.add(1, [(str(run), left)])

    def _attack_some(self, batch, search, chosen):
        """The record of a batch of which the examples `chosen`, bool `[batch]`, are attacked, as plain values."""
        rows, record = np.flatnonzero(chosen), AttackRecord.of_no_attack(len(chosen))
        for positions, count in self._chunks(len(rows), batch.images, search.attack):
            start, taken = time.perf_counter(), rows[positions]
            result = search.attack.run(batch.images[taken], batch.labels[taken], model=self._model, loss=search.loss)
            record = record.with_rows(taken[:count], AttackRecord.from_result(result, time.perf_counter() - start))
        return record.to_dict()

    def _chunks(self, left, images, attack):
        """The batches in which the examples that are left are attacked: see `filled_chunks`."""
        if traced_classifier(self._model, as_images(images), attack.jit_compile).is_compact:
            return [(np.arange(left), left)] if left else []
        return filled_chunks(left, len(images))

    def _recorded(self, batch, key, make):
        """What `make` returns: plain values, out of the journal if they are there."""
        found = self._journal.find(key, batch.number, batch.data)
        if found is None:
            found = make()
            self._journal.add(key, batch.number, batch.data, found)
        return found


def _expect_size(values, batch, what):
    if len(values) != len(batch.images):
        raise ValueError(
            f"Expected a record of {len(batch.images)} examples, for batch {batch.number} of {what}. "
            f"Received one of {len(values)}."
        )
