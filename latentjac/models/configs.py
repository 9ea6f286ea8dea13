"""Configurations of networks and schedules: which values can be, checked before anything is made of them.

The limits are far beyond all published models. They keep a file, which anybody can have written, from taking all memory
or time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from latentjac.files import read_json
from latentjac.models.errors import LoadError, reading
from latentjac.models.predictions import PREDICTIONS

LARGEST_SIDE = 2048  # of a sample, in its own pixels
LONGEST = 2**20  # sample of sound, in its own steps
MOST_CHANNELS = 2**16  # also of the features of text
MOST_BLOCKS = 16
MOST_LAYERS = 100  # of a block, or of the encoder of text
MOST_TIMESTEPS = 100_000
MOST_TOKENS = 2**20  # of the vocabulary
_LARGEST_INT, _LONGEST_TEXT, _LONGEST_LIST = 2**31, 1000, 1000

_Rule = tuple[str, Callable[[Any], bool]]  # what is expected, and whether a value is


def _is_int(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_list(value: Any, most: int) -> bool:
    return isinstance(value, (list, tuple)) and 0 < len(value) <= most


def _ints(most: int, limit: str) -> _Rule:
    return f"an int in [1, {most}] ({limit})", lambda value: _is_int(value, 1, most)


def _lists(rule: _Rule, most: int, limit: str) -> _Rule:
    expected, fits = rule
    return (
        f"a list of 1 to {most} ({limit}), each {expected}",
        lambda value: _is_list(value, most) and all(map(fits, value)),
    )


def _or(first: _Rule, second: _Rule) -> _Rule:
    return f"{first[0]}, or {second[0]}", lambda value: first[1](value) or second[1](value)


_TEXT: _Rule = ("a text", lambda value: isinstance(value, str))
_BOOL: _Rule = ("true or false", lambda value: isinstance(value, bool))
_NUMBER: _Rule = ("a finite number", _is_number)
_POSITIVE: _Rule = ("a positive number", lambda value: _is_number(value) and value > 0)
_BETA: _Rule = ("a number in [0, 1]", lambda value: _is_number(value) and 0 <= value <= 1)
_FRACTION: _Rule = ("a number in [0, 1)", lambda value: _is_number(value) and 0 <= value < 1)
_SIDE, _CHANNELS = _ints(LARGEST_SIDE, "LARGEST_SIDE"), _ints(MOST_CHANNELS, "MOST_CHANNELS")
_LAYERS, _TOKENS = _ints(MOST_LAYERS, "MOST_LAYERS"), _ints(MOST_TOKENS, "MOST_TOKENS")
_BLOCKS = "MOST_BLOCKS"
_SIDES: _Rule = (
    f"{_SIDE[0]}, or a list of two",
    lambda value: _SIDE[1](value) or (_is_list(value, 2) and len(value) == 2 and all(map(_SIDE[1], value))),
)
_SEVERAL_LAYERS = _or(_LAYERS, _lists(_LAYERS, MOST_BLOCKS, _BLOCKS))
_COUNT: _Rule = (f"an int in [0, {MOST_LAYERS}] (MOST_LAYERS)", lambda value: _is_int(value, 0, MOST_LAYERS))
_SEVERAL_COUNTS = _lists(_COUNT, MOST_BLOCKS, _BLOCKS)
_SEVERAL_CHANNELS = _or(_CHANNELS, _lists(_CHANNELS, MOST_BLOCKS, _BLOCKS))
# Of attention in each block, one behind the other; null is of a block to itself.
_MAYBE_CHANNELS = _lists(
    (f"null or {_CHANNELS[0]}", lambda value: value is None or _CHANNELS[1](value)), MOST_BLOCKS, _BLOCKS
)


def _one_of(*values: str) -> _Rule:
    return f"one of {list(values)}", lambda value: isinstance(value, str) and value in values


# A key means the same in every part that has it.
_RULES: dict[str, _Rule] = {
    "sample_size": _SIDES,
    "in_channels": _CHANNELS,
    "out_channels": _CHANNELS,
    "latent_channels": _CHANNELS,
    "block_out_channels": _lists(_CHANNELS, MOST_BLOCKS, _BLOCKS),
    "down_block_types": _lists(_TEXT, MOST_BLOCKS, _BLOCKS),
    "up_block_types": _lists(_TEXT, MOST_BLOCKS, _BLOCKS),
    "layers_per_block": _SEVERAL_LAYERS,
    "transformer_layers_per_block": _or(_LAYERS, _lists(_SEVERAL_LAYERS, MOST_BLOCKS, _BLOCKS)),
    "norm_num_groups": _CHANNELS,
    "attention_head_dim": _SEVERAL_CHANNELS,
    "num_attention_heads": _SEVERAL_CHANNELS,
    "caption_channels": _SEVERAL_CHANNELS,
    "cross_attention_dim": _or(_SEVERAL_CHANNELS, _lists(_MAYBE_CHANNELS, MOST_BLOCKS, _BLOCKS)),
    "time_cond_proj_dim": _CHANNELS,
    "addition_time_embed_dim": _CHANNELS,
    "projection_class_embeddings_input_dim": _CHANNELS,
    "norm_eps": _POSITIVE,
    "num_class_embeds": _TOKENS,
    "num_embeds_ada_norm": _TOKENS,
    "num_layers": _LAYERS,
    "patch_size": _or(_SIDE, _lists(_SIDE, 3, "3")),
    "patch_size_t": _SIDE,
    "z_dim": _CHANNELS,
    "scale_factor_temporal": _SIDE,
    "scale_factor_spatial": _SIDE,
    "act_fn": _TEXT,
    "encoder_block_out_channels": _lists(_CHANNELS, MOST_BLOCKS, _BLOCKS),
    "decoder_block_out_channels": _lists(_CHANNELS, MOST_BLOCKS, _BLOCKS),
    "down_block_out_channels": _lists(_CHANNELS, MOST_BLOCKS, _BLOCKS),
    "up_block_out_channels": _lists(_CHANNELS, MOST_BLOCKS, _BLOCKS),
    "layers_per_down_block": _LAYERS,
    "layers_per_up_block": _LAYERS,
    "encoder_layers_per_block": _SEVERAL_COUNTS,
    "decoder_layers_per_block": _SEVERAL_COUNTS,
    "num_encoder_blocks": _SEVERAL_COUNTS,
    "num_decoder_blocks": _SEVERAL_COUNTS,
    "scaling_factor": _POSITIVE,
    "shift_factor": _NUMBER,
    "latents_mean": _lists(_NUMBER, MOST_CHANNELS, "MOST_CHANNELS"),
    "latents_std": _lists(_POSITIVE, MOST_CHANNELS, "MOST_CHANNELS"),
    "vq_embed_dim": _CHANNELS,
    "num_vq_embeddings": _TOKENS,
    "vocab_size": _TOKENS,
    "max_position_embeddings": _TOKENS,
    "hidden_size": _CHANNELS,
    "intermediate_size": _CHANNELS,
    "projection_dim": _CHANNELS,
    "num_hidden_layers": _LAYERS,
    "hidden_act": _TEXT,
    "layer_norm_eps": _POSITIVE,
    "layer_norm_epsilon": _POSITIVE,
    "rms_norm_eps": _POSITIVE,
    **dict.fromkeys(("d_model", "d_ff", "d_kv", "num_heads", "head_dim", "num_key_value_heads"), _CHANNELS),
    **dict.fromkeys(("num_decoder_layers", "depth"), _LAYERS),
    **dict.fromkeys(("relative_attention_num_buckets", "relative_attention_max_distance"), _TOKENS),
    "type_vocab_size": _TOKENS,
    "dense_act_fn": _TEXT,
    "feed_forward_proj": _TEXT,
}
_SCHEDULE: dict[str, _Rule] = {
    "num_train_timesteps": _ints(MOST_TIMESTEPS, "MOST_TIMESTEPS"),
    "beta_start": _BETA,
    "beta_end": _BETA,
    "beta_schedule": _TEXT,
    "trained_betas": _lists(_BETA, MOST_TIMESTEPS, "MOST_TIMESTEPS"),
    "prediction_type": _one_of(*PREDICTIONS, "trigflow"),
    "timestep_spacing": _one_of("leading", "linspace", "trailing"),
    "steps_offset": ("an int from 0", lambda value: _is_int(value, 0, MOST_TIMESTEPS)),
    "rescale_betas_zero_snr": _BOOL,
    "set_alpha_to_one": _BOOL,
    "clip_sample": _BOOL,
    "thresholding": _BOOL,
    **dict.fromkeys(("shift", "flow_shift", "sigma_min", "sigma_max", "sigma_data", "rho", "sampling_eps"), _POSITIVE),
    **dict.fromkeys(("base_shift", "max_shift"), _NUMBER),
    **dict.fromkeys(("base_image_seq_len", "max_image_seq_len"), _ints(MOST_TOKENS, "MOST_TOKENS")),
    "shift_terminal": _FRACTION,
}


def read_config(path: Path, infinite: Collection[str] = ()) -> dict[str, Any]:
    """A configuration in strict JSON, but for keys that can be infinite.

    Raises:
        LoadError: If the file cannot be read or is none.
    """
    with reading():
        return read_json("load", path, infinite)


def check_part(where: str, config: Mapping[str, Any]) -> None:
    """Raise unless the configuration of a network can be.

    Args:
        where: Its file or the like, for messages.
        config: The configuration.

    Raises:
        LoadError: Which names ``where`` and the key.
    """
    _check(where, config, _RULES)
    for key, value in config.items():
        if not key.startswith("_") and not _is_plain(value):
            raise LoadError(f"load: {where}: {key} must be a value of usual size, got {_short(value)}")
        if key.endswith("_config") and isinstance(value, dict):  # of one of several networks in one
            check_part(f"{where}: {key}", value)


def check_schedule(where: str, config: Mapping[str, Any]) -> None:
    """Raise unless the configuration of a scheduler can be; arguments and errors as in :func:`check_part`."""
    betas: Any = config.get("trained_betas")
    total = config.get("num_train_timesteps", 1000)
    if hasattr(betas, "tolist"):  # objects can hold an array
        betas = betas.tolist()
    _check(where, {**config, "trained_betas": betas}, _SCHEDULE)
    if betas is not None and len(betas) != total:
        raise LoadError(f"load: {where}: trained_betas must be {total} numbers (num_train_timesteps), got {len(betas)}")


def _check(where: str, config: Mapping[str, Any], rules: Mapping[str, _Rule]) -> None:
    # None leaves a choice to the class.
    for key, (expected, fits) in rules.items():
        if config.get(key) is not None and not fits(config[key]):
            raise LoadError(f"load: {where}: {key} must be {expected}, got {_short(config[key])}")


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return len(value) <= _LONGEST_LIST and all(map(_is_plain, value))
    if isinstance(value, str):
        return len(value) <= _LONGEST_TEXT
    if type(value) is int:
        return abs(value) <= _LARGEST_INT
    return not isinstance(value, float) or math.isfinite(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + " ..."
