# SPDX-License-Identifier: GPL-3.0-or-later
"""A main program for tests that kill or stop one: ``python program.py ACTION [ACTION ...]``.

There is a worker for each action, and it is at that action; "echo" workers go on for ever.  Prints the
numbers of all processes when everything is under way, and a summary after an orderly stop.
"""

import os
import sys

import zmq

from gpuidx.flow.accounts import Accounts
from gpuidx.flow.children import Answer, Pool
from gpuidx.flow.forkserver import forkserver_pid, start_forkserver
from gpuidx.flow.stop import Stop


def main(actions):
    start_forkserver(["flow.bodies"])
    pool, poller, accounts, stop = Pool("flow.bodies:obey", len(actions)), zmq.Poller(), Accounts(), Stop()
    pool.open(poller)
    stop.install(poller)
    while pool.n_ready < len(actions):
        pool.collect(dict(poller.poll(100)))
    for action in actions:
        pool.give((accounts.receive(), action))
    pool.hand_out()
    done = []
    lasting = {serial for serial, action in enumerate(actions, start=1) if action != "echo"}
    while not lasting <= {row[0] for row in pool._rows}:
        done += pool.collect(dict(poller.poll(1)))
    print(os.getpid(), forkserver_pid(), *pool.pids(), flush=True)
    if "hold" in actions and sys.stdin.readline() == "raise\n":
        raise RuntimeError("an error of main")
    while accounts.in_flight and stop.level < 2:
        for end in done:
            accounts.finish(end.task[0], "blank" if isinstance(end, Answer) else "crashed")
            if not stop.level:
                pool.give((accounts.receive(), "echo"))
        pool.hand_out()
        events = dict(poller.poll(100))
        stop.notice(events)
        if stop.level == 1 and "hold" in actions:
            print("draining", flush=True)
        done = pool.collect(events)
    left = pool.close(now=stop.level > 1)
    for end in done:
        accounts.finish(end.task[0], "blank")
    accounts.finish_all("dropped", "stopped")
    accounts.check()
    stop.remove()
    print(f"level {stop.level}, left {len(left)}, " + ", ".join(accounts.lines()[1:]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
