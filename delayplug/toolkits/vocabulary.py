"""The words by which toolkits, plans and layers speak of time and of delays: each an enum whose members are strings."""

from enum import StrEnum


class Mode(StrEnum):
    """What a call of a module takes: one step (B, ...) or a whole sequence (T, B, ...)."""

    STEP = "step"
    SEQUENCE = "sequence"


class Granularity(StrEnum):
    """What has a delay each: every synapse, every input channel (before the layer), every output channel (after it)."""

    SYNAPTIC = "synaptic"
    AXONAL = "axonal"
    DENDRITIC = "dendritic"


class TimeInside(StrEnum):
    """What modules inside of a container see of the time.

    SAME: what the container takes. FOLDED: the time is folded into the batch, (T B, ...). STEPS: single steps.
    LAST: single steps of what has the time last, (B, ..., T). HIDDEN: the time is where they cannot tell it, or their
    calls do not follow it.
    """

    SAME = "same"
    FOLDED = "folded"
    STEPS = "steps"
    LAST = "last"
    HIDDEN = "hidden"


class TimeAxis(StrEnum):
    """Where the time is in a sequence that a layer takes: (T, B, ...), (B, T, ...), or in the batch, (T B, ...)."""

    FIRST = "first"
    SECOND = "second"
    FOLDED = "folded"


class Turns(StrEnum):
    """How the calls of a layer and of the neuron that it feeds follow each other.

    TOGETHER: one call of the neuron for each call of the layer. SEQUENCE_THEN_STEPS: the layer takes a sequence, and
    the neuron takes its steps one by one. STEPS_THEN_SEQUENCE: the other way round. INSIDE: the neuron calls the layer.
    """

    TOGETHER = "together"
    SEQUENCE_THEN_STEPS = "sequence-then-steps"
    STEPS_THEN_SEQUENCE = "steps-then-sequence"
    INSIDE = "inside"

    @classmethod
    def _missing_(cls, value: object) -> "Turns | None":
        # As models saved by delayplug 0.1 have it.
        old = {"sequence, then steps": cls.SEQUENCE_THEN_STEPS, "steps, then sequence": cls.STEPS_THEN_SEQUENCE}
        return old.get(str(value))
