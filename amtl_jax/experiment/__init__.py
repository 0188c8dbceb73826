"""Everything with input and output: configs, runs, checkpoints. Never imported by the library."""
