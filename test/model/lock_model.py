#!/usr/bin/env python3
"""A model of the locks that calls take; src/pg/locks.hpp states their order.

    lock_model.py [N]     tries every set of 2 to N calls, 3 by default (4 takes hours)
    lock_model.py waits   prints which calls wait for which lock, for test/live/lock_test.cpp to
                          compare with a server

Each call is a list of lock steps. The model runs every interleaving of a set of calls and looks
for a state in which nobody can go on, and for a close that has a counter while another session
holds the period open. A transaction may commit at any time after its last step, so one that is
idle, or prepared, is covered too. Each rule is also broken once, to see that the model finds what
the rule prevents.
"""
import itertools
import sys

# S and X are an advisory lock's modes; the rows of limits and accounts, and keys, have X alone. KS, NKU and U are a
# counter's row FOR KEY SHARE, FOR NO KEY UPDATE and FOR UPDATE.
CONFLICTS = {frozenset(modes) for modes in
             (("S", "X"), ("X",), ("KS", "U"), ("NKU",), ("NKU", "U"), ("U",))}

# A step is (kind, lock, mode, steps that follow a success, steps that follow a failure).


def lock(name, mode):
    """Waits for a lock until the transaction has it."""
    return (("lock", name, mode, (), ()),)


def attempt(name, mode, success=(), failure=()):
    """Takes a lock or not, at once. A transaction that has it already does neither branch."""
    return (("attempt", name, mode, success, failure),)


def skip_locked(name, mode, success=(), failure=()):
    """SELECT ... SKIP LOCKED, which can wait after all if the row is being updated."""
    return (("skip locked", name, mode, success, failure),)


def unlock(name, mode):
    return (("unlock", name, mode, (), ()),)


def if_announced(steps):
    """The steps follow if another session has announced a close."""
    return (("look", "", "", steps, ()),)


ANNOUNCE = (("announce", "", "", (), ()),)

# Rules of the protocol, each with calls that show what it is for.
RULES = {
    "no session waits for a hold lock that a close keeps":
        [("immediate A, deferred A", "close A")],
    "a holder gives the ledger's lock back before it waits for a row":
        [("batch of 33", "close A, close B")],
    "a close announces itself before it looks for holders":
        [("deferred A", "close A"), ("batch of 33", "close B")],
    "a transaction that may have a counter takes no waiter lock":
        [("void e, immediate A", "immediate A")],
    "keys are taken in order": [("batch A B, immediate", "batch A B, immediate")],
    "an event is changed only under its counter's lock": [("prune A", "void e")],
    "a close locks no version of a row while it waits for an older one": [("deferred A", "close A")],
    "a limit comes before what is counted": [("spend A, key f", "erase A")],
}


