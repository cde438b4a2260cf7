"""Converts a config.json to a model's configuration and back, by a family's table.

Fields that a family cannot express are found by reading back what was written: those that come
back different are named.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from jaxgen.errors import ConfigError, InterchangeError, listed
from jaxgen.interchange.entries import REQUIRED, Field, checked, get_field
from jaxgen.interchange.harmless import check_keys
from jaxgen.interchange.quantised import check_method
from jaxgen.interchange.tables import Family, Values
from jaxgen.interchange.windows import layers_in_order
from jaxgen.models.block_config import LatentConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.models.stack_config import BiasGroup, StackConfig
from jaxgen.ops.attention.biases import RelativeBias
from jaxgen.ops.moe_config import MoEConfig

PARTS = {"moe": MoEConfig, "latent": LatentConfig, "position_bias": RelativeBias}
BIAS_GROUPS: tuple[BiasGroup, ...] = (
    "qkv",
    "qv",
    "attention_out",
    "feed_forward",
    "norm",
    "logits",
)
RECURRENT = (
    "bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "kimi_linear", "lfm2",
    "lfm2_moe", "mamba", "mamba2", "minimax", "nemotron_h", "olmo_hybrid", "qwen3_next",
    "recurrent_gemma", "rwkv", "rwkv5", "rwkv6", "rwkv7", "xlstm", "zamba", "zamba2",
)  # fmt: skip
"""Model types with state-space, linear-attention or convolutional layers."""
CLASS_NAME = "_class_name"
"""The key of the class of a component of `diffusers`."""
LONGEST = "max_position_embeddings"
"""The key of the longest text that a model is made to read."""
OF_TRAINING = (
    "initialization", "dropout", "embedding_noise", "attention_dropout", "feed_forward_dropout",
    "compute_dtype", "matmul_dtype", "card", "mtp_depth", "max_scale",
    "pixel_mean", "pixel_stddev", "frozen", "drop", "discriminator",
)  # fmt: skip
"""Fields that a finished model does not depend on, or that config.json says nothing of."""
OF_TRAINING_EXPERTS = (
    "balance_rate", "capacity_factor", "load_balance_weight", "router_z_weight",
    "sequence_balance_weight",
)  # fmt: skip
MALFORMED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What a formula raises where a value is of another type than the key's."""
MOST_PARTS = 10_000
"""Layers, or experts of one."""


def find_family(families: tuple[Family, ...], values: Values) -> Family:
    """Returns the family that a config.json belongs to.

    Raises:
      InterchangeError: naming the families there are.
    """
    if CLASS_NAME in values:
        return _find_by_class(families, values)
    architectures = values.get("architectures") or []
    for family in families:
        named = not architectures or architectures[0] in family.architectures
        if named and values.get("model_type") in family.model_types and family.accepts(values):
            return family
    if values.get("model_type") in RECURRENT:
        raise InterchangeError(
            f"{(architectures or [values['model_type']])[0]} is recurrent, at least in part; "
            "jaxgen has transformers only, and does not read it."
        )
    known = _architectures(families, "transformers")
    raise InterchangeError(
        f"config.json says model_type={values.get('model_type')!r}, architectures="
        f"{architectures}; jaxgen reads {', '.join(known)}."
    )


def _find_by_class(families: tuple[Family, ...], values: Values) -> Family:
    """Returns the family of a component of `diffusers`, which names its class alone."""
    for family in families:
        named = family.library == "diffusers" and values[CLASS_NAME] in family.architectures
        if named and family.accepts(values):
            return family
    raise InterchangeError(
        f"config.json says {CLASS_NAME}={values[CLASS_NAME]!r}; of diffusers' components jaxgen "
        f"reads {', '.join(_architectures(families, 'diffusers'))}."
    )


def _architectures(families: tuple[Family, ...], library: str) -> list[str]:
    found = [family for family in families if family.library == library]
    return sorted({name for family in found for name in family.architectures})


def read_config(family: Family, values: Values, ignored: tuple[str, ...] = ()) -> Any:
    """Returns the configuration that a config.json describes.

    Args:
      family: whose table reads it.
      values: config.json.
      ignored: keys that a user says change nothing.

    Raises:
      InterchangeError: naming the keys that are not known to be without effect, or one whose value
        is not supported.
    """
    check_method(values)
    check_keys(family, values, ignored)
    fields = dict(family.constants)
    try:
        for entry in family.entries:
            fields |= _read_entry(entry, values)
        if LONGEST in family.inert and values.get(LONGEST) is not None:
            fields["max_length"] = checked(LONGEST, values[LONGEST], (int,))
        return (family.assemble or assemble)(fields)
    except (ConfigError, *MALFORMED) as error:
        raise InterchangeError(f"config.json does not make a model: {error}") from error


def _read_entry(entry: Any, values: Values) -> dict[str, Any]:
    """Returns the fields of an entry, whose functions take the values to be what they should."""
    try:
        return entry.read(values)
    except MALFORMED as error:
        said = ", ".join(f"{key}={values[key]!r:.60}" for key in entry.keys if key in values)
        raise InterchangeError(
            f"config.json says {said or 'nothing of ' + ', '.join(entry.keys)}, which cannot be "
            f"read ({error})."
        ) from error


def check_counts(values: Values) -> None:
    """Raises InterchangeError for more layers or experts than there is memory to name."""
    for key, value in values.items():
        if isinstance(value, int) and value > MOST_PARTS and ("layer" in key or "expert" in key):
            raise InterchangeError(
                f"config.json says {key}={value}; jaxgen reads models of up to {MOST_PARTS}."
            )


