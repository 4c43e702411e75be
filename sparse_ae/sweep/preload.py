"""Everything a job imports, for the server that jobs are forked from. Nothing here may compute or ask for a GPU."""

import sparse_ae.analysis.overview
import sparse_ae.analysis.write
import sparse_ae.jobs.execute
import sparse_ae.training.checkpointing
import sparse_ae.training.logger
import sparse_ae.training.progress
import sparse_ae.training.resume
import sparse_ae.training.schedulers
import sparse_ae.training.visuals  # noqa: F401
