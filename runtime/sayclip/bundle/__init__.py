"""The bundle: a read-only folder of graphs and their manifest, all that passes from workstation to device."""
