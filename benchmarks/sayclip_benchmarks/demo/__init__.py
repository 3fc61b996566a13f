"""The figures of the demo bundle, from a run of the runtime alone."""
