# The public names of delayplug and where each of them is defined. `delayplug/__init__.py` reads this file, too.

from .attach import Granularity as Granularity
from .backend import Backend as Backend, TimeInside as TimeInside, Toolkit as Toolkit
from .cells import Cell as Cell
from .compiling import over_steps as over_steps
from .counting import Costs as Costs, costs as costs
from .delays import DelayLayer as DelayLayer, DelayState as DelayState
from .describe import Description as Description, describe_delays as describe_delays
from .errors import (
    ArgumentError as ArgumentError,
    BackendBrokenError as BackendBrokenError,
    BackendError as BackendError,
    BackendMissingError as BackendMissingError,
    DataError as DataError,
    DelayplugError as DelayplugError,
    ExchangeError as ExchangeError,
    ExtraMissingError as ExtraMissingError,
    RunError as RunError,
    SequenceError as SequenceError,
    UnknownBackendError as UnknownBackendError,
    UnrollError as UnrollError,
    WiringError as WiringError,
)
from .exchange import from_nir as from_nir, nir_branches as nir_branches, to_nir as to_nir, to_onnx as to_onnx
from .freezing import Change as Change, Freezing as Freezing, freeze_delays as freeze_delays
from .frozen import Frozen as Frozen, FrozenConvDelay as FrozenConvDelay, FrozenDelay as FrozenDelay
from .history import DelayHistory as DelayHistory
from .hookspecs import hookimpl as hookimpl
from .layers import LearnableDelay as LearnableDelay
from .memory import Mode as Mode, tensors_in as tensors_in
from .penalties import delay_penalty as delay_penalty
from .pruning import DelayPruning as DelayPruning, Pruned as Pruned
from .restarts import DelayRestarts as DelayRestarts, restart_delays as restart_delays
from .schedules import SigmaSchedule as SigmaSchedule, parameter_groups as parameter_groups
from .spatial import ConvDelay as ConvDelay
from .streaming import Stream as Stream, stream as stream
from .structure import Skipped as Skipped
from .surgery import (
    add_delays as add_delays,
    detach_delays as detach_delays,
    named_delays as named_delays,
    remove_delays as remove_delays,
    reset_delays as reset_delays,
)
from .transforms import clear_caches as clear_caches
from .unrolling import unroll as unroll
from .wiring import Connection as Connection, Plan as Plan, plan_delays as plan_delays

__version__: str