def calls(broken=None):
    """All calls, and the transactions of several calls that keep the order, with a rule broken."""
    (holds_wait, keeps_ledger, is_silent, queues_again, is_unsorted, event_first, goes_back,
     limit_last) = (rule == broken for rule in RULES)

    def hold_row(*periods):  # from the version that the statement sees to the last one
        return sum((lock("row before " + period, "KS") + lock("row " + period, "KS")
                    for period in periods), ())

    def hold(period):
        name = "hold " + period
        if holds_wait:
            return lock(name, "S") + if_announced(hold_row(period))
        return attempt(name, "S", if_announced(unlock(name, "S") + hold_row(period)),
                       hold_row(period))

    def hold_by_ledger(*periods):
        give_back = () if keeps_ledger else unlock("hold ledger", "S")
        return attempt("hold ledger", "S", if_announced(give_back + hold_row(*periods)),
                       hold_row(*periods))

    def close(*periods):  # or end it, or erase them
        announce = () if is_silent else ANNOUNCE
        waits = rows = give_back = ()
        for period in periods:
            release = unlock("hold " + period, "X")
            waits += (lock("hold " + period, "X") + (() if holds_wait else release) +
                      lock("hold ledger", "X") + unlock("hold ledger", "X"))
            give_back += release if holds_wait else ()
            before = lock("row before " + period, "U")
            row = lock("row " + period, "U")
            rows += row + before if goes_back else before + unlock("row before " + period, "U") + row
        return announce + waits + rows + give_back

    def add(period):
        return lock("row " + period, "NKU")

    def add_first(period):  # the transaction has written nothing
        return lock("waiter " + period, "X") + add(period)

    def add_later(period):
        return add_first(period) if queues_again else add(period)

    def try_add_first(period):
        return attempt("waiter " + period, "X", try_add_later(period, unlock("waiter " + period, "X")),
                       hold(period))

    def try_add_later(period, give_back=()):
        return skip_locked("row " + period, "NKU", (), give_back + hold(period))

    def key(name):
        return lock("key " + name, "X")

    def keys(first, second):
        if is_unsorted:
            return attempt("key " + first, "X", key(second), key(second) + key(first))
        return key(first) + key(second)

    def account(name):
        return lock("account " + name, "X")

    def event(name):  # changes an event
        return lock("event " + name, "X")

    def retry(name):  # finds the key of an event taken, after a session that changes the event
        return lock("event " + name, "S") + unlock("event " + name, "S")

    def limit(name):
        return lock("limit " + name, "X")

    def take_room(name):  # the transaction has written nothing
        return lock("limit waiter " + name, "X") + limit(name)

    def spend(count):
        return count + limit("A") if limit_last else take_room("A") + count

    void = event("e") + add("A") if event_first else add("A") + event("e")

    # A and B are accounts with an open period each, e an event of A, f and g new keys of A. Other
    # keys are left out, as no two calls have them.
    return {
        "immediate A": add_first("A"),
        "immediate B": add_first("B"),
        "immediate A, key f": key("f") + add_first("A"),
        "immediate A, opening": account("A") + add_first("A"),
        "adaptive A": try_add_first("A"),
        "deferred A": hold("A"),
        "deferred A, opening": account("A") + key("f") + hold("A"),
        "retry e": retry("e"),
        "void e": void,
        "batch A B, immediate": keys("f", "g") + add("A") + add("B"),
        "batch A B, retry e": retry("e") + key("f") + add("A") + add("B"),
        "batch A B, adaptive": hold("A") + hold("B") + attempt("row A", "NKU") +
                               attempt("row B", "NKU"),
        "batch A B, opening": account("A") + account("B") + key("f") + hold("A") + hold("B"),
        "batch of 33": key("f") + hold_by_ledger("A", "B"),
        "batch of 33, B last": hold("A") + hold_by_ledger("B"),
        "close A": close("A"),
        "close B": close("B"),
        "settle": attempt("row B", "NKU") + attempt("row A", "NKU"),
        "prune A": skip_locked("row A", "NKU", event("e")),
        "credit A, key f": key("f") + add("A"),
        "end A": account("A") + close("A"),
        "erase A": limit("A") + account("A") + close("A") + event("e"),
        "erase A, two periods": limit("A") + account("A") + close("A", "N") + event("e"),
        # N is the next period of A. The period was ended before the event that was recorded in it.
        "immediate A, ended": key("f") + add_first("A") + attempt("account A", "X") + add("N"),
        "deferred A, ended": key("f") + hold("A") + add("A") + attempt("account A", "X") + hold("N"),
        "batch A B, ended": keys("f", "g") + add("A") + add("B") + attempt("account A", "X") +
                            attempt("row N", "NKU"),
        "close N": close("N"),
        "set cycle A": account("A"),
        "reserve A": take_room("A"),
        "reserve B": take_room("B"),
        "release A": limit("A"),
        "spend A, key f": spend(key("f") + add("A")),
        "spend A, opening": spend(account("A") + key("f") + add("A")),
        "spend A, deferred": spend(key("f") + hold("A")),
        "spend A, ended": spend(key("f") + add("A") + attempt("account A", "X") + add("N")),
        "sweep": attempt("limit B", "X") + attempt("limit A", "X"),
        "open period A": account("A") + key("f"),

        "close A, close B": close("A") + close("B"),
        "immediate A, deferred A": add_first("A") + hold("A"),
        "deferred A, immediate A": hold("A") + add_later("A"),
        "adaptive A, adaptive A": try_add_first("A") + try_add_later("A"),
        "void e, immediate A": void + add_later("A"),
        "immediate A undone, immediate A": add_first("A") + unlock("row A", "NKU") +
                                           unlock("waiter A", "X") + add_later("A"),
        "reserve A, immediate A": take_room("A") + add_later("A"),
        "reserve A, reserve B": take_room("A") + limit("B"),
        "reserve A undone, reserve A": take_room("A") + unlock("limit A", "X") +
                                       unlock("limit waiter A", "X") + limit("A"),
        # Those that do not keep it.
        "! immediate A, reserve A": add_first("A") + limit("A"),
        "! reserve B, reserve A": take_room("B") + limit("A"),
        "! immediate B, immediate A": add_first("B") + add_later("A"),
        "! close B, close A": close("B") + close("A"),
        "! immediate A, key f": add_first("A") + key("f"),
        "! immediate A, opening": add_first("A") + account("A"),
        "! deferred A, close A": hold("A") + close("A"),
        "! batch of 33, immediate B": hold_by_ledger("A") + add_later("B"),
        "! immediate B, close C": add_first("B") + close("C"),
    }


