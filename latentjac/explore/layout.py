"""The layout of the page in Gradio: its controls, which know nothing of what they do."""

from __future__ import annotations

from typing import Any

import gradio as gr

from latentjac.editing.methods import BY_NAME as METHODS
from latentjac.explore import pieces
from latentjac.explore.session import MOST_DIRECTIONS, MOST_LINES, RANGES
from latentjac.explore.state import AUTO, Shared

CANVAS = 384  # side of the picture that a mask is painted on
_CHOOSE_LEVEL = """element.addEventListener("change", (event) => {
  if (event.target.name === "lje-level") trigger("level", { level: Number(event.target.value) });
});"""


class Layout:
    """The controls of the page of one model.

    Args:
        shared: What all visitors share.

    Attributes:
        blocks: The Gradio application.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.blocks = gr.Blocks(title="latentjac explore", analytics_enabled=False, fill_width=True)
        with self.blocks:
            self._lay_out()

    def _lay_out(self) -> None:
        self.token = gr.Textbox(visible="hidden", elem_id="lje-token")
        self.shown = gr.Textbox(visible="hidden")
        gr.HTML(pieces.head(self.shared), apply_default_css=False)
        with gr.Row(elem_classes="lje-columns"):
            with gr.Column(elem_classes="lje-side", scale=0, min_width=320):
                self._lay_out_photo()
                self._lay_out_question()
            with gr.Column(elem_classes="lje-main"):
                self._lay_out_answer()
                self._lay_out_sliders()

    def _lay_out_photo(self) -> None:
        gr.HTML(pieces.title("1 · Photo"), apply_default_css=False)
        self.file = gr.File(label="Photo", height=72, type="filepath", elem_classes="lje-drop")
        self.crop = gr.HTML(js_on_load=pieces.asset("crop.js"), apply_default_css=False, elem_id="lje-crop")
        self.prompt = gr.Textbox(
            label="What the photo shows", placeholder="optional", visible=self.shared.model.text is not None
        )
        self.invert = gr.Button("Invert", variant="primary", interactive=False, elem_id="lje-invert")
        self.result = gr.HTML(apply_default_css=False, elem_id="lje-result")

    def _lay_out_question(self) -> None:
        with gr.Column(visible=False, elem_id="lje-question") as self.question:
            gr.HTML(pieces.title("2 · Directions"), apply_default_css=False)
            with gr.Row():
                self.layer = gr.Dropdown(
                    self.shared.layers, value=AUTO, label="Layer", allow_custom_value=True, min_width=120
                )
                self.method = gr.Dropdown(
                    list(METHODS), value="guidance", label="Method", min_width=120, elem_id="lje-method"
                )
            with gr.Row():
                self.k = gr.Number(
                    4,
                    label="Directions",
                    precision=0,
                    minimum=1,
                    maximum=MOST_DIRECTIONS,
                    min_width=80,
                    elem_id="lje-k",
                )
                self.end = gr.Number(**range_of("guidance"), minimum=0.1, min_width=80, elem_id="lje-end")
            self.words = gr.Textbox(
                label="Directions under these words",
                placeholder="optional",
                visible=self.shared.model.text is not None,
            )
            with gr.Accordion("Only a part: paint a mask", open=False) as self.part:
                self.editor = gr.ImageEditor(
                    show_label=False,
                    label="Mask",
                    type="pil",
                    sources=(),
                    transforms=(),
                    layers=False,
                    buttons=[],
                    brush=gr.Brush(default_size=28, colors=[pieces.PAINT], color_mode="fixed"),
                    eraser=gr.Eraser(default_size=28),
                    canvas_size=(CANVAS, CANVAS),
                    fixed_canvas=True,
                    elem_id="lje-mask",
                )
            self.find = gr.Button("Find directions", variant="primary", elem_id="lje-find")
            with gr.Accordion(
                "Between two texts", open=False, visible=self.shared.model.text is not None, elem_id="lje-texts"
            ):
                self.away = gr.Textbox(label="From", placeholder="what the photo shows", elem_id="lje-from")
                self.towards = gr.Textbox(label="To", elem_id="lje-to")
                self.between = gr.Button("Add direction", elem_id="lje-between")

    def _lay_out_sliders(self) -> None:
        with gr.Column(visible=False, elem_id="lje-sliders") as self.sliders:
            gr.HTML(pieces.title("3 · Saved sliders"), apply_default_css=False)
            with gr.Row():
                with gr.Column(min_width=220):
                    self.slider = gr.File(label="Slider file", height=56, elem_classes=["lje-drop", "lje-drop-slider"])
                with gr.Column(min_width=220):
                    self.kept = gr.File(
                        label="Kept from directions", file_count="multiple", interactive=False, visible=False,
                        elem_id="lje-kept",
                    )  # fmt: skip
                    with gr.Row(visible=False) as self.again:
                        self.which = gr.Dropdown([], label="Slider", show_label=False, scale=2, min_width=140)
                        self.apply = gr.Button("Apply", scale=0, min_width=80, elem_id="lje-apply")

    def _lay_out_answer(self) -> None:
        with gr.Row(elem_classes="lje-now"):
            self.status = gr.HTML(pieces.status(None, pieces.hint(None)), apply_default_css=False, elem_id="lje-status")
            self.stop = gr.Button("Stop", interactive=False, scale=0, min_width=70, elem_id="lje-stop")
        self.strip = gr.HTML(js_on_load=_CHOOSE_LEVEL, apply_default_css=False, elem_id="lje-strip")
        self.facts = gr.HTML(apply_default_css=False, elem_id="lje-facts")
        self.slots: list[gr.Column] = []
        self.lines: list[gr.HTML] = []
        self.tools: list[dict[str, gr.Button]] = []
        with gr.Row(elem_classes="lje-lines"):
            for i in range(MOST_LINES):
                with gr.Column(visible=False, min_width=220, elem_classes="lje-slot") as slot:
                    self.slots.append(slot)
                    self.lines.append(
                        gr.HTML(apply_default_css=False, elem_classes="lje-line", elem_id=f"lje-line-{i}")
                    )
                    with gr.Row(elem_classes="lje-tools"):
                        names = ("Farther", "Keep", "GIF")
                        self.tools.append({name: gr.Button(name, size="sm", min_width=50) for name in names})
        with gr.Row(visible=False, elem_classes="lje-together") as self.together:
            with gr.Column(min_width=220):
                self.compose = gr.Button("Compose what the sliders show", elem_id="lje-compose")
                self.composed = gr.HTML(apply_default_css=False, elem_id="lje-composed")
            with gr.Column(min_width=220):
                self.page = gr.Button("Save page with sliders (zip)", elem_id="lje-page")
                self.sheet = gr.Button("Save sheet (PNG)", elem_id="lje-sheet")
                self.download = gr.DownloadButton("Download", visible="hidden", elem_id="lje-download")


def range_of(method: str) -> dict[str, Any]:
    """What the field of the range shows under a method."""
    unit = "feature" if METHODS[method].in_features else "noise"
    return {"value": RANGES[method], "label": f"Range, ± {unit} σ"}
