"""Every state of the dialogue with a server × every fault: what has to come of it, by rule.

    for cell in cells(Setting(servers=2, connection="pooled", framing="bdat")):
        wanted = expected(cell)

The rule says it from three things: what kind of fault it is, whether the final dot was sent, and what
else could be tried. Nothing here is copied from results; what does not follow from the rule stands in
EXCEPTIONS with its reason.

The dialogue of a cell is one client's: EHLO, MAIL, two RCPT, DATA and a message, as far as it goes. Its
connection to the first server is a fresh one, or `kept` from a transaction before of the same client, or
`pooled` from another client's. A second server, where there is one, has no faults.
"""

from collections import namedtuple

# ---- What there is

# times: how often the fault strikes: "once", or "always".
Setting = namedtuple("Setting", "servers connection framing times identity",
                     defaults=("always", "none"))
Cell = namedtuple("Cell", "setting state fault")

EXTENSIONS = {"data": "PIPELINING,SIZE=104857600,8BITMIME,ENHANCEDSTATUSCODES",
              "bdat": "PIPELINING,SIZE=104857600,8BITMIME,ENHANCEDSTATUSCODES,CHUNKING",
              "single": "SIZE=104857600,8BITMIME",
              "lmtp": "PIPELINING,SIZE=104857600,8BITMIME,ENHANCEDSTATUSCODES"}
OFFERS = {"none": "", "xclient": ",XCLIENT=NAME ADDR PORT PROTO HELO",
          "xforward": ",XFORWARD=NAME ADDR PORT PROTO HELO"}

# In the order of the dialogue. rset is said by gatepost before the first MAIL on a pooled connection,
# and after a client's own RSET on a kept one; idle is a connection between two transactions.
STATES = ("connect", "banner", "ehlo", "xclient", "ehlo2", "idle", "rset", "xforward", "mail",
          "rcpt1", "rcpt2", "data", "bdat1", "body", "dot", "after-dot", "dot1", "dot2",
          "quit")

# What the server does: the connection is over, or what it says is no SMTP.
LOST = ("refuse-close", "reset", "half-close", "stall", "garbage", "long-line", "many-lines",
        "mixed-codes", "bare-lf", "no-final-crlf-then-close", "raw=25\\r\\n", "raw=199 x\\r\\n",
        "raw=\\0\\xff\\r\\n", "die-before-reply")
# Of these, those that are no reply at all: the message cannot have been committed by the dot.
SILENT = ("refuse-close", "reset", "half-close", "stall", "die-before-reply", "garbage")
GOODBYE = ("reply=421 4.3.2 bye", "reply-close=421 4.3.2 bye")
VERDICTS = ("reply=451 4.3.0 later", "reply=452 4.2.2 full", "reply=550 5.7.1 no",
            "reply=554 5.0.0 a\\n5.0.0 b", "reply=530 5.7.0 authenticate",
            "reply-close=550 5.7.1 no, and go")
FINE = ("split", "delay=30")
# As it should be, and then the end.
CLOSING = ("close", "die")
# Replies more than commands, or before them.
SHIFTED = ("merged", "early")
CONNECT = ("dead", "refuse-close", "reset", "half-close", "stall", "delay=30")
# A well-formed reply of a class that is no answer.
WRONG = {"banner": "reply=250 what", "data": "reply=250 2.0.0 what", "dot": "reply=251 2.0.0 what",
         "after-dot": "reply=354 what"}


def faults(state):
    if state == "connect":
        return CONNECT
    found = (*LOST, WRONG.get(state, "reply=354 what"), *GOODBYE, *VERDICTS, *FINE, *CLOSING, *SHIFTED)
    # These have no reply of their own that could be late or early.
    unmeant = {"body": ("early",), "idle": ("early", "delay=30")}.get(state, ())
    return tuple(fault for fault in found if fault not in unmeant)


# ---- Which states are reached

def is_reused(setting):
    return setting.connection != "fresh"


def is_reached(state, setting, attempt):
    """By an attempt: "reused", or "fresh"."""
    if state in ("connect", "banner", "ehlo"):
        return attempt == "fresh"
    if state in ("xclient", "ehlo2"):
        return attempt == "fresh" and setting.identity == "xclient"
    if state == "xforward":
        return setting.identity == "xforward"
    if state in ("rset", "idle"):
        return attempt == "reused"
    if state in ("data", "body"):
        return setting.framing != "bdat"
    if state == "bdat1":
        return setting.framing == "bdat"
    if state in ("dot", "after-dot", "dot1", "dot2"):  # LMTP has a reply for each recipient
        return (state in ("dot1", "dot2")) == (setting.framing == "lmtp")
    return True


