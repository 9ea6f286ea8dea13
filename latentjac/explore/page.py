"""What each control of the page does with the session of its visitor."""

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
from latentjac.explore.layout import CANVAS, Layout, range_of
from latentjac.explore.session import MOST_LINES, Session
from latentjac.explore.state import AUTO, Question, Shared
from latentjac.explore.visitors import Visitors

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

Changes = dict[Any, Any]


class Page(Layout):
    """The page of one model.

    Args:
        shared: What all visitors share.

    Attributes:
        visitors: Their sessions.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.visitors = Visitors(shared)
        with self.blocks:
            self._connect()
        self.blocks.queue(default_concurrency_limit=None, api_open=False)

    # What controls do

    def _connect(self) -> None:
        private: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        outputs = [
            self.status, self.crop, self.invert, self.result, self.question, self.find, self.between, self.stop,
            self.editor, self.strip, self.facts, self.together, self.composed, self.sliders, self.kept, self.again,
            self.which, *self.slots, *self.lines,
        ]  # fmt: skip
        asked = [self.layer, self.k, self.end, self.method, self.words]

        def on(event: Callable[..., Any], do: Callable[..., Any], inputs: list[Any], **options: Any) -> None:
            event(do, [self.token, *inputs], outputs, **private, **options)

        self.blocks.load(self._reload, self.token, [self.token, self.prompt, *asked, *outputs], js=_TOKEN, **private)
        on(self.file.upload, self._open, [self.file])
        self.file.upload(lambda: None, None, self.file, **private)
        self.crop.crop(self._crop, self.token, None, **private)
        on(self.invert.click, self._invert, [self.prompt])
        self.strip.level(self._level, self.token, None, **private)
        # What is sent to an editor before it is seen is lost.
        self.part.expand(self._canvas, self.token, self.editor, **private)
        self.method.input(lambda method: gr.Number(**range_of(method)), self.method, self.end, **private)
        on(self.find.click, self._find, [*asked, self.editor])
        on(self.between.click, self._between, [self.away, self.towards, *asked, self.editor])
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
        session = self.visitors.session(token)
        asked = {} if session.found is None else self._asked(session.found.question)
        yield {self.token: token, self.prompt: session.way.prompt if session.way else "", **asked}
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

    def _find(self, token: str, *asked: Any) -> Iterator[Changes]:
        yield from self._doing(token, lambda session: session.find(_question(session, *asked)))

    def _between(self, token: str, away: str, towards: str, *asked: Any) -> Iterator[Changes]:
        def begin(session: Session) -> None:
            session.between(away or "", towards or "", _question(session, *asked))

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
            self.end: gr.Number(**{**range_of(question.method), "value": question.end}),
            self.method: question.method,
            self.words: question.words,
        }

    def _buttons(self, busy: bool, open_photo: bool) -> Changes:
        return {
            self.invert: gr.Button(interactive=open_photo and not busy),
            self.find: gr.Button(interactive=not busy),
            self.between: gr.Button(interactive=not busy),
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
        canvas = pieces.enlarged(way.picture, CANVAS)
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


def _question(
    session: Session, layer: str, k: float, end: float, method: str, words: str, painted: dict[str, Any] | None
) -> Question:
    """What the controls ask; raises where the mask covers the whole picture."""
    mask = session.mask_of(_painted(painted))
    return Question(layer or AUTO, int(k or 0), method, float(end or 0), (words or "").strip(), mask)


def _painted(editor: dict[str, Any] | None) -> Image.Image | None:
    """What is painted in the editor, white on black; None where there is nothing."""
    layers = [] if editor is None else editor.get("layers") or []
    if not layers:
        return None
    alphas = [layer.convert("RGBA").getchannel("A") for layer in layers]
    return reduce(ImageChops.lighter, alphas).point(lambda value: 255 if value > 32 else 0)
