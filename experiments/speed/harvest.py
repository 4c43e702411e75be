"""Harvesting activations against the model's own forward pass on the same batches: median ratio of rounds in turn.

    python experiments/speed/harvest.py           (--device cuda --batch 256 on a GPU; --rows 4000 to rehearse)

The model has the shape of a 6-layer, 384-wide BERT and random weights, or is one of yours (--model). Its last layer is
harvested, for which all of the model runs, from tokens to finished files; the forward pass keeps nothing.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from sparse_ae.data.activations.cache import Cache
from sparse_ae.data.activations.cutting import cut
from sparse_ae.data.activations.harvest import Harvest
from sparse_ae.data.activations.language_model import LanguageModel

VOCABULARY = 30_522
LAYER = "encoder.layer.5"
WORDS_PER_DOCUMENT = 1000


def save_model(folder: Path) -> None:
    special = ["[PAD]", "[UNK]", "[SEP]"]
    words = {word: i for i, word in enumerate([*special, *(f"w{i}" for i in range(VOCABULARY - len(special)))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


def text(rows: int) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(VOCABULARY - 3, (-(-rows // WORDS_PER_DOCUMENT), WORDS_PER_DOCUMENT), generator=generator)
    return [" ".join(f"w{word}" for word in document) for document in words.tolist()]


def seconds(call: Callable[[], None], device: torch.device) -> float:
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def measure(folder: Path, options: argparse.Namespace) -> None:
    device = torch.device(options.device)
    if options.model is None:
        save_model(folder / "model")
    model = LanguageModel(options.model or folder / "model", "model")
    contexts = cut(
        enumerate(text(options.rows)),
        model.tokenizer,
        context=options.context,
        packing="pack",
        special_tokens=False,
        most_rows=options.rows,
    )
    harvest = Harvest(model, contexts, batch_size=options.batch, max_norm_ratio=10.0)
    model.move(device)
    runs = iter(range(2 * options.rounds + 2))

    def forward() -> None:
        with torch.inference_mode():
            for span in contexts.shards():
                for token, mask, _ in contexts.batches(span, options.batch, model.padding):
                    model.model(input_ids=token.to(device), attention_mask=mask.to(device))

    def harvested() -> None:
        with redirect_stdout(None):
            harvest.fill({options.layer: Cache(folder / str(next(runs)))}, device)

    if device.type == "cuda":  # kernels are chosen at the first call
        forward()
        harvested()
    times = [(seconds(forward, device), seconds(harvested, device)) for _ in range(options.rounds)]
    speeds = [contexts.rows / statistics.median(each) for each in zip(*times, strict=True)]
    ratio = statistics.median(own / ours for own, ours in times)
    print(f"{contexts.rows:,} tokens, contexts of {options.context}, batch {options.batch}, {device}\n")
    print("| forward pass, tokens/s | harvest, tokens/s | ratio | wanted |\n|---|---|---|---|")
    print(f"| {speeds[0]:,.0f} | {speeds[1]:,.0f} | {ratio:.2f} | at least 0.9 |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=80_000)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, help="folder of a model of yours")
    parser.add_argument("--layer", default=LAYER, help="its last layer")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


if __name__ == "__main__":
    main()
