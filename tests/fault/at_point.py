#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""at_point.py N SIGNAL[,SIGNAL...] LOG COMMAND...: run COMMAND and give it the signals when one of
its threads has made its N-th system call of those below. Prints "FIRED STATUS SECONDS": were they
sent, the exit status as a shell tells it (no_exit: killed after 20 s), and how long it took to
leave after the first.

strace cannot do it alone: what it injects is for the one thread, and the library's threads take no
signals. So it stops the process there, and the signals come from outside, as in real life."""

import os
import signal
import subprocess
import sys
import time

# None that a program makes while it is loaded: it has no handler yet.
CALLS = ("pwrite64,fsync,sendto,recvfrom,sendmsg,recvmsg,renameat,renameat2,linkat,unlinkat,"
         "mkdirat,connect,accept4,epoll_wait")
PATIENCE_S = 20


def process_of(thread):
    """A thread's process. A signal for a thread's own number reaches the process as well, but only
    as long as the thread lives: with the thread gone nobody would ever be told to go on."""
    try:
        with open(f"/proc/{thread}/status", encoding="ascii", errors="replace") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("Tgid:"))
    except (OSError, StopIteration):
        return None


def look(log):
    """The process (strace has other children, with which it tries out what the kernel can do), and
    whether it was stopped."""
    try:
        with open(log, encoding="utf-8", errors="replace") as f:
            lines = [line for line in f if line.endswith("\n")]
    except OSError:
        return None, False
    stopped = [line for line in lines if "--- stopped by SIGSTOP ---" in line]
    known = (stopped or lines)[:1]
    return process_of(int(known[0].split()[0])) if known else None, bool(stopped)


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def main():
    if sys.argv[1:] == ["--calls"]:
        print(CALLS)
        return
    n, names, log = sys.argv[1:4]
    if os.path.exists(log):
        os.unlink(log)  # that of an earlier run must not be taken for ours
    numbers = [getattr(signal, "SIG" + name) for name in names.split(",")]
    strace = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", log, "-e", "trace=" + CALLS,
         "-e", f"inject={CALLS}:signal=STOP:when={n}", *sys.argv[4:]],
        stdout=sys.stderr, stdin=subprocess.DEVNULL)
    pid, sent, give_up = None, None, time.monotonic() + PATIENCE_S
    while strace.poll() is None:
        if sent is None:
            seen, stopped = look(log)
            pid = seen or pid
        if sent is None and stopped and pid:
            sent = time.monotonic()
            give_up = sent + PATIENCE_S
            for number in numbers:
                send(pid, number)
                time.sleep(0.02 if len(numbers) > 1 else 0)
        if sent is not None:
            send(pid, signal.SIGCONT)  # other threads come to their N-th call, too
        if time.monotonic() > give_up:
            # The process goes with strace, unless it is stopped: then it has to be told.
            if pid:
                send(pid, signal.SIGKILL)
            strace.kill()
            strace.wait()
            print(int(sent is not None), "no_exit", PATIENCE_S)
            return
        time.sleep(0.005)
    took = time.monotonic() - sent if sent else 0
    status = strace.returncode if strace.returncode >= 0 else 128 - strace.returncode
    print(int(sent is not None), status, f"{took:.1f}")


main()
