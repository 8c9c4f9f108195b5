# SPDX-License-Identifier: GPL-3.0-or-later
"""The joints of a run: shared memory, child processes, accounts, the output file, stopping.

Nothing here knows of crystals.  One thread of main turns them, in this order::

    start_forkserver(["package.warm"])          # first of all: before sockets, from the main thread
    slots = Slots(count, size)
    pool = Pool("package.worker:work", jobs, (slots, options), depth=4, batch=2)
    pool.open(poller)                           # waits for the forkserver; Ctrl-C still raises
    stop.install(poller)
    while not finished:
        events = dict(poller.poll(100))
        stop.notice(events)
        for done in pool.collect(events):       # write the chunk, then give the slot back
            ...
        while (slot := slots.take()) is not None and a message is there:
            pool.give((accounts.receive(), slot, size))
        pool.hand_out()
    pool.close()

and in each child the body that was named::

    def work(port, slots, options):
        for serial, slot, size in port.tasks():
            ...                                 # the message is in slots[slot][:size]; write the chunk there
            port.answer(serial, "indexed", n_byte)
"""
