"""How exact products of float32 numbers are: what `torch.set_float32_matmul_precision` says, for every engine alike.

    "highest"   torch's default: outputs and gradients within 1e-5 of float64
    "high"      within 1e-3: TF32 in the products of torch's that engines are made of
    "medium"    within 1e-2: factors rounded to bf16, sums in float32

Errors are norms of the difference over norms of the result. cuDNN by itself uses TF32 in convolutions unless told
otherwise, whatever this setting is; no engine lets it. Other dtypes than float32 are computed in their own precision.
"""

import torch


def parts() -> int:
    """How many numbers of bf16 a float32 factor is cut into for tensor cores: 2, which is 16 bits, or 1."""
    return 1 if torch.get_float32_matmul_precision() == "medium" else 2


def allows_tf32() -> bool:
    """Whether products may round their factors to TF32, 11 bits."""
    return torch.get_float32_matmul_precision() != "highest"
