"""Every state of the dialogue with a server × every fault, on fresh and on used connections, by DATA and by
BDAT, with and without another server: support/matrix.py says what has to come of each, by rule.

Looked at in each cell: the client's replies; what each server has committed, never two for one; the one record
of the transaction, in log and trace; the other records; and that every descriptor is given back. All settings
there are: GATEPOST_MATRIX=all. STARTTLS is in test_backend_tls.py: smtp-backend knows no TLS.
"""

import concurrent.futures
import itertools
import multiprocessing
import os

import pytest
from gatepost import is_sanitized
from matrix import (CLOSING, FINE, STATES, VERDICTS, Cell, Setting, cells, expected, expected_pair,
                    is_reused, pairs)
from rig import grow, try_all

EVERYDAY = {
    Setting(1, "fresh", "data"): STATES,
    Setting(2, "fresh", "bdat"): STATES,
    Setting(1, "pooled", "data", "once"): STATES,
    Setting(2, "pooled", "bdat"): STATES,
    Setting(2, "kept", "single"): STATES,
    Setting(2, "pooled", "single"): STATES,
    Setting(1, "kept", "lmtp"): ("ehlo", "data", "dot1", "dot2"),
    Setting(1, "fresh", "data", identity="xclient"): ("xclient", "ehlo2"),
    Setting(2, "kept", "data", identity="xclient"): ("mail",),
    Setting(2, "pooled", "data", "once", "xforward"): ("rset", "xforward"),
    Setting(1, "fresh", "single", identity="xforward"): ("xforward",),
}


def all_settings():
    found = {}
    for parts in itertools.product((1, 2), ("fresh", "kept", "pooled"), ("data", "bdat", "single", "lmtp"),
                                   ("always", "once"), ("none", "xclient", "xforward")):
        setting = Setting(*parts)
        if setting.times == "once" and not is_reused(setting):
            continue
        if setting.identity == "xclient" and setting.connection == "pooled":
            continue  # nobody else can have it
        found[setting] = STATES
    return found


# Where two servers fail, one after the other.
PAIRED = (Setting(2, "fresh", "data"), Setting(2, "pooled", "bdat"), Setting(2, "kept", "single"))

SETTINGS = all_settings() if os.environ.get("GATEPOST_MATRIX") == "all" else EVERYDAY


def try_cells(setting, states):
    return try_all(setting, cells(setting, states), lambda rig, cell: rig.try_cell(cell, expected(cell)))


def try_pairs(setting):
    return try_all(setting, pairs(setting), lambda rig, pair: rig.try_cell(pair, expected_pair(pair)))


@pytest.fixture(scope="module")
def outcomes():
    """Each setting in a process of its own, a few at a time: most of the time is waiting."""
    with concurrent.futures.ProcessPoolExecutor(
            4, mp_context=multiprocessing.get_context("fork")) as pool:
        found = {setting: pool.submit(try_cells, setting, states)
                 for setting, states in SETTINGS.items()}
        found |= {("pairs", setting): pool.submit(try_pairs, setting) for setting in PAIRED}
        yield found


def name(setting):
    return "-".join(map(str, setting))


@pytest.mark.parametrize("setting", SETTINGS, ids=name)
def test_matrix(outcomes, setting):
    assert outcomes[setting].result() == {}


@pytest.mark.parametrize("setting", PAIRED, ids=name)
def test_second_server_fails_too(outcomes, setting):
    assert outcomes["pairs", setting].result() == {}


def test_memory_does_not_grow():
    """The same cells again and again, those that take no time; what is lost by one adds up. Once in a while
    one more thing of a size is there at a time than ever before, and the sanitizer has more of them made at
    once than are needed: a step of a hundred KB or two, which is not repeated."""
    def stays(sizes):
        return len(sizes) >= 6 and sizes[-1] - sizes[-5] <= 64
    setting = Setting(1, "kept", "bdat")
    quick = [Cell(setting, state, fault) for state in ("mail", "rcpt2", "bdat1", "dot", "rset")
             for fault in ("refuse-close", "reset", "garbage", VERDICTS[0], FINE[0], CLOSING[0])]
    sizes = grow(setting, quick, stays)
    assert stays(sizes), sizes
    assert is_sanitized() or sizes[-1] < 40000, sizes
