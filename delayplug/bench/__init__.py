"""The benchmark: one network, one training loop and one data pipeline; only the neurons differ by backend."""
