"""Pictures, plots and files of a run."""

from latentjac.report.animation import video_gif, walk_gif
from latentjac.report.files import versions, write_json, write_png
from latentjac.report.findings import finding_figure
from latentjac.report.page import run_page
from latentjac.report.scrubber import Strip, scrubber, scrubber_assets
from latentjac.report.sheet import Row, contact_sheet, direction_image
from latentjac.report.spectrum import spectrum_plot
from latentjac.report.tables import write_parquet

__all__ = [
    "Row",
    "Strip",
    "contact_sheet",
    "direction_image",
    "finding_figure",
    "run_page",
    "scrubber",
    "scrubber_assets",
    "spectrum_plot",
    "versions",
    "video_gif",
    "walk_gif",
    "write_json",
    "write_parquet",
    "write_png",
]
