"""Numbers of a run or study for TensorBoard and Weights & Biases, which only their writers import.

The workdir stays the truth: writers hear every round, the restored ones too, and what they made
before is made again or continued. One that fails is left out, and the run goes on.
"""
