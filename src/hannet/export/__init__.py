"""Models as files that run without PyTorch: ONNX, C99, WebAssembly and a web page, each compared with the model before it is written.

>>> from hannet import HanNet, export
>>> export.describe(HanNet(13, 1, width=200, depth=20)).multiply_adds
10400
"""

from .program import ExportError, Program
from .report import ExportReport
from .sources import describe
from .targets import to_c, to_onnx, to_wasm, to_web

__all__ = ["ExportError", "ExportReport", "Program", "describe", "to_c", "to_onnx", "to_wasm", "to_web"]
