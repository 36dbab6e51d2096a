"""Tiny models of other libraries, built from a configuration."""

import pytest
import torch


def build(name):
    transformers = pytest.importorskip("transformers")
    small = {"num_attention_heads": 2, "num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 20}
    quiet = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    torch.manual_seed(0)
    if name == "bert":
        config = transformers.BertConfig(vocab_size=30, max_position_embeddings=16, **small, **quiet)
        return transformers.BertForMaskedLM(config).eval()
    if name == "gpt2":
        config = transformers.GPT2Config(vocab_size=30, n_positions=16, n_embd=8, n_layer=2, n_head=2)
        return transformers.GPT2LMHeadModel(config).eval()
    if name == "vit":
        config = transformers.ViTConfig(image_size=8, patch_size=4, num_labels=3, **small, **quiet)
        return transformers.ViTForImageClassification(config).eval()
    config = transformers.LlamaConfig(vocab_size=30, max_position_embeddings=16, num_key_value_heads=2, **small)
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture
def transformer():
    """A tiny model of `transformers` by name, and an input for it."""

    def make(name):
        model = build(name)
        given = torch.randn(2, 3, 8, 8) if name == "vit" else torch.arange(12).view(2, 6)
        return model, lambda changed=model: changed(given).logits

    return make
