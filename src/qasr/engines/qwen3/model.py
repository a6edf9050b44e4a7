"""All of the model in one piece: checkpoint, encoder, decoder, loop, on a device and in a precision."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from qasr.engines.qwen3 import checkpoint
from qasr.engines.qwen3.checkpoint import BadCheckpoint
from qasr.engines.qwen3.decoder import Decoder
from qasr.engines.qwen3.encoder import Encoder
from qasr.engines.qwen3.linear import Int8, check_int8, packed
from qasr.engines.qwen3.loop import Loop
from qasr.engines.qwen3.prompt import Prompts
from qasr.engines.qwen3.setup import Device, Precision, Setup

_STORED: Final = {"bf16": torch.bfloat16, "fp32": torch.float32, "int8": torch.bfloat16}
"""Of the weights as they are loaded, of the encoder, and of keys and values."""


@dataclass(frozen=True, slots=True)
class Model:
    """Ready to write."""

    loop: Loop
    prompts: Prompts
    device: str


def assemble(setup: Setup, *, cut_loops: bool = True) -> Model:
    """Load what *setup* names. Threads are set for the whole process.

    With ``int8``, the decoder's products have eight-bit weights and its other activations are float32; the encoder
    stays bfloat16, because most of its time goes into convolutions.

    Raises:
        BadCheckpoint: the folder holds no such model.
        ValueError: this machine cannot do what *setup* asks for.
    """
    device = choose_device(setup.device, setup.precision)
    if setup.threads:
        torch.set_num_threads(setup.threads)
    stored = _STORED[setup.precision]
    loaded = checkpoint.load(Path(setup.folder), dtype=stored, device=device)
    if loaded.is_aligner:
        raise BadCheckpoint(f"{setup.folder} holds a forced aligner, which hears nothing; it belongs to qwen3_aligner")
    encoder = Encoder(loaded.model.model, stored, device)
    if setup.precision == "int8":
        check_int8()
        decoder = Decoder(loaded.model, Int8, dtype=torch.float32, kv_dtype=stored, device=device)
    else:
        decoder = Decoder(loaded.model, packed, dtype=stored, kv_dtype=stored, device=device)
    loop = Loop(
        encoder,
        decoder,
        rows=setup.rows,
        spare_rows=setup.spare_rows,
        places=setup.places,
        end_ids=loaded.end_ids,
        device=device,
        cut_loops=cut_loops,
    )
    return Model(loop, Prompts(loaded.tokenizer), device)


def choose_device(wanted: Device, precision: Precision) -> str:
    """The device to run on.

    Raises:
        ValueError: there is none, or it cannot compute in *precision*.
    """
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise ValueError("device=cuda, but torch finds no CUDA GPU")
    if precision == "int8":
        if wanted == "cuda":
            raise ValueError("precision=int8 is for CPUs; a GPU has bf16")
        return "cpu"
    return "cuda" if has_cuda and wanted != "cpu" else "cpu"
