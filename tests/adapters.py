"""Makes LoRA adapters with random factors for tests, without training."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch


def make_test_adapter(base: Path, folder: Path, seed: int = 5, **settings: Any) -> Any:
    """Save an adapter with random factors; return the peft model it belongs to."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # peft's remarks on tied layers
        warnings.simplefilter("ignore", FutureWarning)  # peft calls what transformers renamed
        model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
        peft_model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for name, parameter in peft_model.named_parameters():
                if parameter.requires_grad:
                    noise = torch.randn_like(parameter) * 0.05
                    parameter.data = noise if "lora" in name else parameter.data + noise
        peft_model.save_pretrained(folder)
    return peft_model.eval()
