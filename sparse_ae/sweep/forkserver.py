"""Imports of the server that jobs are forked from, which ``process`` names by path; nothing else imports this module.

The server ignores the signals that schedulers and shells send to process groups: it must outlive its jobs to report
their exit codes. Nothing here may compute or ask for a GPU.
"""

import signal

for _number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(_number, signal.SIG_IGN)

import sparse_ae.analysis.overview  # noqa: E402
import sparse_ae.jobs.autoencoder  # noqa: E402
import sparse_ae.jobs.coder  # noqa: E402
import sparse_ae.jobs.execute  # noqa: E402
import sparse_ae.training.visuals  # noqa: E402, F401
