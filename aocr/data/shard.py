"""The part of a dataset that one training process uses."""

from typing import NamedTuple


class Shard(NamedTuple):
    """One of several disjoint shards of a dataset; by default the only one."""

    number: int = 0
    count: int = 1  # type: ignore[assignment]  # hides tuple.count, not needed

    def size(self, records: int) -> int:
        """Returns the number of records in this shard of `records`."""
        return -(-(records - self.number) // self.count)
