"""The chips that plans are made for, and the peaks of those that runs meet, with their sources."""

from __future__ import annotations

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """A kind of chip, and how chips of its kind are linked; figures are of one whole chip.

    Attributes:
      name: as in a topology, such as "v5p".
      platform: that JAX compiles for, "tpu" or "cpu".
      compiler_name: the name that the compiler knows the kind by.
      devices: JAX devices of a chip.
      peak_flops: dense bf16 operations per second.
      hbm_bytes: what a program may use of the memory; None: the compiler sets no limit.
      hbm_bandwidth: bytes per second.
      link_bandwidth: bytes per second of one link in one direction; there are two links for each
        dimension of the torus.
      dimensions: of the torus.
      wraps_at: a dimension closes to a ring where its size is a multiple of this.
      host_bounds: chips of a host; a slice is made of whole hosts, or fits into one.
      dcn_bandwidth: bytes per second of a chip's share of the data-centre network; None: unknown.
      sources: where the figures are from.
    """

    name: str
    platform: str
    compiler_name: str
    devices: int
    peak_flops: float | None
    hbm_bytes: int | None
    hbm_bandwidth: float | None
    link_bandwidth: float | None
    dimensions: int
    wraps_at: int
    host_bounds: tuple[int, ...]
    dcn_bandwidth: float | None
    sources: tuple[str, ...]


# The compiler says what a program may use when one needs more: "exceeds available HBM (15.75G)".
_LIMIT = (
    "hbm_bytes: the limit that libtpu 0.0.42's compiler names in its error of too large a program"
)
_LINKS = "link_bandwidth: bidirectional bandwidth of the chip / links / 2"
_WRAPS_3D = (
    "wraps_at: docs.cloud.google.com/tpu/docs/v4, 3D torus where dimensions are multiples of 4"
)
_WRAPS_2D = (
    "wraps_at: a pod of 16 x 16 is a torus, a smaller slice a mesh (docs.cloud.google.com/tpu)"
)

