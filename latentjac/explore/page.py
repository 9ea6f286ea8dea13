"""The page: its layout in Gradio, and what each of its controls does with the session of its visitor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial, reduce
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image, ImageChops

from latentjac.explore import export, pieces
from latentjac.explore.jobs import sentence
from latentjac.explore.session import METHODS, MOST_DIRECTIONS, MOST_LINES, Session
from latentjac.explore.state import AUTO, Question, Shared
from latentjac.explore.visitors import Visitors

_CANVAS = 384
_NEWS = 0.25  # seconds between looks at a job
# A token lives as long as its tab: a reload keeps the session, and another tab is another visitor.
_TOKEN = """() => {
  let token = sessionStorage.getItem("latentjac-explore");
  if (!token) {
    token = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
    sessionStorage.setItem("latentjac-explore", token);
  }
  return [token];
}"""
# The distances that the sliders show, by the number of their slot.
_DISTANCES = """(token) => {
  const found = {};
  document.querySelectorAll(".lje-line latentjac-scrubber").forEach((scrubber) => {
    const slot = scrubber.closest("[id^=lje-line-]").id.split("-").pop();
    const frames = scrubber.querySelectorAll(".lj-strip .lj-frame");
    found[slot] = Number(frames[scrubber.indices[0]].dataset.distance);
  });
  return [token, JSON.stringify(found)];
}"""
# A link that Gradio shows beside the hidden button once there is a file.
_SAVE = """() => setTimeout(() => {
  const button = document.querySelector("#lje-download");
  (button.querySelector("a") || button).click();
}, 200)"""
_CHOOSE_LEVEL = """element.addEventListener("change", (event) => {
  if (event.target.name === "lje-level") trigger("level", { level: Number(event.target.value) });
});"""

Changes = dict[Any, Any]


class Page:
    """The page of one model.

    Args:
        shared: What all visitors share.

    Attributes:
        visitors: Their sessions.
        blocks: The Gradio application.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.visitors = Visitors(shared)
        self.blocks = gr.Blocks(title="latentjac explore", analytics_enabled=False, fill_width=True)
        with self.blocks:
            self._lay_out()
            self._connect()
        self.blocks.queue(default_concurrency_limit=None, api_open=False)

    # Layout

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
                self.method = gr.Dropdown(list(METHODS), value="guidance", label="Method", min_width=120)
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
                self.end = gr.Number(6, label="Range, ± noise σ", minimum=0.1, min_width=80)
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
                    canvas_size=(_CANVAS, _CANVAS),
                    fixed_canvas=True,
                    elem_id="lje-mask",
                )
            self.find = gr.Button("Find directions", variant="primary", elem_id="lje-find")

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

    # What controls do

    def _connect(self) -> None:
        private: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        outputs = [
            self.status, self.crop, self.invert, self.result, self.question, self.find, self.stop, self.editor,
            self.strip, self.facts, self.together, self.composed, self.sliders, self.kept, self.again, self.which,
            *self.slots, *self.lines,
        ]  # fmt: skip
        asked = [self.layer, self.k, self.end, self.method, self.words]

        def on(event: Callable[..., Any], do: Callable[..., Any], inputs: list[Any], **options: Any) -> None:
            event(do, [self.token, *inputs], outputs, **private, **options)

        self.blocks.load(self._reload, self.token, [self.token, *asked, *outputs], js=_TOKEN, **private)
        on(self.file.upload, self._open, [self.file])
        self.file.upload(lambda: None, None, self.file, **private)
        self.crop.crop(self._crop, self.token, None, **private)
        on(self.invert.click, self._invert, [self.prompt])
        self.strip.level(self._level, self.token, None, **private)
        # What is sent to an editor before it is seen is lost.
        self.part.expand(self._canvas, self.token, self.editor, **private)
        on(self.find.click, self._find, [*asked, self.editor])
        self.stop.click(self._stop, self.token, None, **private)
        for i, tools in enumerate(self.tools):
            on(tools["Farther"].click, self._of_line(Session.farther, i), [])
            on(tools["Keep"].click, self._of_line(Session.keep, i), [])
            self._saving(tools["GIF"], partial(export.gif, index=i))
        on(self.compose.click, self._compose, [self.shown], js=_DISTANCES)
        self._saving(self.page, export.page)
        self._saving(self.sheet, export.sheet)
        on(self.apply.click, self._apply, [self.which])
        on(self.slider.upload, self._apply_file, [self.slider])
        self.slider.upload(lambda: None, None, self.slider, **private)

    def _saving(self, button: gr.Button, make: Callable[[Session], Path]) -> None:
        """Have a button make a file, and the browser save it."""

        def made(token: str) -> Changes:
            try:
                return {self.download: gr.DownloadButton(value=str(make(self.visitors.session(token))))}
            except (ValueError, OSError) as error:
                raise gr.Error(sentence(error)) from error

        options: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        button.click(made, self.token, [self.download], **options).success(None, None, None, js=_SAVE)

    def _reload(self, token: str) -> Iterator[Changes]:
        found = self.visitors.session(token).found
        yield {self.token: token, **({} if found is None else self._asked(found.question))}
        yield from self._doing(token, lambda session: None)

    def _open(self, token: str, path: str | None) -> Iterator[Changes]:
        yield from self._doing(token, lambda session: session.open(Path(path)) if path else None)

    def _crop(self, token: str, event: gr.EventData) -> None:
        left, top, right, bottom = event._data["box"]
        self.visitors.session(token).crop((left, top, right, bottom))

    def _invert(self, token: str, prompt: str) -> Iterator[Changes]:
        yield from self._doing(token, lambda session: session.invert(prompt or ""))

    def _level(self, token: str, event: gr.EventData) -> None:
        self.visitors.session(token).choose(event._data["level"])

    def _canvas(self, token: str) -> dict[str, Any] | None:
        return self._editor(self.visitors.session(token))

    def _find(
        self, token: str, layer: str, k: float, end: float, method: str, words: str, painted: dict[str, Any] | None
    ) -> Iterator[Changes]:
        def begin(session: Session) -> None:
            mask = session.mask_of(_painted(painted))
            session.find(Question(layer or AUTO, int(k or 0), method, float(end or 0), (words or "").strip(), mask))

        yield from self._doing(token, begin)

    def _stop(self, token: str) -> None:
        self.visitors.session(token).stop()

    def _of_line(self, do: Callable[[Session, int], Any], index: int) -> Callable[[str], Iterator[Changes]]:
        def done(token: str) -> Iterator[Changes]:
            yield from self._doing(token, lambda session: do(session, index))

        return done

    def _apply(self, token: str, which: str | None) -> Iterator[Changes]:
        def begin(session: Session) -> None:
            kept = next((kept for kept in session.kept if str(kept.path) == which), None)
            if kept is None:
                raise ValueError("Keep a direction as a slider first.")
            session.apply(kept.path, kept.title)

        yield from self._doing(token, begin)

    def _apply_file(self, token: str, path: str | None) -> Iterator[Changes]:
        yield from self._doing(token, lambda session: session.apply(Path(path)) if path else None)

    def _compose(self, token: str, shown: str) -> Iterator[Changes]:
        def begin(session: Session) -> None:
            session.compose({int(slot): float(mark) for slot, mark in json.loads(shown).items()})

        yield from self._doing(token, begin)

    # What the page shows

    def _doing(self, token: str, do: Callable[[Session], Any]) -> Iterator[Changes]:
        """Do something in the session of a visitor, and show what becomes of it until nothing computes any more."""
        message = ""
        sent: dict[str, Any] = {}
        try:
            session = self.visitors.session(token)
        except ValueError as error:
            yield {self.status: pieces.status(None, sentence(error), bad=True)}
            return
        try:
            do(session)
        except (ValueError, TypeError, OSError, MemoryError) as error:
            message = sentence(error)
        while True:
            job = session.job
            running = job is not None and job.running
            if changes := self._changes(session, message, sent):
                yield changes
            if job is None or not running:
                return
            job.wait(_NEWS)

    def _changes(self, session: Session, message: str, sent: dict[str, Any]) -> Changes:
        """What has changed since it was sent: pictures are large."""
        job, photo, way, found, lines = session.job, session.photo, session.way, session.found, session.lines
        busy = job is not None and job.running
        made: Changes = {}

        def put(name: str, state: Any, parts: Callable[[], Changes]) -> None:
            if name not in sent or sent[name] != state:
                sent[name] = state
                made.update(parts())

        status = pieces.status(job, message or pieces.hint(session), bad=bool(message))
        put("status", status, lambda: {self.status: status})
        put("photo", photo and id(photo.whole), lambda: {self.crop: pieces.crop(photo, self.shared)})
        put("busy", (busy, photo is None), lambda: self._buttons(busy, photo is not None))
        put("way", id(way), lambda: self._way(session))
        put("facts", (id(found), bool(lines)), lambda: {self.facts: pieces.facts(found, lines)})
        put("together", bool(lines), lambda: {self.together: gr.Row(visible=bool(lines))})
        put("sliders", way is not None or bool(session.kept), lambda: self._shown(session))
        put("kept", session.kept, lambda: self._kept(session))
        put("composed", id(session.composed), lambda: {self.composed: pieces.composed(session.composed)})
        for i in range(MOST_LINES):
            line = lines[i] if i < len(lines) else None
            put(f"line {i}", id(line), lambda i=i, line=line: self._line(session, i, line))  # type: ignore[misc]
        return made

    def _asked(self, question: Question) -> Changes:
        return {
            self.layer: question.layer,
            self.k: question.k,
            self.end: question.end,
            self.method: question.method,
            self.words: question.words,
        }

    def _buttons(self, busy: bool, open_photo: bool) -> Changes:
        return {
            self.invert: gr.Button(interactive=open_photo and not busy),
            self.find: gr.Button(interactive=not busy),
            self.stop: gr.Button(interactive=busy),
        }

    def _way(self, session: Session) -> Changes:
        way = session.way
        return {
            self.result: pieces.reconstruction(way),
            self.strip: pieces.strip(way, session.level),
            self.question: gr.Column(visible=way is not None),
            self.editor: self._editor(session),
        }

    def _editor(self, session: Session) -> dict[str, Any] | None:
        """The photo to paint on, with the mask that was painted last."""
        way, found = session.way, session.found
        if way is None:
            return None
        canvas = pieces.enlarged(way.picture, _CANVAS)
        mask = None if found is None else found.question.mask
        layers = [] if mask is None else [pieces.painted(mask, canvas.size)]
        return {"background": canvas, "layers": layers, "composite": None}

    def _shown(self, session: Session) -> Changes:
        return {self.sliders: gr.Column(visible=session.way is not None or bool(session.kept))}

    def _kept(self, session: Session) -> Changes:
        kept = session.kept
        choices = [(one.title, str(one.path)) for one in kept]
        return {
            self.kept: gr.File(value=[str(one.path) for one in kept] or None, visible=bool(kept)),
            self.again: gr.Row(visible=bool(kept)),
            self.which: gr.Dropdown(choices=choices, value=choices[-1][1] if choices else None),
        }

    def _line(self, session: Session, index: int, line: Any) -> Changes:
        way = session.way
        content = "" if line is None or way is None else pieces.line(line, way.picture)
        return {self.slots[index]: gr.Column(visible=line is not None), self.lines[index]: content}


def _painted(editor: dict[str, Any] | None) -> Image.Image | None:
    """What is painted in the editor, white on black; None where there is nothing."""
    layers = [] if editor is None else editor.get("layers") or []
    if not layers:
        return None
    alphas = [layer.convert("RGBA").getchannel("A") for layer in layers]
    return reduce(ImageChops.lighter, alphas).point(lambda value: 255 if value > 32 else 0)
