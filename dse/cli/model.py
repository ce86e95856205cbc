"""``dse model show``: what is in a model file, what of it can be planned, and the way to the own format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dse.cli.inputs import write_csv

if TYPE_CHECKING:
    from dse.report.model import Description

models = typer.Typer(
    help="Model files (ONNX, TFLite, torch.export): show one, save it as the program's own TOML.",
    no_args_is_help=True,
)

File = Annotated[str, typer.Argument(help="A model file (.onnx, .tflite, .pt2), a TOML, or a name of `dse "
    "networks`; options may follow: model.onnx@classes=10,axis.T=100.", show_default=False)]  # fmt: skip
BatchNorm = Annotated[str | None, typer.Option(help="Keep batch norms, or fold them into the weights before.",
    metavar="keep|fold", show_default=False)]  # fmt: skip
Axis = Annotated[list[str] | None, typer.Option(help="Size of a dynamic axis; may be given several times.",
    metavar="NAME=N", show_default=False)]  # fmt: skip
Classes = Annotated[int | None, typer.Option(help="Give the model a new last layer with this many outputs.",
    metavar="N", show_default=False)]  # fmt: skip
Output = Annotated[str | None, typer.Option(help="Take the tensor of this node as the result.",
    metavar="NODE", show_default=False)]  # fmt: skip
Save = Annotated[Path | None, typer.Option(help="Write the network there, as TOML, and its numbers as .npz.",
    metavar="FOLDER", show_default=False)]  # fmt: skip
Csv = Annotated[Path | None, typer.Option(help="Write a row per operation there.", metavar="FILE",
    show_default=False)]  # fmt: skip
Brief = Annotated[bool, typer.Option("--brief", help="Shorten long tables to what is large.")]


@models.callback()
def model() -> None:
    """Keep ``show`` a command of its own, although it is the only one."""


@models.command("show")
def show(
    file: File,
    batch_norm: BatchNorm = None,
    axis: Axis = None,
    classes: Classes = None,
    output: Output = None,
    save: Save = None,
    csv: Csv = None,
    brief: Brief = False,
) -> int:
    """Show the layers of a model file with their MACs and bytes, and what of it can be planned."""
    from dse.files import require_new_folder, require_writable_file
    from dse.report.model import description_text

    if save is not None:
        require_new_folder(save)
    if csv is not None:
        require_writable_file(csv)
    changes = [*_axes(axis or []), ("batch_norm", batch_norm), ("classes", classes), ("output", output)]
    found, path = _described(file, [(key, value) for key, value in changes if value is not None], save)
    print(description_text(found, brief=brief))
    if csv is not None:
        write_csv(csv, found.to_frame())
    if path is not None:
        print(f"\nsaved as {path}")
    return 0


def _axes(given: list[str]) -> list[tuple[str, object]]:
    from dse.errors import Problem, UserError
    from dse.workload.names import AXIS

    pairs = [text.rpartition("=") for text in given]
    wrong = [text for text, (name, _, _) in zip(given, pairs, strict=True) if not name]
    if wrong:
        raise UserError(Problem("option", "axis", repr(text), "NAME=N, such as T=100") for text in wrong)
    return [(f"{AXIS}{name}", size) for name, _, size in pairs]


def _described(
    file: str, changes: list[tuple[str, object]], save: Path | None
) -> tuple[Description, Path | None]:
    from dse.report.model import of_model, of_network
    from dse.workload.load import load_variant
    from dse.workload.model.load import model_of_file
    from dse.workload.names import changes_of, is_model_file, split_name
    from dse.workload.save import save_network

    name, written = split_name(file)
    if is_model_file(name):
        imported = model_of_file(name, [*changes_of(written), *changes])
        path = None if save is None else save_network(imported.lowered, save)
        return of_model(imported), path
    network = load_variant(file, changes)
    return of_network(network), None if save is None else save_network(network, save)
