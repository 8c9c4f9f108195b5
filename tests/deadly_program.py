# SPDX-License-Identifier: GPL-3.0-or-later
"""gpuidx whose workers die at the message with the id `DEADLY`: ``python deadly_program.py WORD ...``."""

import os
import signal
import sys
from typing import Any

DEADLY = 3


def work(port: Any, *args: Any) -> None:
    """The worker, but for that message."""
    from gpuidx import worker

    class Pipeline(worker.Pipeline):
        def process(self, message: Any, place: memoryview) -> Any:
            if message.serial == DEADLY:
                place[:100] = bytes(100)  # it may have written over the message before it died
                os.kill(os.getpid(), signal.SIGKILL)
            return super().process(message, place)

    worker.Pipeline = Pipeline  # type: ignore[misc]
    worker.work(port, *args)


if __name__ == "__main__":
    import gpuidx.run
    from gpuidx.cli import main

    pool = gpuidx.run.Pool
    gpuidx.run.Pool = lambda body, *args, **more: pool("deadly_program:work", *args, **more)  # type: ignore
    sys.exit(main(sys.argv[1:]))
