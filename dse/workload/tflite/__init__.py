"""TFLite files read into the form that all importers share."""

from dse.workload.tflite.reader import read_tflite

__all__ = ["read_tflite"]
