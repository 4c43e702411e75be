"""Imported by the server that jobs are forked from, before anything else: signals to a whole group of processes, from a
scheduler or a shell, are not for it. It has to outlive its jobs, or nobody could tell how they ended.
"""

import signal

for _number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(_number, signal.SIG_IGN)
