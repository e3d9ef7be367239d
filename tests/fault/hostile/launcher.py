# SPDX-License-Identifier: Apache-2.0
"""Runs commands for run.py, one at a time: a JSON object a line in, one out.

A process of its own because it has to be small: what the kernel reports as a child's peak memory
counts that of whoever forked it as well.
"""

import json
import os
import select
import signal
import sys
import time

for line in sys.stdin:
    job = json.loads(line)
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.chdir(job["cwd"])
            for fd, path, flags in ((0, "/dev/null", os.O_RDONLY),
                                    (1, job["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
                                    (2, job["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
                os.dup2(os.open(path, flags, 0o600), fd)
            os.execve(job["argv"][0], job["argv"], job["env"])
        finally:
            os._exit(126)
    watch = os.pidfd_open(pid)
    hung = not select.select([watch], [], [], job["limit"])[0]
    os.close(watch)
    if hung:
        os.killpg(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    print(json.dumps({"exit": os.waitstatus_to_exitcode(status), "hung": hung,
                      "peak_kib": usage.ru_maxrss, "seconds": time.monotonic() - began}),
          flush=True)