CHIPS = {
    chip.name: chip
    for chip in (
        Chip(
            name="v4",
            platform="tpu",
            compiler_name="v4",
            devices=1,
            peak_flops=275e12,
            hbm_bytes=int(30.75 * GIB),
            hbm_bandwidth=1200e9,
            link_bandwidth=50e9,
            dimensions=3,
            wraps_at=4,
            host_bounds=(2, 2, 1),
            dcn_bandwidth=None,
            sources=(
                "peak_flops: docs.cloud.google.com/tpu/docs/v4, 275 TFLOPS",
                "hbm_bandwidth: the same page, 1200 GBps",
                "link_bandwidth, dimensions: 2304.01433, table 4, 6 links of 50 GB/s",
                _LIMIT,
                _WRAPS_3D,
            ),
        ),
        Chip(
            name="v5e",
            platform="tpu",
            compiler_name="v5e",
            devices=1,
            peak_flops=197e12,
            hbm_bytes=int(15.75 * GIB),
            hbm_bandwidth=819e9,
            link_bandwidth=50e9,
            dimensions=2,
            wraps_at=16,
            host_bounds=(2, 2),
            dcn_bandwidth=6.4e12 / 8 / 256,
            sources=(
                "peak_flops: docs.cloud.google.com/tpu/docs/v5e, 197 TFLOPs",
                "hbm_bandwidth: the same page, 819 GBps",
                "link_bandwidth: the same page, 400 GBps bidirectional per chip, 4 ports",
                "dcn_bandwidth: the same page, 6.4 Tbps per pod of 256 chips",
                _LINKS,
                _LIMIT,
                _WRAPS_2D,
            ),
        ),
        Chip(
            name="v5p",
            platform="tpu",
            compiler_name="v5p",
            devices=1,
            peak_flops=459e12,
            hbm_bytes=int(95.74 * GIB),
            hbm_bandwidth=2765e9,
            link_bandwidth=100e9,
            dimensions=3,
            wraps_at=4,
            host_bounds=(2, 2, 1),
            dcn_bandwidth=50e9 / 8,
            sources=(
                "peak_flops: docs.cloud.google.com/tpu/docs/v5p, 459 TFLOPs",
                "hbm_bandwidth: the same page, 2765 GBps",
                "link_bandwidth: the same page, 1200 GBps bidirectional per chip, 6 links",
                "dcn_bandwidth: the same page, 50 Gbps per chip",
                _LINKS,
                _LIMIT,
                _WRAPS_3D,
            ),
        ),
        Chip(
            name="v6e",
            platform="tpu",
            compiler_name="v6e",
            devices=1,
            peak_flops=918e12,
            hbm_bytes=int(31.25 * GIB),
            hbm_bandwidth=1638e9,
            link_bandwidth=100e9,
            dimensions=2,
            wraps_at=16,
            host_bounds=(2, 2),
            dcn_bandwidth=100e9 / 8,
            sources=(
                "peak_flops: docs.cloud.google.com/tpu/docs/v6e, 918 TFLOPs",
                "hbm_bandwidth: docs.cloud.google.com/tpu/docs/tpu7x, 1638 GBps",
                "link_bandwidth: the same page, 800 GBps bidirectional; 4 ports (v6e's page)",
                "dcn_bandwidth: the same page, 100 Gbps per chip",
                _LINKS,
                _LIMIT,
                _WRAPS_2D,
            ),
        ),
        Chip(
            name="7x",
            platform="tpu",
            compiler_name="tpu7x",
            devices=2,
            peak_flops=2307e12,
            hbm_bytes=2 * int(94.75 * GIB),
            hbm_bandwidth=7380e9,
            link_bandwidth=100e9,
            dimensions=3,
            wraps_at=4,
            host_bounds=(2, 2, 1),
            dcn_bandwidth=100e9 / 8,
            sources=(
                "peak_flops: docs.cloud.google.com/tpu/docs/tpu7x, 2307 TFLOPs",
                "hbm_bandwidth: the same page, 7380 GBps",
                "link_bandwidth: the same page, 1200 GBps bidirectional per chip, 6 links",
                "devices: the same page, two TensorCores that are two devices",
                "dcn_bandwidth: the same page, 100 Gbps per chip",
                _LINKS,
                _LIMIT,
                _WRAPS_3D,
            ),
        ),
        Chip(
            name="cpu",
            platform="cpu",
            compiler_name="cpu",
            devices=1,
            peak_flops=None,
            hbm_bytes=None,
            hbm_bandwidth=None,
            link_bandwidth=None,
            dimensions=1,
            wraps_at=1,
            host_bounds=(1,),
            dcn_bandwidth=None,
            sources=("no figures: processors differ, so a plan for them has counts and no times",),
        ),
    )
}


def _peak_of_a_device(name: str) -> float:
    chip = CHIPS[name]
    assert chip.peak_flops is not None
    return chip.peak_flops / chip.devices


PEAKS = {
    "TPU v4": _peak_of_a_device("v4"),
    "TPU v5 lite": _peak_of_a_device("v5e"),
    "TPU v5e": _peak_of_a_device("v5e"),
    "TPU v5": _peak_of_a_device("v5p"),
    "TPU v5p": _peak_of_a_device("v5p"),
    "TPU v6 lite": _peak_of_a_device("v6e"),
    "TPU v6e": _peak_of_a_device("v6e"),
    "TPU7x": _peak_of_a_device("7x"),
    "NVIDIA A100": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
}
"""Dense bf16 operations per second of a device, by the beginning of the name that JAX has for its
kind; of GPUs as NVIDIA's data sheets state them, without sparsity."""


def peak_of(device_kind: str) -> float | None:
    """Returns the peak of a device by `jax.Device.device_kind`; None if it is not in the table."""
    fitting = [name for name in PEAKS if device_kind.startswith(name)]
    return PEAKS[max(fitting, key=len)] if fitting else None
