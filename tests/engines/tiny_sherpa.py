"""Models for sherpa-onnx of some kilobytes: the true files, signatures and properties, without any training.

Where the text is to depend on the sound, weights are random; where a decision is tested, the answer is fixed. Which
properties and inputs a kind of model has is read from what the library asks for.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BINS: Final = 80
STACKED: Final = 7 * BINS
WORDS: Final = [
    *("▁one", "▁two", "▁three", "▁four", "▁five", "▁six", "▁seven", "▁eight", "▁nine"),
    *("▁on", "▁off", "▁up", "▁down", "▁left", "▁right", "▁yes"),
]
TAGS: Final = [
    *(f"<|{code}|>" for code in ("zh", "en", "yue", "ja", "ko", "nospeech")),
    *(f"<|{mood}|>" for mood in ("HAPPY", "SAD", "ANGRY", "NEUTRAL", "FEARFUL", "DISGUSTED", "SURPRISED")),
    "<|EMO_UNKNOWN|>", "<|Speech|>", "<|BGM|>", "<|Laughter|>", "<|withitn|>", "<|woitn|>",
]  # fmt: skip
LANGUAGES: Final = {"auto": 0, "zh": 3, "en": 4, "yue": 7, "ja": 11, "ko": 12}
"""As the real model numbers them."""

F, I32, I64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


Shapes: TypeAlias = Mapping[str, tuple[int, Sequence[int | str]]]
"""Kind and shape of values, by name."""


class Graph:
    """Nodes one after the other; values are named by what makes them."""

    def __init__(self, **inputs: tuple[int, Sequence[int | str]]) -> None:
        self._inputs = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"weight{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def __call__(self, operator: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        name = to or f"{operator.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def save(self, path: Path, outputs: Shapes, **properties: Any) -> None:
        infos = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()]
        graph = helper.make_graph(self._nodes, "tiny", self._inputs, infos, self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        for key, value in properties.items():
            entry = model.metadata_props.add()
            entry.key = key
            entry.value = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(path))


def _random(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _contrasts(n_inputs: int, n_outputs: int) -> Any:
    """Random weights that see differences between bins, not how loud all of them are."""
    weights = _random(n_inputs, n_outputs)
    return weights - weights.mean(axis=0)


def _symbols(folder: Path, symbols: Sequence[str]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{symbol} {i}\n" for i, symbol in enumerate(symbols))
    (folder / "tokens.txt").write_text(lines, encoding="utf-8")
    return len(symbols)


_LFR: Final[dict[str, Any]] = {
    "lfr_window_size": 7,
    "lfr_window_shift": 6,
    "neg_mean": [-8.0] * STACKED,
    "inv_stddev": [0.2] * STACKED,
}


def sense_voice(
    folder: Path,
    *,
    said: Sequence[str] = (),
    language: str = "en",
    emotion: str = "HAPPY",
    event: str = "Speech",
    without: str = "",
) -> Path:
    """SenseVoice: it says *said*, a token per 120 ms, or what its weights make of the sound; it finds *language* where
    none is forced, and with ITN its first token is ``▁10``. *without*: a property that is left out.
    """
    symbols = ["<blank>", *WORDS, "▁10", *TAGS]
    n_symbols = _symbols(folder, symbols)
    g = Graph(x=(F, ["N", "T", STACKED]), x_length=(I32, ["N"]), language=(I32, ["N"]), text_norm=(I32, ["N"]))
    rows = g.constant(10 * np.eye(n_symbols))
    heads = np.zeros(16, np.int64)
    for code, place in LANGUAGES.items():
        heads[place] = symbols.index(f"<|{language if code == 'auto' else code}|>")
    one = g.constant([1], np.int64)
    languages = g("Gather", g.constant(heads, np.int64), "language")
    first = g("Unsqueeze", g("Gather", rows, languages), one)
    zero = g("Mul", first, g.constant(0.0))

    def fixed(symbol: str) -> str:
        return g("Add", zero, g.constant(10 * np.eye(n_symbols)[symbols.index(symbol)]))

    numbers = np.zeros(16, np.int64)
    numbers[14], numbers[15] = symbols.index("▁10"), 0
    number = g("Unsqueeze", g("Gather", rows, g("Gather", g.constant(numbers, np.int64), "text_norm")), one)
    if said:
        table = np.zeros((2 * len(said) + 2, n_symbols), np.float32)
        for i, symbol in enumerate(said):
            table[2 * i + 2, symbols.index(symbol)] = 5
        body = _by_position(g, table)
    else:
        weights = _contrasts(STACKED, n_symbols)
        words_only = np.where(np.arange(n_symbols) <= len(WORDS), 0, -1000)
        body = g("Add", g("MatMul", "x", g.constant(weights)), g.constant(words_only))
    rest = g("Slice", body, *(g.constant([v], np.int64) for v in (1, 9999, 1)))
    heads4 = (first, fixed(f"<|{emotion}|>"), fixed(f"<|{event}|>"), fixed("<|withitn|>"))
    g("Concat", *heads4, number, rest, to="logits", axis=1)
    properties = {
        "model_type": "sense_voice_ctc",
        "comment": "tiny",
        "vocab_size": n_symbols,
        "normalize_samples": 0,
        "with_itn": 14,
        "without_itn": 15,
        "lang_nospeech": 13,
        **{f"lang_{code}": place for code, place in LANGUAGES.items()},
        **_LFR,
    }
    properties.pop(without, None)
    g.save(folder / "model.onnx", {"logits": (F, ["N", "L", n_symbols])}, **properties)
    return folder


def _by_position(g: Graph, table: Any) -> str:
    """Rows of *table* for the frames of ``x``, the last one for all that follow."""
    n_frames = g("Gather", g("Shape", "x"), g.constant(1, np.int64))
    positions = g("Range", g.constant(0, np.int64), n_frames, g.constant(1, np.int64))
    rows = g("Gather", g.constant(table), g("Min", positions, g.constant(len(table) - 1, np.int64)))
    zeros = g("Mul", g("ReduceMax", "x", axes=[2], keepdims=1), g.constant(0.0))
    return g("Add", zeros, rows)


def paraformer(folder: Path) -> Path:
    """Paraformer: a token per frame, until there is no sound."""
    symbols = ["<blank>", "<s>", "</s>", *(word.removeprefix("▁") for word in WORDS), "你", "好", "spea@@", "king"]
    n_symbols = _symbols(folder, symbols)
    g = Graph(speech=(F, ["N", "T", STACKED]), speech_lengths=(I32, ["N"]))
    bias = np.zeros(n_symbols, np.float32)
    bias[:2], bias[2] = -100, 0.01
    g("Add", g("MatMul", "speech", g.constant(_contrasts(STACKED, n_symbols))), g.constant(bias), to="logits")
    g("Identity", "speech_lengths", to="token_num")
    outputs: Shapes = {
        "logits": (F, ["N", "T", n_symbols]),
        "token_num": (I32, ["N"]),
    }
    g.save(folder / "model.int8.onnx", outputs, model_type="paraformer", vocab_size=n_symbols, **_LFR)
    return folder


def streaming_paraformer(folder: Path) -> Path:
    """Streaming Paraformer: a token fires every third frame."""
    symbols = ["<blank>", "<s>", "</s>", *(word.removeprefix("▁") for word in WORDS), "你", "好"]
    n_symbols, width = _symbols(folder, symbols), 8
    g = Graph(speech=(F, [1, "T", STACKED]), speech_lengths=(I32, [1]))
    g("MatMul", "speech", g.constant(_random(STACKED, width) / 8), to="enc")
    g("Identity", "speech_lengths", to="enc_len")
    highest = g("ReduceMax", "speech", axes=[2], keepdims=0)
    g("Add", g("Mul", highest, g.constant(0.0)), g.constant(0.34), to="alphas")
    g.save(
        folder / "encoder.int8.onnx",
        {"enc": (F, [1, "T", width]), "enc_len": (I32, [1]), "alphas": (F, [1, "T"])},
        model_type="paraformer",
        vocab_size=n_symbols,
        encoder_output_size=width,
        decoder_num_blocks=1,
        decoder_kernel_size=3,
        **_LFR,
    )
    g = Graph(
        enc=(F, [1, "T", width]),
        enc_len=(I32, [1]),
        acoustic_embeds=(F, [1, "U", width]),
        acoustic_embeds_len=(I32, [1]),
        in_cache_0=(F, [1, width, 2]),
    )
    weights = _random(width, n_symbols, seed=1)
    weights[:, :3] = 0
    g("MatMul", "acoustic_embeds", g.constant(weights), to="logits")
    g("ArgMax", "logits", to="sample_ids", axis=-1, keepdims=0)
    g("Identity", "in_cache_0", to="out_cache_0")
    outputs: Shapes = {
        "logits": (F, [1, "U", n_symbols]), "sample_ids": (I64, [1, "U"]), "out_cache_0": (F, [1, width, 2]),
    }  # fmt: skip
    g.save(folder / "decoder.int8.onnx", outputs)
    return folder


def ctc(folder: Path) -> Path:
    """Zipformer with CTC: a token per frame at most."""
    n_symbols = _symbols(folder, ["<blk>", *WORDS])
    g = Graph(x=(F, ["N", "T", BINS]), x_lens=(I64, ["N"]))
    g("MatMul", "x", g.constant(_contrasts(BINS, n_symbols)), to="log_probs")
    g("Identity", "x_lens", to="log_probs_len")
    outputs: Shapes = {
        "log_probs": (F, ["N", "T", n_symbols]), "log_probs_len": (I64, ["N"]),
    }  # fmt: skip
    g.save(folder / "model.onnx", outputs, model_type="zipformer2_ctc")
    return folder


HOMOPHONES: Final = ("号", "好")
"""What the transducers hear at the beginning: the first of them a little rather than the second; nothing after it."""


def transducer(folder: Path, *, streaming: bool) -> Path:
    """A transducer, offline (as zipformer) or streaming (as LSTM); its text is one of ``HOMOPHONES``."""
    symbols = ["<blk>", *HOMOPHONES]
    n_symbols, width = _symbols(folder, symbols), 4
    if streaming:
        g = Graph(x=(F, ["N", 9, BINS]), h=(F, [1, "N", width]), c=(F, [1, "N", width]))
        frame = g("Slice", "x", *(g.constant(v, np.int64) for v in ([0], [1], [1])))
        g("MatMul", frame, g.constant(_random(BINS, width)), to="encoder_out")
        g("Identity", "h", to="next_h")
        g("Identity", "c", to="next_c")
        g.save(
            folder / "encoder-epoch-1-avg-1.onnx",
            {"encoder_out": (F, ["N", 1, width]), "next_h": (F, [1, "N", width]), "next_c": (F, [1, "N", width])},
            model_type="lstm", num_encoder_layers=1, T=9, decode_chunk_len=4, rnn_hidden_size=width, d_model=width,
        )  # fmt: skip
    else:
        g = Graph(x=(F, ["N", "T", BINS]), x_lens=(I64, ["N"]))
        g("MatMul", "x", g.constant(_random(BINS, width)), to="encoder_out")
        g("Identity", "x_lens", to="encoder_out_lens")
        g.save(
            folder / "encoder-epoch-1-avg-1.onnx",
            {"encoder_out": (F, ["N", "T", width]), "encoder_out_lens": (I64, ["N"])},
            model_type="zipformer2", comment="non-streaming",
        )  # fmt: skip
    g = Graph(y=(I64, ["N", 2]))
    newest = g("Slice", "y", *(g.constant(v, np.int64) for v in ([1], [2], [1])))
    state = np.zeros((n_symbols, width), np.float32)
    state[0, 0], state[1:, 1] = 1, 1
    g("Squeeze", g("Gather", g.constant(state), newest), g.constant([1], np.int64), to="decoder_out")
    g.save(
        folder / "decoder-epoch-1-avg-1.onnx", {"decoder_out": (F, ["N", width])}, vocab_size=n_symbols, context_size=2
    )
    g = Graph(encoder_out=(F, ["N", width]), decoder_out=(F, ["N", width]))
    logits = np.zeros((width, n_symbols), np.float32)
    logits[0], logits[1] = [0, 5, 4.8], [9, 0, 0]
    silent = g("Mul", "encoder_out", g.constant(0.0))
    g("MatMul", g("Add", silent, "decoder_out"), g.constant(logits), to="logit")
    g.save(folder / "joiner-epoch-1-avg-1.onnx", {"logit": (F, ["N", n_symbols])}, joiner_dim=width)
    return folder


def punctuation(folder: Path) -> Path:
    """CT-transformer: a comma behind each word, a full stop behind the last."""
    tokens, marks = ["<unk>", "one", "two"], ["<unk>", "_", "，", "。", "？", "、"]
    g = Graph(inputs=(I32, ["N", "T"]), text_lengths=(I32, ["N"]))
    ones = g("Where", g("Equal", "inputs", g.constant(0, np.int32)), g.constant(1.0), g.constant(1.0))
    zeros = g("Unsqueeze", g("Mul", ones, g.constant(0.0)), g.constant([2], np.int64))
    g("Add", zeros, g.constant([0, 0, 5, 1, 0, 0]), to="logits")
    g.save(
        folder / "model.onnx", {"logits": (F, ["N", "T", len(marks)])},
        tokens="|".join(tokens), vocab_size=len(tokens), punctuations="|".join(marks), unk_symbol="<unk>",
    )  # fmt: skip
    return folder


# ---- models that write token by token, after a prompt

_BYTES: Final = [*range(33, 127), *range(161, 173), *range(174, 256)]
_LETTERS: Final = [
    chr(byte) if byte in _BYTES else chr(256 + [b for b in range(256) if b not in _BYTES].index(byte))
    for byte in range(256)
]
"""The byte-level alphabet of GPT-2: one token per byte."""
_SPECIAL: Final = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>", "<asr_text>",
]  # fmt: skip
_TOKENS: Final = [*_LETTERS, *_SPECIAL]
_ID: Final = {token: i for i, token in enumerate(_TOKENS)}


def _tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True)
    vocabulary = {token: i for i, token in enumerate(_LETTERS)}
    added = [{"id": _ID[token], "content": token, "special": True} for token in _SPECIAL]
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "tokenizer.json").write_text(
        json.dumps({"added_tokens": added, "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}),
        encoding="utf-8",
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": {str(one["id"]): one for one in added}}), encoding="utf-8"
    )


def _writing(g: Graph, embedded: str, said: str, marks: Mapping[str, str], *, endless: bool) -> None:
    """Logits from one-hot tokens ``[1, S, V]``: each byte of *said* after the one before, or, where a byte of *marks*
    stood in the prompt, the text that belongs to it. All texts begin with another byte than any other has.
    """
    follows = np.zeros((len(_TOKENS), len(_TOKENS)), np.float32)
    begins = np.zeros((len(_TOKENS), len(_TOKENS)), np.float32)
    for mark, text in {"\n": said, **marks}.items():
        ids = list(text.encode())
        begins[ord(mark), ids[0]] = 1 if mark == "\n" else 50
        for before, after in zip(ids, [*ids[1:], ids[0] if endless else _ID["<|im_end|>"]], strict=True):
            follows[before, after] = 1000
    written = sorted({byte for text in (said, *marks.values()) for byte in text.encode()})
    begins[written] = 0  # what was written is no prompt
    seen = g("CumSum", embedded, g.constant(1, np.int64))
    g("Add", g("MatMul", embedded, g.constant(follows)), g("MatMul", seen, g.constant(begins)), to="logits")


def _cached(g: Graph, embedded: str) -> Shapes:
    """Keys and values of one layer, which nothing depends on."""
    for name in ("key_delta", "value_delta"):
        narrow = g("Slice", embedded, *(g.constant([v], np.int64) for v in (0, 2, 2)))
        g("Unsqueeze", narrow, g.constant([2], np.int64), to=name)
    return {name: (F, [1, "S", 1, 2]) for name in ("key_delta", "value_delta")}


_PAST: Final[Shapes] = {
    "past_key_0": (F, [1, "L", 1, 2]), "past_value_0": (F, [1, "L", 1, 2]),
}  # fmt: skip


def funasr_nano(
    folder: Path, *, said: str = "hey", marks: Mapping[str, str] | None = None, endless: bool = False
) -> Path:
    """Fun-ASR-Nano: it says *said*, or what *marks* have for a letter in its prompt."""
    width = len(_TOKENS)
    _tokenizer(folder / "Qwen3-0.6B")
    g = Graph(x=(F, [1, "T", STACKED]))
    g("MatMul", "x", g.constant(np.zeros((STACKED, width), np.float32)), to="enc")
    g.save(
        folder / "encoder_adaptor.int8.onnx", {"enc": (F, [1, "T", width])},
        lfr_window_size=7, lfr_window_shift=6, llm_dim=width,
    )  # fmt: skip
    g = Graph(input_ids=(I64, [1, "S"]))
    g("Gather", g.constant(np.eye(width)), "input_ids", to="embeds")
    g.save(folder / "embedding.int8.onnx", {"embeds": (F, [1, "S", width])}, hidden_size=width)
    g = Graph(inputs_embeds=(F, [1, "S", width]), attention_mask=(I64, [1, "L2"]), cache_position=(I64, ["S"]), **_PAST)
    _writing(g, "inputs_embeds", said, marks or {}, endless=endless)
    outputs: Shapes = {"logits": (F, [1, "S", width]), **_cached(g, "inputs_embeds")}
    g.save(
        folder / "llm.int8.onnx", outputs,
        vocab_size=width, num_layers=1, max_total_len=1024, hidden_size=width, model_type="tiny_kv_delta",
    )  # fmt: skip
    return folder


def qwen3_asr(
    folder: Path, *, said: str = "hey", marks: Mapping[str, str] | None = None, endless: bool = False
) -> Path:
    """Qwen3-ASR as sherpa-onnx exports it: as ``funasr_nano``, of another signature."""
    width, n_audio = len(_TOKENS), 4
    _tokenizer(folder / "tokenizer")
    g = Graph(mel=(F, [1, "T", 128]))
    halves = g("Slice", "mel", *(g.constant([v], np.int64) for v in (0, 9999, 1, 8)))
    g("MatMul", halves, g.constant(_random(128, n_audio)), to="conv")
    g.save(folder / "conv_frontend.onnx", {"conv": (F, [1, "A", n_audio])})
    g = Graph(conv=(F, [1, "A", n_audio]), mask=(TensorProto.BOOL, [1, "A"]))
    g("Add", "conv", g.constant(0.1), to="features")
    g.save(folder / "encoder.int8.onnx", {"features": (F, [1, "A", n_audio])}, hidden_size=n_audio)
    g = Graph(
        input_ids=(I64, [1, "S"]), audio_features=(F, [1, "A", n_audio]), attention_mask=(I64, [1, "L2"]),
        cache_position=(I64, ["S"]), **_PAST,
    )  # fmt: skip
    embedded = g("Gather", g.constant(np.eye(width)), "input_ids")
    _writing(g, embedded, said, marks or {}, endless=endless)
    outputs: Shapes = {"logits": (F, [1, "S", width]), **_cached(g, embedded)}
    g.save(folder / "decoder.int8.onnx", outputs, vocab_size=width, num_layers=1)
    return folder