# What test/live/lock_test.cpp tries on a server: these calls, each next to a session that keeps one
# of these locks. (A waiter lock is never kept without the row.)
SINGLE_CALLS = ["immediate A", "adaptive A", "deferred A", "immediate A, key f", "retry e", "void e",
                "credit A, key f", "batch A B, immediate", "batch A B, retry e", "batch A B, adaptive", "batch of 33",
                "close A", "close B", "end A", "erase A", "settle", "set cycle A", "reserve A",
                "release A", "spend A, key f"]
KEPT_LOCKS = [("limit A", "X"), ("account A", "X"), ("key f", "X"), ("event e", "X"), ("row A", "KS"),
              ("row A", "NKU"), ("row A", "U"), ("hold A", "S"), ("hold ledger", "S")]

# Transactions that do not keep the order (!) with others, all of which deadlock.
DEADLOCKS = [
    ("! immediate B, immediate A", "batch A B, immediate"),
    ("! close B, close A", "close A, close B"),
    ("! immediate A, reserve A", "spend A, key f"),
    ("! reserve B, reserve A", "reserve A, reserve B"),
    ("! immediate A, key f", "immediate A, key f"),
    ("! immediate A, opening", "immediate A, opening"),
    ("! deferred A, close A", "! deferred A, close A"),
    ("! batch of 33, immediate B", "! immediate B, close C"),
]


# A state is the sessions, each (steps left, locks held, whether a close is announced), and the
# indexes of those that wait, the first to wait first.

def can_have(state, i, name, mode):
    sessions, waiting = state
    if any(n == name and frozenset((m, mode)) in CONFLICTS
           for j, session in enumerate(sessions) if j != i for n, m in session[1]):
        return False
    # A session that has the lock in some mode does not queue for it; nor does one that comes to a
    # row that it can have (README.tuplock of PostgreSQL).
    if any(n == name for n, _ in sessions[i][1]) or (name[:3] == "row" and i not in waiting):
        return True
    ahead = waiting[:waiting.index(i)] if i in waiting else waiting
    return not any(sessions[j][0][0][1] == name and
                   frozenset((sessions[j][0][0][2], mode)) in CONFLICTS for j in ahead)


