"""The arithmetic of a stage in 8-bit integers, for the executor: learning, frozen stage, inference.

Activations stand in one byte, counted from the least number of their grid; weights are int8 by output
channel, biases int32, logits real values in 32 bits. Sums of integers are exact, so that the order in which
a kernel adds them does not matter, and memory cannot change a result.
"""
