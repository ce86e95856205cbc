"""One training step of a plan, carried out by its memory map alone.

The memory is one ``bytearray`` per level, of exactly the size of that level's arena. Every tensor that passes
from one operation to another lies in it, at the offset that the map plans. Which buffers there have to be
follows from the plan: a schedule that forgets one fails.

Outside of the arenas are, of what depends on data, as the accounting counts no bytes for them:

- the scales of int8 errors (one per tensor) and of int8 gradients (one per output channel, one for all
  biases of a unit), which pass from the operation that writes the tensor to those that read it;
- the labels of the running mini-batch, which are read from their buffers when it begins and then control
  the loop, as do the places of its samples; and the labels of samples where an accounting counts none;
- what a caller reads at the end: the loss.

Constants are outside as well: grids of integers and quantisers of stored samples, which training has fixed.
Inside a single operation numpy holds temporaries, which stand for the registers and accumulators of a kernel:
sums of products, and with int8 gradients those of the output channel at hand in 32 bits, before its scale is
known. numpy works them out for all channels at once; a kernel needs one at a time. Nothing here needs
PyTorch, and nothing knows how the map was made.
"""
