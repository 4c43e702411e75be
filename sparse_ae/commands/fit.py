"""Fit one classical coder, or with ``-m`` a sweep of them: ``sparse-ae-fit coder=ksvd [overrides] [-m]``."""

from sparse_ae.cli.launch import launch

_DESCRIPTION = "Fit one classical coder, or with -m a sweep of them."
_IDEAS = (
    "sparse-ae-fit -m{same_data} coder=ksvd,online_dl,data_atoms coder.n_nonzero=8,32    a sweep",
    "sparse-ae-analyse {run} analysis=features,similarity",
)


def main() -> None:
    """Fit as the command line says."""
    launch("fit", _DESCRIPTION, "sparse_ae.jobs.coder:CoderJob", "sparse_ae.sweeps.start:start_sweep", _IDEAS)


if __name__ == "__main__":
    main()
