"""Runs over many items: photos, prompts and seeds through inversion, bases, measures and edits.

A run is a folder. It goes on where it stopped, whatever stopped it; see docs/batch.md.
"""

from latentjac.batch.plan import Plan
from latentjac.batch.ray_worker import RayWorker
from latentjac.batch.results import Results, RunStatus, open
from latentjac.batch.run import Run
from latentjac.batch.shards import Shard
from latentjac.batch.spec import read_spec

__all__ = ["Plan", "RayWorker", "Results", "Run", "RunStatus", "Shard", "open", "read_spec"]
