"""A stub in the shape of tensorrt_rtx 1.7.1.116; see stub_core."""

import stub_core

globals().update(stub_core.make("1.7.1.116", rtx=True))