def is_worth(state, setting):
    """The first attempt reaches it; the others tell nothing new. A pooled connection says no QUIT."""
    if state == "quit":
        return setting.connection != "pooled"
    return is_reached(state, setting, "reused" if is_reused(setting) else "fresh")


def cells(setting, states=STATES):
    return [Cell(setting, state, fault) for state in states if is_worth(state, setting)
            for fault in faults(state)]


def fault_line(cell):
    """As smtp-backend understands it; None: the process is to be killed."""
    if cell.fault == "dead":
        return None
    after = ":100" if cell.state == "body" else ":0" if cell.state == "idle" else ""
    times = "@1" if cell.setting.times == "once" else ""
    return f"{cell.state}:{cell.fault}{after}{times}"


# ---- What has to come of it

class Expected:
    """codes: of the steps rcpt1, rcpt2, data, final, as far as they are reached. failed: fewest and most
    records of backend_failed. commits: of the first server, and of the second, (fewest, most).
    events: other records. is_lost_inside: the client pauses in its message until it is noticed.
    is_loose: the codes may also end in a deferral at any step: only the invariants hold."""

    def __init__(self, codes, outcome, by, failed=(0, 0), commits=((0, 0), (0, 0)), events=(),
                 is_lost_inside=False, is_loose=False):
        self.codes, self.outcome, self.by = codes, outcome, by
        self.failed, self.commits, self.events = failed, commits, set(events)
        self.is_lost_inside, self.is_loose = is_lost_inside, is_loose


STEPS = ("rcpt1", "rcpt2", "data", "final")
GOOD = (250, 250, 354, 250)


def fine(failed=(0, 0), server=0, **more):
    commits = [(0, 0), (0, 0)]
    commits[server] = (1, 1)
    return Expected(dict(zip(STEPS, GOOD)), "accepted", "backend", failed, tuple(commits), **more)


def client_step(state):
    """Where the client waits while the server is in this state."""
    if state in ("rcpt2", "data"):
        return state
    return "final" if state in ("bdat1", "body", "dot", "after-dot", "dot1", "dot2") else "rcpt1"


def stopped(step, code):
    """The codes when this step is answered so, and no other server could be tried."""
    codes = {}
    for one, good in zip(STEPS, GOOD):
        codes[one] = code if one == step else good
        if one == step:
            break
    if step == "rcpt1":
        codes["rcpt2"] = code
    if step == "rcpt2":
        codes["data"] = code
    return codes


def lost(cell, state, may_be_idle=False, events=()):
    """The server is lost in this state, before the dot: what is next? A connection that has served
    before is no failure of the server, which has another chance; then the second one has its turn.
    `state` is where the loss is noticed, which may be behind the cell's.
    may_be_idle: the loss may be noticed while nobody waits; that is no failure either."""
    setting = cell.setting
    tries = (["reused"] if is_reused(setting) else []) + ["fresh"] + ["other"] * (setting.servers - 1)
    is_dead = "die" in cell.fault or cell.fault == "dead"
    bad = 0
    for attempt in tries:
        strikes = bad == 0 if setting.times == "once" else is_reached(cell.state, setting, attempt)
        if attempt == "other" or not (strikes or (is_dead and bad)):
            break
        bad += 1
    failed = (bad - 1 if may_be_idle else bad, bad)
    is_inside = state in ("body", "bdat1")
    if bad < len(tries):
        return fine(failed, int(tries[bad] == "other"), events=events if bad else (),
                    is_lost_inside=is_inside)
    return Expected(stopped(client_step(state), 451), "deferred", "edge", (max(failed[0], 1), bad),
                    events=events, is_lost_inside=is_inside)


def unknown(cell):
    """After the dot nobody else is asked, and nobody knows."""
    commits = (1, 1) if cell.state == "after-dot" else (0, 0) if cell.fault in SILENT else (0, 1)
    return Expected(stopped("final", 451), "unknown", "backend", commits=(commits, (0, 0)),
                    events=["outcome_unknown"])


