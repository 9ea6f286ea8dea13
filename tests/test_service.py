"""The service in examples/service, over HTTP on loopback, with a small network."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from networks import build_scheduler, build_shallow_unet
from PIL import Image

import latentjac

httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")
FOLDER = Path(__file__).parent.parent / "examples" / "service"
pytestmark = pytest.mark.filterwarnings("ignore:invert. picture", "ignore:local_basis")


@pytest.fixture(scope="module")
def programs() -> Iterator[tuple[ModuleType, ModuleType]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import app
        import load

        yield app, load
        for name in ("app", "load"):
            sys.modules.pop(name)


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return latentjac.load(build_shallow_unet(), build_scheduler())


@contextmanager
def serving(application: Any) -> Iterator[Any]:
    """A client of the application, which runs in a thread on a free port."""
    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < end
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
            yield http
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def photo(seed: int = 0, size: int = 8) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def lines(answer: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


def test_answers_are_those_of_the_library(programs: tuple[ModuleType, ModuleType], model: latentjac.Model) -> None:
    app, _ = programs
    with serving(app.create(model, app.Limits(steps=4))) as http:
        name = http.post("/photos", content=photo()).json()["photo"]
        *progress, found = lines(http.post(f"/photos/{name}/basis", json={"t": 0.6, "k": 2}))
        picture = http.post(f"/bases/{found['basis']}/edit", json={"direction": 1, "distance": 0.5}).content
        assert http.get("/health").json() == {"open": 0}
    prepared = latentjac.prepare_image(Image.open(io.BytesIO(photo())), model.codec.size).image
    point = latentjac.invert(model, prepared, 4).at(t=0.6)
    basis = latentjac.local_basis(model, point, 2, tol=1e-2)
    assert found["s"] == basis.s.tolist()
    assert {step["progress"]["what"] for step in progress} == {"inversion", "the way back", "svd"}
    expected = latentjac.edit(model, point, basis.v[1], 0.5).images[0]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture))), np.asarray(expected))


def test_what_is_too_much_or_no_photo_is_refused(
    programs: tuple[ModuleType, ModuleType], model: latentjac.Model
) -> None:
    app, _ = programs
    with serving(app.create(model, app.Limits(nbytes=5000, pixels=100, steps=3))) as http:
        for content, status, message in (
            (bytes(5001), 413, "5000 bytes"),
            (photo(size=11), 422, "100 pixels, got 11 x 11"),
            (b"no picture", 422, "JPEG, PNG or WebP"),
            (photo()[:60], 422, ""),
        ):
            answer = http.post("/photos", content=content)
            assert (answer.status_code, message in answer.text) == (status, True), answer.text
        assert http.post("/photos/nobody/basis", json={}).status_code == 404
        name = http.post("/photos", content=photo()).json()["photo"]
        assert http.post(f"/photos/{name}/basis", json={"k": 1000}).status_code == 422
        for key in ("t", "k"):
            kind = {"Content-Type": "application/json"}
            answer = http.post(f"/photos/{name}/basis", content=f'{{"{key}": NaN}}', headers=kind)
            assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", key])
        assert "layer" in lines(http.post(f"/photos/{name}/basis", json={"layer": "nowhere"}))[-1]["error"]


def test_time_number_and_memory_of_work_have_limits(
    programs: tuple[ModuleType, ModuleType], model: latentjac.Model
) -> None:
    app, _ = programs
    began, go_on = threading.Event(), threading.Event()

    def waits(network: Any, args: Any) -> None:
        began.set()
        assert go_on.wait(20)

    with serving(app.create(model, app.Limits(seconds=0.5, workers=1, waiting=0, steps=3, kept=1))) as http:
        name = http.post("/photos", content=photo()).json()["photo"]
        handle = model.network.register_forward_pre_hook(waits)
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(http.post(f"/photos/{name}/basis", json={})))
        asking.start()
        try:
            assert began.wait(20)
            busy = http.post("/photos", content=photo())
            assert (busy.status_code, busy.headers["Retry-After"]) == (503, "2")
            time.sleep(0.5)
        finally:
            handle.remove()
            go_on.set()
            asking.join(20)
        assert lines(answers[0])[-1] == {"error": "limits: max_seconds=0.5 are over", "status": 504}
        http.post("/photos", content=photo(1))
        assert http.post(f"/photos/{name}/basis", json={}).status_code == 404  # only one is kept


def test_who_goes_away_ends_the_work(programs: tuple[ModuleType, ModuleType], model: latentjac.Model) -> None:
    app, _ = programs
    with serving(app.create(model, app.Limits(steps=999))) as http:
        name = http.post("/photos", content=photo()).json()["photo"]
        with http.stream("POST", f"/photos/{name}/basis", json={}) as answer:
            next(answer.iter_lines())
        end = time.monotonic() + 20
        while http.get("/health").json()["open"]:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert time.monotonic() < end - 10  # far less than 999 steps take


def test_who_goes_away_ends_an_edit(programs: tuple[ModuleType, ModuleType], model: latentjac.Model) -> None:
    """An answer that does not stream finds out of itself that nobody waits for it."""
    app, _ = programs
    evaluations: list[float] = []

    def slow(network: Any, args: Any) -> None:
        evaluations.append(time.monotonic())
        time.sleep(0.1)

    with serving(app.create(model, app.Limits(steps=100))) as http:
        name = http.post("/photos", content=photo()).json()["photo"]
        basis = lines(http.post(f"/photos/{name}/basis", json={"k": 1}))[-1]["basis"]
        handle = model.network.register_forward_pre_hook(slow)
        try:
            with pytest.raises(httpx.ReadTimeout):
                http.post(f"/bases/{basis}/edit", json={"distance": 1.0}, timeout=0.5)
            end = time.monotonic() + 20
            while http.get("/health").json()["open"]:
                assert time.monotonic() < end
                time.sleep(0.05)
        finally:
            handle.remove()
    assert 0 < len(evaluations) < 40  # of more than 60


def test_many_clients_get_their_own_results(programs: tuple[ModuleType, ModuleType], model: latentjac.Model) -> None:
    app, load = programs
    with serving(app.create(model, app.Limits(steps=3, waiting=4))) as http:
        report = asyncio.run(load.load(str(http.base_url), clients=8, rounds=2, seconds=60)).to_dict()
        assert http.get("/health").json() == {"open": 0}
    assert report["wrong"] == 0
    counts = {kind: entry["requests"] for kind, entry in report["kinds"].items()}
    assert counts == {"photo": 16, "basis": 16, "edit": 32}
