"""Networks with delays in the formats of others: NIR and ONNX."""

from .nir_files import from_nir, nir_branches, to_nir
from .onnx_files import to_onnx

__all__ = ["from_nir", "nir_branches", "to_nir", "to_onnx"]
