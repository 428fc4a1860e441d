"""The engine's arithmetic in C++: a whole batch a step, in int8 or float32, without the GIL."""

from server.engine.native.core import ISAS, Isa, NativeCore, supported_isas

__all__ = ["ISAS", "Isa", "NativeCore", "supported_isas"]
