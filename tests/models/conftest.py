"""The small comparison of the benchmark's tests."""

from tests.bench.conftest import comparison as comparison