def write_config(family: Family, config: Any) -> dict[str, Any]:
    """Returns the config.json of a configuration.

    Raises:
      InterchangeError: naming every field that the family cannot express, and its value.
    """
    values, lost = express(family, config)
    if lost:
        raise InterchangeError(f"{family.name} cannot express this model:\n{listed(lost)}")
    return values


def express(family: Family, config: Any) -> tuple[dict[str, Any], list[str]]:
    """Returns the config.json of a configuration, and a line for every field that it loses.

    Where a field that the family cannot do without is None, there is no config.json.
    """
    if lost := _lacking(family, config):
        return {}, lost
    if family.library == "diffusers":
        values: dict[str, Any] = {CLASS_NAME: family.architectures[0]}
    else:
        values = {"architectures": [family.architectures[0]], "model_type": family.model_types[0]}
    values |= family.written
    for entry in family.entries:
        values |= entry.write(config)
    if LONGEST in family.inert and config.max_length is not None:
        values.setdefault(LONGEST, config.max_length)
    try:
        return values, differences(config, read_config(family, values))
    except InterchangeError as error:
        return {}, [str(error)]


def _lacking(family: Family, config: Any) -> list[str]:
    """Returns the required fields that are None, and with them the constants that differ."""
    lacking = [
        f"model.{entry.field}=None (it needs one)"
        for entry in family.entries
        if isinstance(entry, Field)
        and entry.default is REQUIRED
        and get_field(config, entry.field) is None
    ]
    if not lacking:
        return []
    return lacking + [
        f"model.{name}={getattr(config, name)!r} (it has {value!r})"
        for name, value in family.constants.items()
        if "." not in name and name != "layers" and getattr(config, name) != value
    ]


def differences(config: Any, other: Any) -> list[str]:
    """Returns the fields in which two models differ, with both values; layers only once."""
    ours, theirs = _effective(config), _effective(other)
    unlike = [name for name in ours | theirs if not _alike(ours.get(name), theirs.get(name))]
    layers = [name for name in unlike if "layers[" in name]
    more = f", and so {len(layers) - 1} more layers" if len(layers) > 1 else ""
    return [
        f"model.{name}={ours.get(name)!r} (it has {theirs.get(name)!r})"
        + (more if name in layers else "")
        for name in sorted(set(unlike) - set(layers[1:]))
    ]


def assemble(fields: dict[str, Any], kind: type = TransformerConfig) -> Any:
    """Builds the configuration of a transformer, or of a stack, from fields by dotted names."""
    fields = dict(fields)
    biases: tuple[BiasGroup, ...] = tuple(
        group for group in BIAS_GROUPS if fields.pop(f"biases.{group}", False)
    )
    parts: dict[str, dict[str, Any]] = {}
    for name in [name for name in fields if "." in name]:
        part, field = name.split(".")
        parts.setdefault(part, {})[field] = fields.pop(name)
    made = {part: PARTS[part](**values) for part, values in parts.items()}
    return kind(**fields, **made, biases=biases)


def _effective(config: Any) -> dict[str, Any]:
    """Returns a model's fields as they take effect: defaults filled in, idle ones left out."""
    if isinstance(config, StackConfig):
        return _effective_stack(config)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value) and field.name not in OF_TRAINING:
            inner = _effective(value)
            values |= {f"{field.name}.{name}": one for name, one in inner.items()}
        elif field.name.startswith("initial_"):
            values[field.name] = None if value is None else "learned"
        elif field.name not in OF_TRAINING:
            values[field.name] = value
    return values


def _effective_stack(config: StackConfig) -> dict[str, Any]:
    values = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name not in OF_TRAINING
    }
    values["num_kv_heads"], values["head_dim"] = config.kv_heads, config.width_of_head
    values["biases"] = frozenset(config.biases)
    width = config.width_of_head
    if config.latent is not None:
        width = config.latent.nope_dim + config.latent.rope_dim
        values["num_kv_heads"] = values["head_dim"] = None
    values["attention_scale"] = attention_scale(config, width)
    if values.get("embedding_positions") != "learned":
        values["max_length"] = None
    if (sound := values.pop("sound", None)) is not None:
        values |= {f"sound.{name}": x for name, x in _effective(sound).items()}
    for number, one in enumerate(values.pop("media", ())):
        values |= {f"media[{number}].{name}": x for name, x in _effective(one).items()}
        values[f"media[{number}].encoder_layers"] = one.layers_read
    del values["layers"], values["moe"]
    for layer, settings in enumerate(layers_in_order(config)):
        values[f"layers[{layer}]"] = settings
    if config.moe is not None:
        sparse = [layer for layer in range(config.num_layers) if config.moe.is_sparse(layer)]
        values["moe.sparse_layers"] = sparse
        values["moe.gated"] = config.gated if config.moe.gated is None else config.moe.gated
        skipped = (*OF_TRAINING_EXPERTS, "every", "offset", "first", "gated")
        for field in dataclasses.fields(config.moe):
            if field.name not in skipped:
                values[f"moe.{field.name}"] = get_field(config, f"moe.{field.name}")
        if len(sparse) == config.num_layers:
            values["mlp_dim"] = None
    return values


def attention_scale(config: StackConfig, width: int | None = None) -> float:
    """Returns the factor on attention's logits."""
    if config.attention_scale is not None:
        return config.attention_scale
    return (config.width_of_head if width is None else width) ** -0.5


def _alike(ours: Any, theirs: Any) -> bool:
    """Returns whether values are equal, but for rounding where both are floats."""
    if isinstance(ours, float) and isinstance(theirs, float | int):
        return math.isclose(ours, theirs, rel_tol=1e-9)
    if dataclasses.is_dataclass(ours) and type(ours) is type(theirs):
        names = [field.name for field in dataclasses.fields(ours)]
        return all(_alike(getattr(ours, name), getattr(theirs, name)) for name in names)
    return ours == theirs