def refused(cell):
    """The server's own verdict: the client has it, and nobody else is asked."""
    state, code = cell.state, int(cell.fault.partition("=")[2][:3])
    is_ours = code == 530
    told = 451 if is_ours or code == 421 else code
    step = client_step(state)
    if state in ("mail", "xclient", "ehlo2"):
        codes = {"rcpt1": told, "rcpt2": told}
    elif state in ("rcpt1", "rcpt2"):
        codes = dict(zip(STEPS, GOOD)) | {step: told}
    else:
        codes = stopped(step, told)
    events = ["backend_blames_us"] if is_ours and state != "body" else []
    if state in ("rcpt1", "rcpt2"):
        return Expected(codes, "accepted", "backend", commits=((1, 1), (0, 0)), events=events)
    return Expected(codes, "refused" if told >= 500 else "deferred", "backend", events=events,
                    failed=(1, 1) if state == "body" else (0, 0),
                    commits=((1, 1) if state == "after-dot" else (0, 0), (0, 0)),
                    is_lost_inside=state == "body")


def of_one_recipient(cell):
    """LMTP: of two final replies one is spoilt. When the other recipient is known to have the message the
    client is told to come again, and the log says who has it."""
    is_whole = cell.state == "dot2" or "reply-close" not in cell.fault
    is_verdict = of_kind(cell) in (VERDICTS, GOODBYE) and is_whole
    is_known = cell.state == "dot2" or of_kind(cell) is CLOSING  # the first one's 250 was heard
    events = ["partly_delivered"] if is_verdict or is_known else []
    if "530" in cell.fault:
        events.append("backend_blames_us")
    if is_verdict:
        commits = (1, 1)
    else:
        events.append("outcome_unknown")
        commits = (0, 1)
    return Expected(stopped("final", 451), "deferred" if is_verdict else "unknown", "backend",
                    commits=(commits, (0, 0)), events=events)


# state: what comes next, when the server goes behind a good reply.
NEXT = {"banner": "ehlo", "ehlo": "mail", "xclient": "ehlo2", "ehlo2": "mail", "rset": "mail",
        "xforward": "mail", "mail": "rcpt1", "rcpt1": "rcpt2", "rcpt2": "data", "data": "body",
        "bdat1": "bdat1", "body": "body"}


def of_kind(cell):
    """Kind of the fault: FINE, LOST, GOODBYE, VERDICTS, CLOSING or SHIFTED."""
    if cell.fault.startswith("delay"):
        return FINE
    for kind in (FINE, LOST, GOODBYE, VERDICTS, CLOSING, SHIFTED, CONNECT):
        if cell.fault in kind:
            return kind
    return LOST  # WRONG


def by_rule(cell):
    state, kind = cell.state, of_kind(cell)
    if kind is FINE or state == "quit":
        return fine(is_loose=kind is SHIFTED)  # early, it is the answer to something else
    if kind is CLOSING:
        if state in ("dot", "after-dot", "dot2"):
            return fine()
        if state == "dot1":
            return of_one_recipient(cell)
        return lost(cell, NEXT[state], may_be_idle=state in ("rcpt1", "rcpt2", "rset"))
    if kind is SHIFTED:
        return fine(is_loose=True)
    if state in ("dot1", "dot2"):
        return of_one_recipient(cell)
    if state in ("dot", "after-dot"):
        return unknown(cell) if kind is LOST else refused(cell)
    if kind is VERDICTS and state not in ("banner", "ehlo", "ehlo2", "rset", "idle"):
        return refused(cell)
    # Between two transactions of one client nobody waits for RSET.
    return lost(cell, state, may_be_idle=state == "rset" and cell.setting.connection == "kept")


# ---- What does not follow from the rule

def _helo(cell):
    """RFC 5321 section 3.2: who does not know EHLO gets HELO."""
    return fine()


def _lhlo(cell):
    """LMTP has no HELO. Behind XCLIENT policy (x.7.x) refuses the client, not us."""
    if cell.state == "ehlo2" and " 5.7." in cell.fault:
        return refused(cell)
    return lost(cell, cell.state)


def _helo_knows_no_identity(cell):
    """Nor can such a server be told who the client is: it gets no mail."""
    return lost(cell, "ehlo", events=["identity_refused"])


def _stall_inside(cell):
    """A server that stalls in the message is not noticed while the message fits into the sockets: it
    is the dot that is not answered."""
    return unknown(cell._replace(state="dot"))


def _idle(cell):
    """A connection that ends while nobody uses it is no failure, and not even logged; that there is
    nobody to connect to any more is one."""
    if "die" not in cell.fault:
        return fine()
    return lost(cell._replace(state="connect", setting=cell.setting._replace(connection="fresh")),
                "connect")


def _idle_stall(cell):
    """One that is silent is noticed by the first command."""
    return fine((1, 1))


def _reset_refused(cell):
    """It costs the connection alone."""
    return fine((0, 1))


