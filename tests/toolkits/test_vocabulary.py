"""Enums whose members are the strings that users type."""

import pickle

import pytest

from delayplug import Granularity, Mode, TimeInside, plan_delays
from delayplug.toolkits.vocabulary import TimeAxis, Turns


@pytest.mark.parametrize("enum", [Granularity, Mode, TimeInside, TimeAxis, Turns])
def test_a_member_is_its_string(enum: type[Mode]) -> None:
    for member in enum:
        assert member == member.value == f"{member}"
        assert enum(member.value) is member
        assert pickle.loads(pickle.dumps(member)) is member


def test_turns_read_what_earlier_versions_saved() -> None:
    assert Turns("sequence, then steps") is Turns.SEQUENCE_THEN_STEPS
    assert Turns("steps, then sequence") is Turns.STEPS_THEN_SEQUENCE
    with pytest.raises(ValueError, match="sometimes"):
        Turns("sometimes")


def test_users_may_give_strings_or_members() -> None:
    import norse.torch as norse
    from torch import nn

    net = norse.SequentialState(nn.Linear(2, 3), norse.LIFCell())
    plans = [plan_delays(net, granularity=granularity) for granularity in ("axonal", Granularity.AXONAL)]
    assert plans[0] == plans[1]
    assert plans[0].connections[0].granularity is Granularity.AXONAL
