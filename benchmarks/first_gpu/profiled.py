"""A stack's forward and backward pass, twice: what Nsight Compute looks at.  python -m first_gpu.profiled ROWS WIDTH DEPTH"""

import os
import sys

from . import bare, rehearsal

bare.prepare()
if os.environ.get("TRITON_INTERPRET") == "1":
    rehearsal.begin()

from .profiling import passes  # noqa: E402

work = passes(*map(int, sys.argv[1:]))
work()
work()
