"""Random weights in the form of the open ones that the small model is made of."""

from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM, WhisperConfig, WhisperModel

from listenwell.model.small.random_models import byte_tokenizer


def make_open_weights(folder: Path) -> Path:
    """Write the folders of a local source and return `folder`; the encoder has Whisper base's shape."""
    whisper = WhisperConfig(
        d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048, num_mel_bins=80,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=8, vocab_size=20, max_target_positions=8,
        pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    WhisperModel(whisper).save_pretrained(folder / "whisper-base")
    tokenizer = byte_tokenizer()
    llama = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4
    )
    LlamaForCausalLM(llama).save_pretrained(folder / "SmolLM2-135M-Instruct")
    tokenizer.save_pretrained(folder / "SmolLM2-135M-Instruct")
    return folder
