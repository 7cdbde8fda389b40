"""One thread: the tensors of tests are small, and two processes with two threads each hinder one another."""

import torch

torch.set_num_threads(1)
