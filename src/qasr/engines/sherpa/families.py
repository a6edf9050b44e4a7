"""Which kind of model lies in a folder, told from its files and what they say about themselves.

The files are named as in the releases of sherpa-onnx; in between may stand what a training run is called, and ``int8``
or ``fp16``::

    family                 files                                                  told apart by
    sense_voice            model, tokens.txt                                      model_type sense_voice_ctc
    paraformer             model, tokens.txt                                      model_type paraformer
    ctc                    model, tokens.txt                                      model_type zipformer2_ctc
    streaming_paraformer   encoder, decoder, tokens.txt                           model_type paraformer
    transducer             encoder, decoder, joiner, tokens.txt [, bpe.vocab]     no decode_chunk_len
    streaming_transducer   encoder, decoder, joiner, tokens.txt [, bpe.vocab]     decode_chunk_len
    funasr_nano            encoder_adaptor, llm, embedding, a tokenizer's folder
    qwen3_asr              conv_frontend, encoder, decoder, a tokenizer's folder
    punctuation            model                                                  property punctuations
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qasr.engines.sherpa import header
from qasr.engines.sherpa.header import Header


class Family(enum.Enum):
    """What sherpa-onnx loads in the same way."""

    SENSE_VOICE = "sense_voice"
    PARAFORMER = "paraformer"
    CTC = "ctc"
    STREAMING_PARAFORMER = "streaming_paraformer"
    TRANSDUCER = "transducer"
    STREAMING_TRANSDUCER = "streaming_transducer"
    FUNASR_NANO = "funasr_nano"
    QWEN3_ASR = "qwen3_asr"
    PUNCTUATION = "punctuation"


class NotAModel(ValueError):
    """The folder holds no model of a known family; the message says what it lacks, and names no path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A folder that was looked at."""

    family: Family
    files: Mapping[str, str]
    """Paths, by the part they play."""
    header: Header
    """Of the part that hears."""


_SINGLE: Final = {
    "sense_voice_ctc": Family.SENSE_VOICE,
    "paraformer": Family.PARAFORMER,
    "zipformer2_ctc": Family.CTC,
}
_NEEDED: Final = {
    Family.SENSE_VOICE: (
        "vocab_size", "lfr_window_size", "lfr_window_shift", "normalize_samples", "with_itn", "without_itn",
        "lang_auto", "lang_zh", "lang_en", "lang_ja", "lang_ko", "lang_yue", "neg_mean", "inv_stddev",
    ),
    Family.PARAFORMER: ("vocab_size", "lfr_window_size", "lfr_window_shift", "neg_mean", "inv_stddev"),
    Family.CTC: (),
    Family.STREAMING_PARAFORMER: (
        "vocab_size", "lfr_window_size", "lfr_window_shift", "encoder_output_size", "decoder_num_blocks",
        "decoder_kernel_size", "neg_mean", "inv_stddev",
    ),
    Family.TRANSDUCER: (),
    Family.STREAMING_TRANSDUCER: ("model_type",),
    Family.FUNASR_NANO: ("lfr_window_size", "lfr_window_shift", "llm_dim"),
    Family.QWEN3_ASR: (),
    Family.PUNCTUATION: ("tokens", "vocab_size", "unk_symbol"),
}  # fmt: skip
"""Properties without which the library ends its process."""
_TOKENIZER: Final = ("vocab.json", "merges.txt")


def look_at(folder: Path) -> Model:
    """The model in *folder*. Of two files for the same part, the one in int8 is taken.

    Raises:
        NotAModel: there is none that we know, or it lacks something.
    """
    if not folder.is_dir():
        raise NotAModel("there is no such folder")
    parts = _parts(folder)
    try:
        model = _model(folder, parts)
    except (ValueError, OSError) as error:
        if isinstance(error, NotAModel):
            raise
        raise NotAModel(f"a file is damaged or no ONNX model: {error}") from error
    missing = [name for name in _NEEDED[model.family] if name not in model.header.properties]
    if missing:
        raise NotAModel(f"its {model.family.value} model lacks the properties {', '.join(missing)}")
    return model


def _model(folder: Path, parts: Mapping[str, Path]) -> Model:
    match parts:
        case {"encoder_adaptor": encoder, "llm": _, "embedding": _}:
            return _made(Family.FUNASR_NANO, encoder, parts, tokenizer=_tokenizer(folder, "tokenizer.json"))
        case {"conv_frontend": _, "encoder": encoder, "decoder": _}:
            return _made(Family.QWEN3_ASR, encoder, parts, tokenizer=_tokenizer(folder, "tokenizer_config.json"))
        case {"encoder": encoder, "decoder": _, "joiner": _}:
            streams = "decode_chunk_len" in header.read(encoder).properties
            family = Family.STREAMING_TRANSDUCER if streams else Family.TRANSDUCER
            vocabulary = folder / "bpe.vocab"
            bpe = {"bpe_vocab": vocabulary} if vocabulary.is_file() else {}
            return _made(family, encoder, parts, tokens=_tokens(folder), **bpe)
        case {"encoder": encoder, "decoder": _}:
            return _made(Family.STREAMING_PARAFORMER, encoder, parts, tokens=_tokens(folder))
        case {"model": model}:
            properties = header.read(model).properties
            if "punctuations" in properties:
                return _made(Family.PUNCTUATION, model, parts)
            kind = properties.get("model_type", "")
            if kind not in _SINGLE:
                raise NotAModel(f"model_type {kind[:50]!r} is not one of {', '.join(sorted(_SINGLE))}")
            return _made(_SINGLE[kind], model, parts, tokens=_tokens(folder))
    raise NotAModel(
        f"it holds {', '.join(sorted(parts)) or 'no ONNX files'}, which is no model that is known (docs/engines.md)"
    )


def _made(family: Family, main: Path, parts: Mapping[str, Path], **others: Path) -> Model:
    files = {name: str(path) for name, path in (*parts.items(), *others.items())}
    return Model(family=family, files=files, header=header.read(main))


def _parts(folder: Path) -> dict[str, Path]:
    """ONNX files by the first words of their names."""
    known = ("encoder_adaptor", "conv_frontend", "encoder", "decoder", "joiner", "llm", "embedding", "model")
    parts: dict[str, Path] = {}
    for path in sorted(folder.glob("*.onnx"), key=lambda path: ("int8" not in path.name, path.name)):
        name = next((name for name in known if path.name.replace("-", "_").startswith(name)), None)
        if name is not None:
            parts.setdefault(name, path)
    return parts


def _tokens(folder: Path) -> Path:
    path = folder / "tokens.txt"
    if not path.is_file():
        raise NotAModel("tokens.txt is missing")
    return path


def _tokenizer(folder: Path, also: str) -> Path:
    """The folder, this one or one in it, with the files of a tokenizer."""
    wanted = (*_TOKENIZER, also)
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if all((place / name).is_file() for name in wanted):
            return place
    raise NotAModel(f"no folder in it holds {', '.join(wanted)}")


def favors(model: Model) -> bool:
    """Whether phrases can be written in the model's tokens: by a vocabulary, or because these are characters."""
    return "bpe_vocab" in model.files or has_han(model)


def has_han(model: Model) -> bool:
    """Whether Chinese characters are among the model's tokens."""
    return bool(re.search("^[一-鿿] ", Path(model.files["tokens"]).read_text(encoding="utf-8"), re.MULTILINE))