def moves(state):
    sessions, waiting = state
    for i, (steps, held, announced) in enumerate(sessions):
        def then(steps, held=held, announced=announced, waiting=tuple(j for j in waiting if j != i)):
            return sessions[:i] + ((steps, held, announced),) + sessions[i + 1:], waiting
        if steps and steps[0][0] == "keep":
            continue
        if not steps:
            if held or announced:
                yield then((), frozenset(), False)
            continue
        (kind, name, mode, success, failure), rest = steps[0], steps[1:]
        if kind == "announce":
            yield then(rest, announced=True)
        elif kind == "look":
            others = sessions[:i] + sessions[i + 1:]
            yield then((success if any(other[2] for other in others) else ()) + rest)
        elif kind == "unlock":
            yield then(rest, held - {(name, mode)})
        elif (name, mode) in held:
            yield then(rest)
        elif can_have(state, i, name, mode):
            yield then(success + rest, held | {(name, mode)})
        elif kind == "lock":
            if i not in waiting:
                yield then(steps, waiting=waiting + (i,))
        else:
            yield then(failure + rest)
            if kind == "skip locked":
                yield then(lock(name, mode) + success + rest)


def is_unsafe(sessions):
    """Whether a close has a counter while a session holds its period and does not go to its row."""
    for i, closer in enumerate(sessions):
        for name in [name for name, mode in closer[1] if mode == "U"]:
            for j, (steps, held, _) in enumerate(sessions):
                holds = not held.isdisjoint({(name.replace("row", "hold"), "S"), ("hold ledger", "S")})
                goes_to_row = steps and (steps[0][0] in ("look", "unlock") or steps[0][2] == "KS")
                if j != i and holds and not goes_to_row:
                    return True
    return False


def without_waits_of_skip_locked(program):
    return tuple(("attempt" if kind == "skip locked" else kind, name, mode,
                  without_waits_of_skip_locked(success), without_waits_of_skip_locked(failure))
                 for kind, name, mode, success, failure in program)


def waits(program, name, mode):
    """Whether a call comes to wait for a session that has a lock and keeps it."""
    program = without_waits_of_skip_locked(program)
    keeper = (("keep", "", "", (), ()),), frozenset({(name, mode)}), mode == "U"
    seen, unvisited = set(), [(((program, frozenset(), False), keeper), ())]
    while unvisited:
        state = unvisited.pop()
        following = [following for following in moves(state) if following not in seen]
        if not list(moves(state)) and state[0][0][0]:
            return True
        unvisited += following
        seen.update(following)
    return False


def fault(programs):
    """What can go wrong when these run: None, "deadlock" or "unsafe"."""
    start = (tuple((program, frozenset(), False) for program in programs), ())
    seen, unvisited = {start}, [start]
    while unvisited:
        state = unvisited.pop()
        if is_unsafe(state[0]):
            return "unsafe"
        following = list(moves(state))
        if not following and any(session[0] for session in state[0]):
            return "deadlock"
        unvisited += [following_state for following_state in following if following_state not in seen]
        seen.update(following)
    return None


def main():
    failures = 0

    def report(is_expected, text):
        nonlocal failures
        failures += not is_expected
        print(("ok: " if is_expected else "FAILED: ") + text)

    def find(programs, names):
        return fault([programs[name] for name in names])

    programs = calls()
    if sys.argv[1:] == ["waits"]:
        for call in SINGLE_CALLS:
            for name, mode in KEPT_LOCKS:
                print(call, name, mode, waits(programs[call], name, mode), sep="|")
        return 0
    ordered = [name for name in programs if name[0] != "!"]
    for count in range(2, int(sys.argv[1]) + 1 if len(sys.argv) > 1 else 4):
        sets = list(itertools.combinations_with_replacement(ordered, count))
        faults = [(names, found) for names in sets if (found := find(programs, names))]
        report(not faults, f"{len(sets)} sets of {count} calls, {faults[:10] or 'no fault'}")
    for names in DEADLOCKS:
        report(find(programs, names) == "deadlock", f"{' | '.join(names)} can deadlock")
    for rule, sets in RULES.items():
        for names in sets:
            report(find(programs, names) is None and find(calls(rule), names),
                   f"{' | '.join(names)} without the rule that {rule}: {find(calls(rule), names)}")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
