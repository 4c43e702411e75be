"""Results of analyses in TensorBoard: figures among the run's images, embeddings in its projector."""

import io
import math
from collections.abc import Mapping

import numpy as np
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.projector.projector_config_pb2 import EmbeddingInfo, ProjectorConfig
from torch.utils.tensorboard.writer import FileWriter

from sparse_ae.analysis.base import Embedding
from sparse_ae.plotting.pictures import Array, own_scale
from sparse_ae.run.directory import Run

_VECTORS, _LABELS = "projector_vectors.tsv", "projector_labels.tsv"
_LARGEST_SPRITE = 8192
"""Largest width and height, in pixels, of a sprite that the projector can show."""
_SPRITE = "projector.sprite"  # a PNG, which with that suffix would count as a figure


def show_figures(run: Run, name: str, figures: Mapping[str, bytes]) -> None:
    """Write PNGs as images ``analysis/<name>/<figure>``, in place of those of an earlier analysis of that name.

    Nothing is written for a run that does not log into TensorBoard.
    """
    if not run.event_files:
        return
    suffix = f".analysis-{name}"
    for old in run.path.glob(f"events.out.tfevents.*{suffix}"):
        old.unlink()
    writer = FileWriter(str(run.path), filename_suffix=suffix)
    for figure, png in figures.items():
        width, height = Image.open(io.BytesIO(png)).size
        image = Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=3)
        writer.add_summary(Summary(value=[Summary.Value(tag=f"analysis/{name}/{figure}", image=image)]), global_step=0)
    writer.close()


def projector_files(embedding: Embedding) -> dict[str, bytes]:
    """Encode an embedding for the projector: vectors and labels as text, pictures in one square sprite."""
    rows = ("\t".join(f"{value:.6g}" for value in vector) for vector in embedding.vectors.tolist())
    files = {
        _VECTORS: ("\n".join(rows) + "\n").encode(),
        _LABELS: ("\n".join(embedding.labels) + "\n").encode(),
    }
    return files if embedding.pictures is None else files | {_SPRITE: _sprite(_small(embedding.pictures))}


def _sprite(pictures: Array) -> bytes:
    """All pictures in a square, as a PNG."""
    n, height, width, *colour = pictures.shape
    side = math.ceil(math.sqrt(n))
    sheet = np.zeros((side * height, side * width, *colour), dtype=np.uint8)
    for i, picture in enumerate(pictures):
        scaled = own_scale(picture, signed=bool(colour) and bool((picture < 0).any()))
        top, left = i // side * height, i % side * width
        sheet[top : top + height, left : left + width] = np.round(255 * np.nan_to_num(scaled))
    sprite = io.BytesIO()
    Image.fromarray(sheet).save(sprite, format="png", optimize=True)
    return sprite.getvalue()


def _small(pictures: Array) -> Array:
    """Pictures ``(n, H, W, ...)`` with every so many pixels left out that their sprite is not too large."""
    side = math.ceil(math.sqrt(len(pictures))) * max(pictures.shape[1:3])
    every = math.ceil(side / _LARGEST_SPRITE)
    return pictures[:, ::every, ::every]


def show_embedding(run: Run, name: str, embedding: Embedding) -> None:
    """Point the projector to the files that the analysis ``name`` wrote."""
    folder = f"analysis/{name}"
    info = EmbeddingInfo(tensor_name=name, tensor_path=f"{folder}/{_VECTORS}", metadata_path=f"{folder}/{_LABELS}")
    if embedding.pictures is not None:
        height, width = _small(embedding.pictures).shape[1:3]
        info.sprite.image_path = f"{folder}/{_SPRITE}"
        info.sprite.single_image_dim.extend([width, height])
    run.write_projector(str(ProjectorConfig(embeddings=[info])))  # protobuf's text format
