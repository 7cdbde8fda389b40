"""`_triton`: where kernels run, and operators that launch them."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from delayplug import _triton


@_triton.operator("of_the_tests(Tensor x, Tensor(a!) out) -> ()")
def double(x: Tensor, out: Tensor) -> None:
    torch.mul(x, 2, out=out)


def test_an_operator_is_called_like_its_function() -> None:
    out = torch.empty(3)
    double(torch.ones(3), out)
    assert out.tolist() == [2, 2, 2]


def test_a_fake_operator_does_nothing_on_any_device() -> None:
    with FakeTensorMode():
        x = torch.ones(3, device="cuda")
        double(x, torch.empty_like(x))


def test_an_operator_compiles() -> None:
    def run(x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        double(x, out)
        return out + 1

    assert torch.compile(run, backend="aot_eager", fullgraph=True)(torch.ones(3)).tolist() == [3, 3, 3]


def test_kernels_run_on_a_cpu_only_where_they_are_interpreted() -> None:
    cpu = torch.device("cpu")
    assert not _triton.runs_on(cpu)
    if not _triton.is_installed() or torch.cuda.is_available():
        pytest.skip("needs Triton, and an environment that asks for its interpreter")
    with _triton.interpreted():
        assert _triton.runs_on(cpu)
    assert not _triton.runs_on(cpu)
    assert not _triton.runs_on(torch.device("meta"))


def test_a_compiler_asks_for_the_device_and_does_not_trace_the_question(recwarn: pytest.WarningsRecorder) -> None:
    def run(x: Tensor) -> Tensor:
        return x if _triton.runs_on(torch.device("cuda", 0)) else x + 1

    there = _triton.runs_on(torch.device("cuda", 0))
    assert torch.compile(run, backend="eager", fullgraph=True)(torch.ones(1)).item() == (1 if there else 2)
    assert not [str(w.message) for w in recwarn if "lru_cache" in str(w.message)]


@pytest.mark.skipif(torch.cuda.is_available() or not _triton.is_installed(), reason="where Triton does not work")
def test_without_a_compiler_or_a_driver_it_is_said_and_torch_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    for question in (_triton._asked, _triton._launches):
        question.cache_clear()
    try:
        with pytest.warns(UserWarning, match=r"(?s)Triton launches no kernels here \(.*torch's own operations"):
            assert not _triton.runs_on(torch.device("cuda", 0))
    finally:
        for question in (_triton._asked, _triton._launches):
            question.cache_clear()


def test_the_interpreter_is_asked_for_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET=1"), _triton.interpreted():
        pass


def test_the_package_imports_no_triton() -> None:
    code = "import sys, torch, delayplug; delayplug.LearnableDelay(3, 2, max_delay=4)(torch.ones(5, 1, 3)).sum()"
    code += ".backward(); assert 'triton' not in sys.modules, 'imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
