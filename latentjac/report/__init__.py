"""Pictures, plots and files of a run."""

from latentjac.report.files import versions, write_json, write_png
from latentjac.report.sheet import Row, contact_sheet, direction_image
from latentjac.report.spectrum import spectrum_plot

__all__ = ["Row", "contact_sheet", "direction_image", "spectrum_plot", "versions", "write_json", "write_png"]
