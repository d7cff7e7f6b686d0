"""Trains a random Llama for a few steps in this process and prints the peak of its memory.

Run as a program, since the peak of a process never falls: prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any


def main(settings: dict[str, Any]) -> None:
    """Train as `settings` say: shape, batch_size, length, rank, method, is_checkpointed."""
    import psutil
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig
    from trl import SFTConfig, SFTTrainer

    from tests.tiny_models import make_tokenizer

    held = psutil.Process().memory_info().rss
    torch.set_num_threads(2)
    torch.manual_seed(0)
    config = LlamaConfig(**settings["config"], pad_token_id=0)
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    if settings["method"] == "lora":
        adapter = LoraConfig(task_type="CAUSAL_LM", r=settings["rank"], target_modules="all-linear")
        model = get_peft_model(model, adapter)
    length, batch = settings["length"], settings["batch_size"]
    rows = torch.randint(1, 259, (2 * batch, length)).tolist()
    data = Dataset.from_dict({"input_ids": rows, "labels": rows})
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            max_steps=2,
            per_device_train_batch_size=batch,
            gradient_checkpointing=settings["is_checkpointed"],
            max_length=None,
            use_cpu=True,
            bf16=False,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
            optim="adamw_torch_fused",
        )
        trainer = SFTTrainer(
            model=model, args=arguments, train_dataset=data, processing_class=make_tokenizer()
        )
        trainer.train()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak_bytes": peak, "library_bytes": held}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(json.loads(sys.argv[1]))
