"""Learnable delays for spiking neural networks, in the toolkit you already use."""

from .attach import Granularity
from .backend import Backend, TimeInside, Toolkit
from .cells import Cell
from .compiling import over_steps
from .delays import DelayLayer, DelayState
from .describe import Description, describe_delays
from .errors import (
    ArgumentError,
    BackendBrokenError,
    BackendError,
    BackendMissingError,
    DataError,
    DelayplugError,
    ExchangeError,
    RunError,
    SequenceError,
    UnknownBackendError,
    UnrollError,
    WiringError,
)
from .exchange import from_nir, nir_branches, to_nir, to_onnx
from .hookspecs import hookimpl
from .layers import LearnableDelay
from .memory import Mode, tensors_in
from .schedules import SigmaSchedule, parameter_groups
from .spatial import ConvDelay
from .structure import Skipped
from .surgery import add_delays, detach_delays, named_delays, remove_delays, reset_delays
from .unrolling import unroll
from .wiring import Connection, Plan, plan_delays

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "Backend",
    "BackendBrokenError",
    "BackendError",
    "BackendMissingError",
    "Cell",
    "Connection",
    "ConvDelay",
    "DataError",
    "DelayLayer",
    "DelayState",
    "DelayplugError",
    "Description",
    "ExchangeError",
    "Granularity",
    "LearnableDelay",
    "Mode",
    "Plan",
    "RunError",
    "SequenceError",
    "SigmaSchedule",
    "Skipped",
    "TimeInside",
    "Toolkit",
    "UnknownBackendError",
    "UnrollError",
    "WiringError",
    "add_delays",
    "describe_delays",
    "detach_delays",
    "from_nir",
    "hookimpl",
    "named_delays",
    "nir_branches",
    "over_steps",
    "parameter_groups",
    "plan_delays",
    "remove_delays",
    "reset_delays",
    "tensors_in",
    "to_nir",
    "to_onnx",
    "unroll",
]
