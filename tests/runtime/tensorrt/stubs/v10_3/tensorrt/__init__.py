"""A stub in the shape of tensorrt 10.3.0; see stub_core."""

import stub_core

globals().update(stub_core.make("10.3.0", rtx=False))
