"""Languages of the families, and what each calls them."""

from typing import Final

from qasr.engines.sherpa.families import Family

SENSE_VOICE: Final = ("zh", "en", "yue", "ja", "ko")

QWEN3_ASR: Final = {
    "zh": "Chinese", "en": "English", "yue": "Cantonese", "ar": "Arabic", "de": "German", "fr": "French",
    "es": "Spanish", "pt": "Portuguese", "id": "Indonesian", "it": "Italian", "ko": "Korean", "ru": "Russian",
    "th": "Thai", "vi": "Vietnamese", "ja": "Japanese", "tr": "Turkish", "hi": "Hindi", "ms": "Malay", "nl": "Dutch",
    "sv": "Swedish", "da": "Danish", "fi": "Finnish", "pl": "Polish", "cs": "Czech", "fil": "Filipino", "fa": "Persian",
    "el": "Greek", "hu": "Hungarian", "mk": "Macedonian", "ro": "Romanian",
}  # fmt: skip
"""As they stand in the model's own prompt."""

FUNASR_NANO: Final = {"zh": "中文", "en": "英文", "ja": "日文"}
"""As they stand in the prompt of Fun-ASR-Nano."""

FUNASR_MLT_NANO: Final = {
    **FUNASR_NANO, "yue": "粤语", "ko": "韩文", "vi": "越南语", "id": "印尼语", "th": "泰语",
    "ms": "马来语",
    "fil": "菲律宾语", "ar": "阿拉伯语", "hi": "印地语", "bg": "保加利亚语", "hr": "克罗地亚语", "cs": "捷克语",
    "da": "丹麦语",
    "nl": "荷兰语", "et": "爱沙尼亚语", "fi": "芬兰语", "el": "希腊语", "hu": "匈牙利语", "ga": "爱尔兰语",
    "lv": "拉脱维亚语",
    "lt": "立陶宛语", "mt": "马耳他语", "pl": "波兰语", "pt": "葡萄牙语", "ro": "罗马尼亚语", "sk": "斯洛伐克语",
    "sl": "斯洛文尼亚语", "sv": "瑞典语",
}  # fmt: skip
"""The same for Fun-ASR-MLT-Nano, whose files are no different: the setting ``languages`` tells that it is this one."""

OF_FAMILY: Final = {
    Family.SENSE_VOICE: SENSE_VOICE,
    Family.PARAFORMER: ("zh", "en"),
    Family.STREAMING_PARAFORMER: ("zh", "en"),
    Family.FUNASR_NANO: tuple(FUNASR_NANO),
    Family.QWEN3_ASR: tuple(QWEN3_ASR),
}
"""Where nothing else is set; the files of other families may be for any language."""
