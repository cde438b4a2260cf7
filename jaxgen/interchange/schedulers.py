"""A scheduler of diffusers as the noise that a model was trained by, and as what samples it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxgen.errors import ConfigError, InterchangeError
from jaxgen.generation.diffusion.samplers import Ddim, Ddpm, DpmSolver, Euler, Heun, Plms
from jaxgen.ops.diffusion.betas import Betas
from jaxgen.ops.diffusion.corruption import Corruption
from jaxgen.ops.diffusion.schedules import RectifiedFlow

CLASS = "_class_name"
KINDS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
TARGETS = {"epsilon": "noise", "v_prediction": "v", "sample": "x"}
OWN_SPACING = "trailing"
"""Of the times of `Betas` where a sampler says nothing."""
STEPS = 50
"""Of a pipeline of Stable Diffusion 1 and 2 that is called without a number of them."""
FLOW = "FlowMatchEulerDiscreteScheduler"
FLOW_DEFAULTS: dict[str, Any] = {"num_train_timesteps": 1000, "shift": 1.0}
FLOW_NOT_USED = {
    "use_dynamic_shifting": (False,), "invert_sigmas": (False,), "shift_terminal": (None,),
    "stochastic_sampling": (False,), "use_karras_sigmas": (None, False),
    "use_exponential_sigmas": (None, False), "use_beta_sigmas": (None, False),
    "num_train_timesteps": (1000,),
}  # fmt: skip
"""As `NOT_USED`, of the scheduler of flows."""
NOT_USED = {
    "trained_betas": (None,), "clip_sample": (False,), "thresholding": (False,),
    "use_karras_sigmas": (False,), "use_exponential_sigmas": (False,), "use_beta_sigmas": (False,),
    "use_lu_lambdas": (False,), "use_flow_sigmas": (False,), "interpolation_type": ("linear",),
    "algorithm_type": ("dpmsolver++",), "solver_order": (2,), "solver_type": ("midpoint",),
    "euler_at_final": (False,), "final_sigmas_type": ("zero",), "timestep_type": ("discrete",),
    "variance_type": (None, "fixed_small"), "skip_prk_steps": (True,), "sigma_min": (None,),
    "sigma_max": (None,), "use_dynamic_shifting": (False,),
}  # fmt: skip
"""Keys with the values that jaxgen's samplers have."""
DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear",
    "prediction_type": "epsilon", "steps_offset": 0, "rescale_betas_zero_snr": False,
}  # fmt: skip
"""What all classes have where a file says nothing."""


@dataclasses.dataclass(frozen=True)
class SchedulerKind:
    """A class of diffusers, and the sampler that goes its way.

    Attributes:
      name: of the class.
      sampler: of jaxgen.
      spacing: of its times, where a file says nothing.
      defaults: of keys that it has besides, likewise.
    """

    name: str
    sampler: Callable[..., Any]
    spacing: str
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)


SCHEDULERS = (
    SchedulerKind("PNDMScheduler", Plms, "leading",
                  {"skip_prk_steps": False, "set_alpha_to_one": False}),
    SchedulerKind("DDIMScheduler", Ddim, "leading",
                  {"set_alpha_to_one": True, "clip_sample": True}),
    SchedulerKind("EulerDiscreteScheduler", Euler, "linspace"),
    SchedulerKind("HeunDiscreteScheduler", Heun, "linspace"),
    SchedulerKind("DPMSolverMultistepScheduler", DpmSolver, "linspace"),
    SchedulerKind("DDPMScheduler", Ddpm, "leading", {"clip_sample": True}),
)  # fmt: skip


