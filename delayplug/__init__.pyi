# The public names of delayplug and where each of them is defined. `delayplug/__init__.py` reads this file, too.

from .deploy.costs import Costs as Costs, costs as costs
from .deploy.devices import (
    Device as Device,
    DeviceReport as DeviceReport,
    Misfit as Misfit,
    check_device as check_device,
    devices as devices,
)
from .deploy.freeze import freeze_delays as freeze_delays
from .deploy.summary import Change as Change, Freezing as Freezing
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
from .exchange.connections import Projection as Projection, connections as connections
from .exchange.netx import NetxFile as NetxFile, NetxLayer as NetxLayer, to_netx as to_netx
from .exchange.nir.branches import nir_branches as nir_branches
from .exchange.nir.files import from_nir as from_nir, to_nir as to_nir
from .exchange.onnx import to_onnx as to_onnx
from .layers.base import DelayLayer as DelayLayer
from .layers.conv import ConvDelay as ConvDelay
from .layers.engines.transforms import clear_caches as clear_caches
from .layers.frozen import Frozen as Frozen, FrozenConvDelay as FrozenConvDelay, FrozenDelay as FrozenDelay
from .layers.linear import LearnableDelay as LearnableDelay
from .layers.state import DelayState as DelayState
from .layers.time_last import TimeLastDelay as TimeLastDelay
from .learning.callback import DelayCallback as DelayCallback
from .learning.captured import CapturedStep as CapturedStep
from .learning.history import DelayHistory as DelayHistory
from .learning.penalties import delay_penalty as delay_penalty
from .learning.pruning import DelayPruning as DelayPruning, Pruned as Pruned
from .learning.restarts import DelayRestarts as DelayRestarts, restart_delays as restart_delays
from .learning.schedules import SigmaSchedule as SigmaSchedule, parameter_groups as parameter_groups
from .models.pretrained import (
    Pretrained as Pretrained,
    pretrained as pretrained,
    pretrained_names as pretrained_names,
)
from .models.snn_delays import from_snn_delays as from_snn_delays
from .neurons.adaptive import (
    AdaptiveConstants as AdaptiveConstants,
    AdaptiveParameters as AdaptiveParameters,
    adaptive_step as adaptive_step,
)
from .neurons.cell import Cell as Cell, Reset as Reset
from .neurons.dynamics import (
    Adaptation as Adaptation,
    ChargeRule as ChargeRule,
    CurrentRule as CurrentRule,
    Dynamics as Dynamics,
    ResetAfter as ResetAfter,
    ResetBefore as ResetBefore,
)
from .neurons.fused import fused_neurons as fused_neurons, run_fused as run_fused
from .neurons.loops import over_steps as over_steps
from .neurons.recurrence import NeuronActivity as NeuronActivity
from .neurons.surrogates import Surrogate as Surrogate, SurrogateForm as SurrogateForm
from .running.stream import Stream as Stream, stream as stream
from .running.unroll import unroll as unroll
from .surgery.apply import add_delays as add_delays, remove_delays as remove_delays
from .surgery.convert import convert_delays as convert_delays
from .surgery.describe import Description as Description, describe_delays as describe_delays
from .surgery.find import named_delays as named_delays
from .surgery.plan import Connection as Connection, Plan as Plan, plan_delays as plan_delays
from .surgery.underway import (
    delay_state as delay_state,
    detach_delays as detach_delays,
    new_sequence as new_sequence,
    reset_delays as reset_delays,
    select_delays as select_delays,
    set_delay_state as set_delay_state,
)
from .surgery.values import delays as delays, set_delays as set_delays
from .surgery.verdict import Skipped as Skipped
from .toolkits.capabilities import (
    Benchmarks as Benchmarks,
    ChannelDelays as ChannelDelays,
    Containers as Containers,
    Exchanges as Exchanges,
    FusedNeurons as FusedNeurons,
    OwnDelays as OwnDelays,
    OwnWeights as OwnWeights,
    Streams as Streams,
)
from .toolkits.hookspecs import hookimpl as hookimpl
from .toolkits.states import tensors_in as tensors_in
from .toolkits.toolkit import Backend as Backend, Toolkit as Toolkit, never_fires as never_fires
from .toolkits.vocabulary import Granularity as Granularity, Mode as Mode, TimeInside as TimeInside

__version__: str
