"""Measured figures of speed and of search quality: ``make bench``.

Every figure stands beside its target, and beside what it is compared with, measured in the same run.
"""
