"""Learnable delays for spiking neural networks, in the toolkit you already use."""

from .attach import Granularity
from .backend import Backend, TimeInside, Toolkit
from .cells import Cell
from .compiling import over_steps
from .counting import Costs, costs
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
    ExtraMissingError,
    RunError,
    SequenceError,
    UnknownBackendError,
    UnrollError,
    WiringError,
)
from .exchange import from_nir, nir_branches, to_nir, to_onnx
from .freezing import Change, Freezing, freeze_delays
from .frozen import Frozen, FrozenConvDelay, FrozenDelay
from .history import DelayHistory
from .hookspecs import hookimpl
from .layers import LearnableDelay
from .memory import Mode, tensors_in
from .penalties import delay_penalty
from .pruning import DelayPruning, Pruned
from .restarts import DelayRestarts, restart_delays
from .schedules import SigmaSchedule, parameter_groups
from .spatial import ConvDelay
from .streaming import Stream, stream
from .structure import Skipped
from .surgery import add_delays, detach_delays, named_delays, remove_delays, reset_delays
from .transforms import clear_caches
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
    "Change",
    "Connection",
    "ConvDelay",
    "Costs",
    "DataError",
    "DelayHistory",
    "DelayLayer",
    "DelayPruning",
    "DelayRestarts",
    "DelayState",
    "DelayplugError",
    "Description",
    "ExchangeError",
    "ExtraMissingError",
    "Freezing",
    "Frozen",
    "FrozenConvDelay",
    "FrozenDelay",
    "Granularity",
    "LearnableDelay",
    "Mode",
    "Plan",
    "Pruned",
    "RunError",
    "SequenceError",
    "SigmaSchedule",
    "Skipped",
    "Stream",
    "TimeInside",
    "Toolkit",
    "UnknownBackendError",
    "UnrollError",
    "WiringError",
    "add_delays",
    "clear_caches",
    "costs",
    "delay_penalty",
    "describe_delays",
    "detach_delays",
    "freeze_delays",
    "from_nir",
    "hookimpl",
    "named_delays",
    "nir_branches",
    "over_steps",
    "parameter_groups",
    "plan_delays",
    "remove_delays",
    "reset_delays",
    "restart_delays",
    "stream",
    "tensors_in",
    "to_nir",
    "to_onnx",
    "unroll",
]
