"""Results made readable: tidy tables, figures, plain text, and the folder that a run leaves behind."""
