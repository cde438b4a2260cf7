"""Rows of records that are drawn anew in each epoch: templates, solved examples, infilling."""

from __future__ import annotations

from collections.abc import Callable

from jaxgen.data.packing import Row, Rows


class RedrawnRows:
    """Rows whose tokens are made, stored and packed epoch by epoch, when the first row is read.

    Every epoch has as many rows as the first, so that a row's epoch is known without making those
    before it. What is drawn changes lengths: where a later epoch's records fill a few rows more, as
    many of its shuffled rows are left out; where they fill fewer, some of its rows come twice.
    """

    def __init__(self, open_epoch: Callable[[int], Rows]):
        """Takes a function that opens the rows of an epoch; picklable, for workers."""
        self._open_epoch = open_epoch
        first = open_epoch(0)
        self.rows_per_epoch = first.rows_per_epoch
        self.examples_per_epoch = first.examples_per_epoch
        self.share_used = first.share_used
        self._opened = (0, first)

    def row(self, index: int) -> Row:
        """Returns the row of an index."""
        epoch, place = divmod(index, self.rows_per_epoch)
        opened = self._opened  # Threads may read rows of other epochs meanwhile.
        if opened[0] != epoch:
            opened = self._opened = (epoch, self._open_epoch(epoch))
        rows = opened[1]
        # The epoch's own rows are told apart by its number in their order and their draws.
        return rows.row(epoch * rows.rows_per_epoch + place % rows.rows_per_epoch)
