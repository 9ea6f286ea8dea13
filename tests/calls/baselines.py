"""Valid arguments of every public function, by name; behind a stroke stand further cases of one."""

from __future__ import annotations

from calls import of_bases, of_edits, of_kernels, of_loops, of_models, of_pages, of_sliders, of_studies
from calls.things import Baseline

# Which case of an argument meets the long table of values depends on the order.
BASELINES: dict[str, Baseline] = {
    **of_edits.BASELINES,
    **of_loops.BASELINES,
    **of_bases.BASELINES,
    **of_kernels.BASELINES,
    **of_studies.BASELINES,
    **of_models.BASELINES,
    **of_pages.BASELINES,
    **of_sliders.BASELINES,
}
