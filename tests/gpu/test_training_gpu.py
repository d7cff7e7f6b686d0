"""QLoRA on a real GPU at the shape of an 8B model with random weights: speed, memory, MFU.

Written without a GPU at hand: the thresholds are deliberately low, the printed figures are the
result. Run it with `pytest -m gpu -s tests/gpu`.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from llamaduo_gui.core.model_family import ModelFamily
from llamaduo_gui.training.hardware import resolve
from llamaduo_gui.training.memory import read_sizes, training_bytes
from llamaduo_gui.training.model import (
    add_adapter,
    choose_numerics,
    detect_hardware,
    keep_trainable_in_fp32,
    load_base_model,
)
from llamaduo_gui.training.recipes import Recipe, load_recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

BATCH, LENGTH, STEPS = 4, 1024, 8
WARM_UP_STEPS = 2
DISK_BYTES = 18e9
# Dense bf16 peak, floating-point operations a second, from NVIDIA's data sheets.
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "4090": 165e12}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an 8B Llama of random weights in bf16, made on the GPU, 16 GB on disk."""
    import shutil

    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama-8b")
    if shutil.disk_usage(folder).free < DISK_BYTES:
        pytest.skip("needs 18 GB of disk for the random weights")
    if torch.cuda.mem_get_info()[0] < 20 * 2**30:
        pytest.skip("needs a GPU with 20 GB free, to make the random weights")
    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
        max_position_embeddings=8192,
        rope_theta=500000.0,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda"):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="2GB")
    del model
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return folder


def prepare(base: Path, recipe: Recipe) -> tuple[Any, Any]:
    """The 4-bit model with its adapter, as the trainer makes it, and the decided settings."""
    from llamaduo_gui.core.base_model import read_model_config

    hardware = detect_hardware()
    choices = resolve(recipe, hardware, read_sizes(read_model_config(base)))
    model = load_base_model(base, recipe, choose_numerics(recipe, hardware), choices.attention)
    family = ModelFamily(name="llama", model_types=("llama",))
    adapted = add_adapter(model, recipe.lora, family)
    if choices.gradient_checkpointing:
        adapted.gradient_checkpointing_enable({"use_reentrant": False})
        adapted.enable_input_require_grads()
    keep_trainable_in_fp32(list(adapted.parameters()))
    adapted.train()
    return adapted, choices


def peak_flops() -> float | None:
    name = torch.cuda.get_device_name()
    return next((flops for key, flops in PEAK_FLOPS.items() if key in name), None)


def test_qlora_steps_at_the_shape_of_an_8b_model(base: Path) -> None:
    import bitsandbytes

    from llamaduo_gui.core.base_model import read_model_config

    recipe = load_recipe("qlora", {"batch_size": BATCH, "max_length": LENGTH})
    model, choices = prepare(base, recipe)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert choices.optimizer == "paged_adamw_8bit"
    optimizer = bitsandbytes.optim.PagedAdamW8bit(trained, lr=2e-4)
    ids = torch.randint(1000, 120000, (BATCH, LENGTH), device="cuda")
    losses = []
    for step in range(WARM_UP_STEPS + STEPS):
        if step == WARM_UP_STEPS:
            torch.cuda.synchronize()
            started = time.perf_counter()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    tokens_per_s = STEPS * BATCH * LENGTH / seconds
    peak = torch.cuda.max_memory_allocated()
    sizes = read_sizes(read_model_config(base))
    shape = sizes.shape
    assert shape is not None
    parameters = shape.linear_parameters + shape.vocabulary * shape.hidden
    # Frozen weights: a forward pass (2 operations a weight and token) and the gradient of the
    # inputs (2), and one more forward where activations are recomputed, which MFU leaves out.
    mfu = 4 * parameters * tokens_per_s / flops if (flops := peak_flops()) else None
    estimated = training_bytes(
        recipe, sizes, choices.dtype, is_checkpointed=choices.gradient_checkpointing
    )
    print(
        f"\n{torch.cuda.get_device_name()}: {tokens_per_s:,.0f} tokens/s, "
        f"peak {peak / 2**30:.1f} GiB (estimated {estimated / 2**30:.1f}), "
        f"MFU {f'{mfu:.1%}' if mfu else 'unknown'}, {choices.sentence}"
    )
    assert all(math.isfinite(loss) for loss in losses)
    # The same batch again and again: it has to be learnt.
    assert losses[-1] < losses[0]
    assert tokens_per_s > 100
    assert peak < 24 * 2**30


def test_a_batch_that_is_too_large_is_told_in_the_gpus_numbers(base: Path) -> None:
    from llamaduo_gui.core.base_model import read_model_config
    from llamaduo_gui.training.out_of_memory import BatchWatch, explain

    recipe = load_recipe("qlora", {"batch_size": 64, "max_length": 1024})
    hardware = detect_hardware()
    shape = read_sizes(read_model_config(base))
    choices = resolve(recipe, hardware, shape)
    total = torch.cuda.get_device_properties(0).total_memory
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2 * total, dtype=torch.uint8, device="cuda")
    error = explain(caught.value, recipe, choices, shape, watch=BatchWatch(64, 1024), device="cuda")
    assert error.detail["needed_bytes"] == pytest.approx(2 * total, rel=0.02)
    assert error.detail["total_bytes"] == pytest.approx(total, rel=0.05)
    assert error.detail["free_bytes"] is not None
    assert error.detail["overrides"]["batch_size"] <= 32