def _word_in_the_message(cell):
    """A reply inside of the message that is no verdict answers nothing."""
    return lost(cell, "body")


def _go_ahead_before_the_end(cell):
    """With BDAT the client has its 354 at once: whether the end was noticed before is chance."""
    return Expected(dict(zip(STEPS, GOOD)), "accepted", "backend", is_loose=True)


def _goes_behind_a_refusal(cell):
    """The next recipient may find it going, which is a failure, or gone, which is none. One for whom it is
    connected to anew is the first of a transaction, and refused likewise."""
    return Expected(dict(zip(STEPS, GOOD)), "accepted", "backend", is_loose=True)


def _xclient_is_not_ours(cell):
    """The right to say XCLIENT, or its form: about us, and no mail goes there."""
    return lost(cell, "xclient", events=["identity_refused"])


def _xforward_is_required(cell):
    return lost(cell, "xforward", events=["backend_blames_us"])


EXCEPTIONS = (
    (lambda c: c.state in ("ehlo", "ehlo2") and c.setting.framing == "lmtp"
     and c.fault.startswith(("reply=5", "reply-close=5")),
     _lhlo),
    (lambda c: c.state == "ehlo" and c.fault.startswith("reply=5") and c.setting.identity != "none",
     _helo_knows_no_identity),
    (lambda c: c.state in ("ehlo", "ehlo2") and c.fault.startswith("reply=5"), _helo),
    (lambda c: c.state == "body" and c.fault == "stall", _stall_inside),
    (lambda c: c.state == "body" and c.fault in ("split", "merged", "close", "die"),
     _word_in_the_message),
    (lambda c: c.state == "idle" and c.fault == "stall", _idle_stall),
    (lambda c: c.state == "idle", _idle),
    (lambda c: c.state in ("rcpt1", "rcpt2") and c.fault.startswith("reply-close=550"),
     _goes_behind_a_refusal),
    (lambda c: c.state == "xclient" and c.fault.startswith(("reply=550", "reply-close=550", "reply=421",
                                                            "reply-close=421", "reply=354")),
     _xclient_is_not_ours),
    (lambda c: c.state == "xforward" and c.fault.startswith("reply"), _xforward_is_required),
    (lambda c: c.state == "rset" and c.setting.connection == "kept" and of_kind(c) is not FINE
     and "die" not in c.fault, _reset_refused),
    (lambda c: c.state == "rcpt2" and c.setting.framing == "bdat" and of_kind(c) is CLOSING,
     _go_ahead_before_the_end),
)


def expected(cell):
    for applies, exception in EXCEPTIONS:
        if applies(cell):
            return exception(cell)
    return by_rule(cell)


# ---- Two servers at fault, one after the other

# The first is lost in this state; `second` is the fault of the one that takes its place.
Pair = namedtuple("Pair", "setting state fault second")

LATER, NO = VERDICTS[0], VERDICTS[2]
SECONDS = tuple(f"{state}:{fault}" for state in ("mail", "rcpt1", "rcpt2", "data", "bdat1", "dot")
                for fault in (LATER, NO, "reset")) + ("mail:stall", "mail:" + GOODBYE[1], "after-dot:stall")


def pairs(setting):
    return [Pair(setting, state, "reset", second)
            for state in ("mail", "rcpt1", "rcpt2", "data", "bdat1", "body")
            if is_worth(state, setting) for second in SECONDS
            if is_worth(second.partition(":")[0], setting)]


def expected_pair(pair):
    """The second server's verdict is the client's where the client waits for just that; of what the first
    had accepted it can only confirm it: else the client is told to come again."""
    state, _, fault = pair.second.partition(":")
    alone = by_rule(Cell(pair.setting._replace(connection="fresh"), state, fault))
    first = lost(Cell(pair.setting, pair.state, pair.fault), pair.state)
    step, reached = client_step(pair.state), client_step(state)
    is_replayed = STEPS.index(reached) < STEPS.index(step) or (
        state == "bdat1" and pair.state in ("bdat1", "body"))
    if of_kind(Cell(pair.setting, state, fault)) is VERDICTS or state in ("dot", "after-dot"):
        if not is_replayed:
            return Expected(alone.codes, alone.outcome, alone.by, first.failed,
                            tuple(reversed(alone.commits)), alone.events, first.is_lost_inside)
    return Expected(stopped(step if is_replayed else reached, 451), "deferred", "edge",
                    (first.failed[0] + 1, first.failed[1] + 1),
                    is_lost_inside=first.is_lost_inside or state == "bdat1")
