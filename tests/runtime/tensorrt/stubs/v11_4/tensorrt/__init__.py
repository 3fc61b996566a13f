"""A stub in the shape of tensorrt 11.4.0.106; see stub_core."""

import stub_core

globals().update(stub_core.make("11.4.0.106", rtx=False))
