"""The training step operation by operation: what is alive when.

This is the one written schedule: the memory model, the explanation of a peak, and every later map or
execution of the step read it. Operations stand in a fixed order for a network and a structure (who works
in place, what runs again, what runs by patches); a buffer's lifespan (first and last operation) is fixed as
well, and only its size depends on the plan: a buffer that a plan does not have has size zero. Live bytes are
therefore a running sum, for P plans at once.

The order: frozen forward of one image, layer by layer · store the latent · load a micro-batch · forward ·
loss · for each layer from the last: the forward pass of its checkpoint segment again, weight gradient, input
gradient, late update · update at the end · inference, between events.
With ``update = accumulate`` a unit's weight gradient comes before its input gradient, so that the saved
input is freed first; otherwise after it, because the update overwrites the weights that the input
gradient reads.
"""

from __future__ import annotations

from dse.plan.again import runs_again
from dse.plan.buffers_backward import add_errors, add_gradients
from dse.plan.buffers_forward import add_activations, add_latents
from dse.plan.buffers_frozen import add_frozen_stage, add_inference
from dse.plan.buffers_saved import add_saved_by_layers
from dse.plan.buffers_workspace import add_workspaces
from dse.plan.int8_buffers import add_int8_buffers
from dse.plan.learning import learning_of
from dse.plan.spec import StepSpec
from dse.plan.timeline import Clock, Schedule
from dse.plan.workspace import WorkspaceTable
from dse.workload import Workload


def build_schedule(
    workload: Workload, spec: StepSpec, workspace: WorkspaceTable | None = None, cores: int = 1
) -> Schedule:
    """Write down the step of ``spec``: every buffer with its lifespan, role and the reason that it lives."""
    learning = learning_of(workload, spec)
    schedule = Schedule(workload, len(spec), Clock(len(workload.layers), spec.structure.segments))
    again = runs_again(workload, spec, learning)
    add_frozen_stage(schedule, spec)
    add_latents(schedule, spec, learning, again)
    add_activations(schedule, spec, learning, again)
    add_errors(schedule, spec, learning)
    add_int8_buffers(schedule, spec, learning)
    add_saved_by_layers(schedule, spec, learning)
    add_gradients(schedule, spec, learning)
    add_inference(schedule, spec)
    add_workspaces(schedule, spec, learning, again, workspace or {}, cores)
    return schedule