def read_scheduler(config: Mapping[str, Any], steps: int = STEPS) -> tuple[Corruption, Any]:
    """Returns the corruption and the sampler, of so many steps, of a scheduler_config.json.

    Raises:
      InterchangeError: naming the key whose value jaxgen does not have.
    """
    if config.get(CLASS) == FLOW:
        return _read_flow(config, steps)
    found = [one for one in SCHEDULERS if one.name == config.get(CLASS)]
    if not found:
        raise InterchangeError(
            f"the scheduler is {config.get(CLASS)!r}; jaxgen reads {FLOW}, "
            f"{', '.join(one.name for one in SCHEDULERS)}: save the pipeline with one of these."
        )
    kind = found[0]
    values: Any = DEFAULTS | {"timestep_spacing": kind.spacing} | dict(kind.defaults) | dict(config)
    _check_not_used(kind.name, values, NOT_USED)
    ends = {}
    if kind.sampler in (Plms, Ddim):
        ends["ends_noisy"] = not values["set_alpha_to_one"]
    try:
        betas = Betas(
            KINDS[values["beta_schedule"]],  # pyright: ignore[reportArgumentType]
            values["num_train_timesteps"],
            values["beta_start"],
            values["beta_end"],
            bool(values["rescale_betas_zero_snr"]),
        )
        target = TARGETS[values["prediction_type"]]
        sampler = kind.sampler(steps, values["timestep_spacing"], values["steps_offset"], **ends)
        return Corruption(betas, target), sampler  # pyright: ignore[reportArgumentType]
    except (KeyError, TypeError, ConfigError) as error:
        raise InterchangeError(f"{kind.name} cannot be read: {error}.") from error


def _read_flow(config: Mapping[str, Any], steps: int) -> tuple[Corruption, Any]:
    """Returns those of the scheduler of Stable Diffusion 3."""
    values: Any = FLOW_DEFAULTS | dict(config)
    _check_not_used(FLOW, values, FLOW_NOT_USED)
    try:
        return Corruption(RectifiedFlow(values["shift"]), "flow"), Euler(steps, "linspace")
    except (TypeError, ConfigError) as error:
        raise InterchangeError(f"{FLOW} cannot be read: {error}.") from error


def _check_not_used(name: str, values: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raises InterchangeError for a key whose value no sampler of jaxgen has."""
    for key, allowed in known.items():
        if key in values and values[key] not in allowed:
            raise InterchangeError(
                f"{name} says {key}={values[key]!r}; jaxgen's sampler has "
                f"{' or '.join(map(repr, allowed))}: set it so, or take another scheduler."
            )


def write_scheduler(corruption: Any, sampler: Any) -> dict[str, Any]:
    """Returns the scheduler_config.json of what a model was trained by and is sampled by.

    Raises:
      InterchangeError: if diffusers has no such scheduler.
    """
    kinds = [one for one in SCHEDULERS if one.sampler is type(sampler)]
    betas = getattr(corruption, "schedule", None)
    if isinstance(betas, RectifiedFlow) and type(sampler) is Euler:
        if corruption.target != "flow":
            raise InterchangeError(
                f"{FLOW} is of models that predict the flow, and corruption.target is "
                f"{corruption.target!r}."
            )
        return {CLASS: FLOW, **FLOW_DEFAULTS, "shift": betas.shift}
    if not kinds or not isinstance(betas, Betas):
        raise InterchangeError(
            f"no scheduler of diffusers goes the way of {type(sampler).__name__} over "
            f"{type(betas).__name__}; export a run of @betas() with one of its samplers, or of "
            "@rectified_flow() with @euler()."
        )
    values = {
        CLASS: kinds[0].name,
        "num_train_timesteps": betas.steps,
        "beta_start": betas.first,
        "beta_end": betas.last_beta,
        "beta_schedule": {ours: theirs for theirs, ours in KINDS.items()}[betas.kind],
        "prediction_type": {ours: theirs for theirs, ours in TARGETS.items()}.get(
            corruption.target
        ),
        "timestep_spacing": sampler.spacing or OWN_SPACING,
        "steps_offset": sampler.offset,
    }
    if "clip_sample" in kinds[0].defaults:
        values["clip_sample"] = False
    if "skip_prk_steps" in kinds[0].defaults:
        values["skip_prk_steps"] = True
    if "set_alpha_to_one" in kinds[0].defaults:
        values["set_alpha_to_one"] = not sampler.ends_noisy
    if betas.zero_terminal:
        values["rescale_betas_zero_snr"] = True
    again = read_scheduler(values, sampler.steps)
    if again[0] != dataclasses.replace(corruption, weight="target", max_weight=None):
        raise InterchangeError(
            f"a scheduler of diffusers cannot express {corruption}; it would be {again[0]}."
        )
    # How much noise DDIM adds is said in the call of a pipeline, as its steps and guidance are.
    own = {"eta": 0.0} if isinstance(sampler, Ddim) else {}
    if again[1] != dataclasses.replace(sampler, spacing=values["timestep_spacing"], **own):
        raise InterchangeError(
            f"a scheduler of diffusers cannot express {sampler}; it would be {again[1]}."
        )
    return values
