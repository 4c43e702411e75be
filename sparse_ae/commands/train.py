"""Train one sparse autoencoder, or with ``-m`` a sweep of them: ``sparse-ae-train [overrides] [-m]``."""

from sparse_ae.cli.launch import launch

_DESCRIPTION = "Train one sparse autoencoder, or with -m a sweep of them."
_IDEAS = (
    "sparse-ae-train -m{same_data} seed=1,2   a sweep of other seeds",
    "sparse-ae-analyse {run} active_threshold=0.2",
)


def main() -> None:
    """Train as the command line says."""
    launch(
        "train", _DESCRIPTION, "sparse_ae.jobs.autoencoder:AutoencoderJob", "sparse_ae.sweeps.start:start_sweep", _IDEAS
    )


if __name__ == "__main__":
    main()
