"""Optimization as a library: works on any module or plain function."""

from regard.optim.muon import Muon, orthogonalize
from regard.optim.schedules import SCHEDULES, Schedule

__all__ = ["SCHEDULES", "Muon", "Schedule", "orthogonalize"]
