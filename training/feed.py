"""Batches made by worker processes, in the order of their step numbers: the same whatever the number of workers,
and after a resume."""
import os

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class _Steps(IterableDataset):
    def __init__(self, make, start):
        self.make, self.start = make, start

    def __iter__(self):
        torch.set_num_threads(1)
        worker = get_worker_info()
        step = self.start + worker.id
        while True:
            yield self.make(step)
            step += worker.num_workers


def _as_it_is(batch):
    return batch


def feed(make, start=0, workers=64, ahead=4):
    """make(step) for step = start, start + 1, …, for ever. At most so many workers, each so many steps ahead: for steps
    that are large."""
    workers = max(1, min(workers, len(os.sched_getaffinity(0)) - 1))
    return iter(DataLoader(_Steps(make, start), batch_size=None, num_workers=workers, prefetch_factor=ahead, collate_fn=_as_it_is))
