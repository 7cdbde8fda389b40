"""Random programs drive delayed networks of the three toolkits: each is right, or refused where it may be."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.profiles import examples
from tests.surgery.programs.generate import THEMES, Drawn, program
from tests.surgery.programs.judge import CRASH, INVALID, REFUSED, WRONG, judge, quick
from tests.surgery.programs.program import Begin, Cut, Network, Program, Restore, Run, Save, text
from tests.surgery.programs.runs import Delayed, MismatchError, Plain


class Hypothesis:
    """Choices by hypothesis, which makes a failing program smaller."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw

    def one_of(self, values: Any) -> Any:
        return self.draw(st.sampled_from(list(values)))

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))


@st.composite
def programs(draw: Any, theme: str) -> Program:
    return program(Hypothesis(draw), theme)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    quick()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("theme", THEMES)
def test_a_program_is_right_or_refused(theme: str) -> None:
    @settings(max_examples=examples(25))
    @given(made=programs(theme))
    def check(made: Program) -> None:
        verdict = judge(made)
        said = f"{verdict}\n{text(made)}\n{made!r}"
        assert verdict.result not in (WRONG, CRASH), said
        assert verdict.result != REFUSED or verdict.may_refuse, said

    check()


NETWORK = Network("snntorch Leaky passed", start="zeros", example=True)


def outputs(made: Program, label: str = "outputs") -> torch.Tensor:
    plain = Plain(made)
    with torch.no_grad():
        plain.run()
    return torch.cat([values[0] for _, name, values in plain.records if name == label])


@pytest.mark.parametrize("delay", [1, 3])
def test_the_oracle_shifts_the_input(delay: int) -> None:
    made = Program("", Network("snntorch Leaky passed", start="zeros", delay=delay), (Begin(0), Run(0, 4), Run(0, 5)))
    plain = Plain(made)
    x = plain.inputs[0][:9, :3]
    shifted = torch.cat([torch.zeros_like(x[:delay]), x[:-delay]])
    net, states, expected = Plain(made).nets[0], [(torch.zeros(3, 5),)], []
    for module in net.modules():
        module._forward_pre_hooks.clear()
    for x_t in shifted:
        y, states = net(x_t, states)
        expected.append(y)
    assert torch.equal(outputs(made), torch.stack(expected).detach())


def test_the_oracle_keeps_the_queue_of_each_stream() -> None:
    alone = [outputs(Program("", NETWORK, (Begin(i), Run(i, 6)))) for i in (0, 1)]
    turns = [op for _ in range(6) for op in (Run(0, 1), Run(1, 1))]
    both = outputs(Program("", NETWORK, (Begin(0), Begin(1), *turns)))
    assert torch.equal(both[0::2], alone[0])
    assert torch.equal(both[1::2], alone[1])


def test_the_oracle_cuts_and_restores_the_queue() -> None:
    whole = outputs(Program("", NETWORK, (Begin(0), Run(0, 3), Run(0, 4))))
    saved = (Begin(0), Run(0, 3), Save(0, 0), Run(0, 2), Restore(0, 0), Run(0, 4))
    assert torch.equal(outputs(Program("", NETWORK, saved))[-4:], whole[-4:])
    cut = (Begin(0), Run(0, 3), Cut(0, "index", (2, 0)), Run(0, 4))
    plain = Plain(Program("", NETWORK, cut))
    plain.run()
    assert torch.equal(plain.records[-2][2][0], whole[-4:, [2, 0]])


def test_a_wrong_number_is_noticed() -> None:
    made = Program("", NETWORK, (Begin(0), Run(0, 6)))
    plain = Plain(made)
    plain.run()
    *_, (at, label, (state,)) = plain.records
    plain.records[-1] = (at, label, [state + 0.01])
    with pytest.raises(MismatchError, match=r"1\.00 of the state"):
        Delayed(made, plain.records).run()


def test_few_programs_make_no_sense() -> None:
    verdicts = [judge(program(Drawn(i))) for i in range(60)]
    assert sum(verdict.result == INVALID for verdict in verdicts) < 6
