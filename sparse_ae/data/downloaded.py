"""Datasets in MNIST's format that torchvision downloads."""

import math

from sparse_ae.data.idx import IDX
from sparse_ae.lock import hold


class Downloaded(IDX):
    """28 x 28 images in MNIST's format, kept in ``root/<dataset>/raw``."""

    def prepare_data(self) -> None:
        """Download missing and damaged files, in one process while others wait.

        Raises ``OSError``, naming the files and their folder, if that fails.
        """
        folder = self.root / self.dataset.__name__ / "raw"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with hold(folder / ".download.lock", wait=math.inf):
                self.dataset(self.root, download=True)
        except (OSError, RuntimeError) as error:
            files = ", ".join(name for name, _ in self.dataset.resources)
            raise OSError(
                f"data={self.dataset.__name__}: cannot be downloaded ({str(error).splitlines()[0]}); "
                f"put {files} into {folder}"
            ) from error
