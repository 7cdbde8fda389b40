"""Random programs that drive a delayed network, and the oracle that says what each of them should compute.

A program is data (`program.Program`): a network, how it is wrapped, and operations on streams of input. `generate`
makes programs from any source of choices, `drive` runs one on a network, `judge` runs it twice, on the plain network
with explicit queues and on the delayed one, and compares. `python -m tests.surgery.programs --programs 20000` is the
long run; `tests/surgery/test_programs.py` runs some hundred.
"""
