# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU time of reading 4 MB messages, beside that of the bare client library against the same server."""

import re
import subprocess
import sys
from pathlib import Path

from asapo_check.setting import LARGE, STREAM, Run, acknowledged, report
from gpuidx.simulation.asapo.server import StandIn

BARE = """
import sys, time
import asapo_consumer
endpoint, beamtime, source, token, stream, count = sys.argv[1:]
consumer = asapo_consumer.create_consumer(endpoint, "auto", False, beamtime, source, token, 1000)
consumer.set_resend_nacs(True, 60000, 1000)
begun = time.process_time()
for n in range(int(count)):
    _, told = consumer.get_next("bare", meta_only=True, stream=stream, ordered=False)
    consumer.retrieve_data(told)
    consumer.acknowledge("bare", told["_id"], stream=stream)
print(time.process_time() - begun)
"""


def check(folder: Path, count: int) -> bool:
    """Seconds of CPU for a GB: one core for 1 GB/s is 1.0."""
    gigabytes = count * len(LARGE.payload(1)) / 1e9
    with StandIn() as server:
        LARGE.put(server, count)
        where = [server.endpoint, server.beamtime, server.source, server.token, STREAM, str(count)]
        bare = float(subprocess.check_output([sys.executable, "-c", BARE, *where]))
        run = Run(folder, server, "--asapo-acks", "-j1", frames=LARGE)
        server.store.wait_until(lambda: len(acknowledged(server)) > 0, 60)
        main, begun, reader = _cpu(run.process.pid), len(acknowledged(server)), _reader(run.process.pid)
        start = _cpu(reader)
        server.store.wait_until(lambda: len(acknowledged(server)) >= count, 300)
        share = gigabytes * (count - begun) / count
        ours, mains = (_cpu(reader) - start) / share, (_cpu(run.process.pid) - main) / share
        server.finish(STREAM)
        wrong = run.wait().wrong(range(1, count + 1))
    if ours > 1.0:
        wrong.append("the reader needs more than one core for 1 GB/s")
    row = f"bare library {bare / gigabytes:.2f}, reader {ours:.2f}, main process {mains:.2f} s/GB "
    return report(f"{count} messages of 4 MB", wrong, row)


def _cpu(pid: int) -> float:
    """Seconds of CPU time of a process and its threads; by the scheduler, to the ns."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _reader(pid: int) -> int:
    """The reader's process number."""
    below = [pid]
    for one in below:
        below += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    found = [one for one in below[1:] if re.search("libasapo|asapo_consumer", _maps(one))]
    return found[0]


def _maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()
