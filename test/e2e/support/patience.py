"""For tests whose times are short, on machines that have something else to do.

    @tight
    def test_answer_within_half_a_second(gatepost): …

Such a test is told of when it fails; but when the machine has stood still for a moment meanwhile, which is
measured, it proves nothing and is tried again.
"""

import functools
import os
import threading
import time

# Seconds for what takes a moment on a machine that does nothing else: less than the deadlines of half a
# minute and more that the program has by itself, whose end is not to pass for it. And for a program to start.
PATIENCE, START = 25, 90
STALL = 0.1  # seconds in which a processor did nothing for us
TRIES = 6
BEAT = 0.01


class Watch:
    """On each processor a thread that has nothing to do but to look how late it is; `longest` is the most
    that any of them was."""

    def __init__(self):
        self.longest = 0.0
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._look, args=[cpu], daemon=True)
                         for cpu in os.sched_getaffinity(0)]

    def _look(self, cpu):
        os.sched_setaffinity(0, [cpu])  # of this thread alone
        while not self._is_over.is_set():
            begun = time.monotonic()
            time.sleep(BEAT)
            self.longest = max(self.longest, time.monotonic() - begun - BEAT)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self._is_over.set()
        for thread in self._threads:
            thread.join()


def tight(test):
    """A test that is tried again when it has failed and the machine stood still."""
    @functools.wraps(test)
    def patient(*arguments, **named):
        for left in reversed(range(TRIES)):
            watch = Watch()
            try:
                with watch:
                    return test(*arguments, **named)
            except Exception as problem:
                if not left or watch.longest < STALL:
                    raise
                print(f"tried again, as the machine stood still for {watch.longest:.2f} s: {problem!r}")
    return patient


def wait_until(condition, seconds=PATIENCE, complaint="waited in vain"):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)
