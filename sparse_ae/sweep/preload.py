"""Everything a job imports, for the server that jobs are forked from. Nothing here may compute or ask for a GPU."""

import sparse_ae.analysis.overview
import sparse_ae.analysis.write
import sparse_ae.job
import sparse_ae.training.checkpoints
import sparse_ae.training.logger
import sparse_ae.training.progress
import sparse_ae.training.resume
import sparse_ae.training.schedules
import sparse_ae.training.visuals  # noqa: F401
