"""Loads a model of sherpa-onnx, in the child process that will hold it.

The library ends the process on a file that it cannot read; so all that can be told before is told before.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from qasr.engines.sherpa import languages
from qasr.engines.sherpa.families import Family, Model, NotAModel, favors, has_han, look_at
from qasr.engines.sherpa.host import MOST_TOKENS, Host
from qasr.workers.child import Refusal

MOST_POSITIONS: Final = 1024
"""Of prompt, sound and answer of a model that writes token by token, where its files do not tell: 30 s of sound have
375, the answer ``MOST_TOKENS``."""


def factory(config: Mapping[str, Any]) -> Host:
    """The handler for ``qasr.workers.child``; *config* as in the engine's ``factory``.

    Raises:
        Refusal: the folder holds no model that can be loaded.
    """
    try:
        import sherpa_onnx  # noqa: PLC0415 - an extra, and for the child process only
    except ImportError as error:
        raise Refusal("package", "sherpa-onnx is not installed; install qasr[sherpa]") from error
    if config["provider"] == "cuda" and "cuda" not in version("sherpa-onnx"):  # it would compute on the processor
        raise Refusal("package", "the installed sherpa-onnx is built without CUDA; QASR_SHERPA__PROVIDER=cpu fits it")
    model = _look_at(config["folder"], config["setting"])
    codes = config["languages"] or languages.OF_FAMILY.get(model.family)
    if model.family is Family.PUNCTUATION or codes is None:
        what = "hears nothing" if model.family is Family.PUNCTUATION else "does not tell its language"
        raise Refusal("model", f"a {model.family.value} model {what}; set QASR_SHERPA__LANGUAGES, or another folder")
    allowed = languages.FUNASR_MLT_NANO if model.family is Family.FUNASR_NANO else languages.OF_FAMILY.get(model.family)
    unknown = sorted(set(codes) - set(allowed or codes))
    if unknown and model.family is not Family.PARAFORMER and model.family is not Family.STREAMING_PARAFORMER:
        raise Refusal("languages", f"a {model.family.value} model does not hear {', '.join(unknown)}")
    punctuation = None
    if config["punctuation"]:
        marks = _look_at(config["punctuation"], "QASR_SHERPA__PUNCTUATION")
        if marks.family is not Family.PUNCTUATION:
            raise Refusal("model", f"QASR_SHERPA__PUNCTUATION is a {marks.family.value} model, which sets no marks")
        punctuation = _load_punctuation(sherpa_onnx, marks, config)
    recognizer = _load(sherpa_onnx, model, config)
    return Host(model, codes, recognizer, itn=config["itn"], punctuation=punctuation)


def _look_at(folder: str, setting: str) -> Model:
    try:
        return look_at(Path(folder))
    except NotAModel as error:
        raise Refusal("model", f"{setting}: {error}") from error


def _load_punctuation(library: Any, model: Model, config: Mapping[str, Any]) -> Any:
    return library.OfflinePunctuation(
        library.OfflinePunctuationConfig(
            library.OfflinePunctuationModelConfig(
                ct_transformer=model.files["model"], num_threads=config["threads"], provider=config["provider"]
            )
        )
    )


def _load(library: Any, model: Model, config: Mapping[str, Any]) -> Any:
    offline, online, files = library.OfflineRecognizer, library.OnlineRecognizer, model.files
    common = {"num_threads": config["threads"], "provider": config["provider"]}
    prompted = {"tokenizer": files.get("tokenizer"), "max_new_tokens": MOST_TOKENS, **common}
    tokens = files.get("tokens", "")
    loaders: Mapping[Family, Callable[[], Any]] = {
        Family.SENSE_VOICE: lambda: offline.from_sense_voice(files["model"], tokens, language="auto", **common),
        Family.PARAFORMER: lambda: offline.from_paraformer(files["model"], tokens, **common),
        Family.CTC: lambda: offline.from_zipformer_ctc(files["model"], tokens, **common),
        Family.STREAMING_PARAFORMER: lambda: online.from_paraformer(
            tokens, files["encoder"], files["decoder"], **common
        ),
        Family.TRANSDUCER: lambda: offline.from_transducer(**_transducer(model), **common),
        Family.STREAMING_TRANSDUCER: lambda: online.from_transducer(**_transducer(model), **common),
        Family.FUNASR_NANO: lambda: offline.from_funasr_nano(
            files["encoder_adaptor"], files["llm"], files["embedding"], **prompted
        ),
        Family.QWEN3_ASR: lambda: offline.from_qwen3_asr(
            files["conv_frontend"], files["encoder"], files["decoder"], max_total_len=MOST_POSITIONS, **prompted
        ),
    }
    return loaders[model.family]()


def _transducer(model: Model) -> dict[str, Any]:
    names = ("encoder", "decoder", "joiner", "tokens")
    found: dict[str, Any] = {name: model.files[name] for name in names}
    if favors(model):
        bpe = "bpe_vocab" in model.files
        found |= {
            "decoding_method": "modified_beam_search",
            "bpe_vocab": model.files.get("bpe_vocab", ""),
            "modeling_unit": "cjkchar" if not bpe else "cjkchar+bpe" if has_han(model) else "bpe",
        }
    return found
