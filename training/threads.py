"""Sharing the machine: as many threads as there are cores that nobody else keeps busy.

A parallel step waits for its slowest thread, so two threads of which one has to share its core are
slower than one thread alone. Call adapt() once a step.
"""
import os
import time

import torch
import torch._inductor.config

torch._inductor.config.cpp.dynamic_threads = True  # compiled code must follow the number of threads


class Threads:
    def __init__(self):
        self.cores = torch.get_num_threads()
        self.last = self.read()

    def read(self):
        with open("/proc/stat") as f:
            ticks = [int(v) for v in f.readline().split()[1:9]]
        busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        return time.time(), busy, time.process_time()

    def adapt(self):
        now = self.read()
        wall, busy, own = (b - a for a, b in zip(self.last, now))
        if wall < 0.2:
            return
        self.last = now
        torch.set_num_threads(max(1, self.cores - round((busy - own) / wall)))
