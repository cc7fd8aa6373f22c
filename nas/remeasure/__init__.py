"""Latencies taken again: the front's members in turns, a whole study on another machine, any single file."""

from __future__ import annotations

from nas.remeasure.contenders import hopeful
from nas.remeasure.in_turns import time_front
from nas.remeasure.single_file import FileMeasured, images_for, measure_file
from nas.remeasure.whole_study import measure_all

__all__ = ["FileMeasured", "hopeful", "images_for", "measure_all", "measure_file", "time_front"]
