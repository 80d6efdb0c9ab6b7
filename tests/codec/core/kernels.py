"""The kernels of the core that a processor of this kind may have."""

import platform

_X86, _ARM = ("avx2", "avxvnni", "vnni"), ("dotprod",)
_OTHERS = {"x86_64": _X86, "AMD64": _X86, "aarch64": _ARM, "arm64": _ARM}
KERNELS = ("portable", *_OTHERS.get(platform.machine(), ()))
