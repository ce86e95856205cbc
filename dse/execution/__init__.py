"""One training step of a plan, carried out by its memory map alone.

The memory is one ``bytearray`` per level, of exactly the size of that level's arena. Every value that passes
from one operation to another lies in it, at the offset that the map plans; the executor keeps none beside it.
Inside a single operation numpy may hold temporaries: they stand for the registers and the accumulators of a
kernel. Constants of the arithmetic (grids of integers, the scale of an int8 tensor, quantisers of stored
samples) and what a caller reads at the end (loss, updated parameters) are outside as well, as no plan counts
them. Nothing here needs PyTorch, and nothing knows how the map was made.
"""
