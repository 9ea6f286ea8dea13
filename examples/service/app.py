"""A service: photos go in, bases and pictures of a slider come out.

    pip install "latentjac[service]"
    uvicorn app:faces --factory

    POST /photos                the bytes of a picture       {"photo": id}
    POST /photos/ID/basis       {"t": 0.6, "k": 3}           lines of JSON: progress, at last {"basis": id, "s": [...]}
    POST /bases/ID/edit         {"direction": 0, "distance": 2.5}        a PNG
    GET  /health                {"open": jobs}

One model serves all requests, in a few threads of its own. Requests are limited in bytes, pixels, seconds, memory and
number; when a client disconnects, its work ends. Ids are random, so that only who uploaded a photo can ask for it.
Accounts, TLS and storage are left to the server in front.
"""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image
from pydantic import BaseModel, Field

import latentjac
from latentjac.stopping import Progress

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Limits:
    """What a request may take.

    Attributes:
        nbytes: Of an upload.
        pixels: Of a picture, before it is decoded.
        seconds: Of one piece of work, once it has begun.
        memory: Bytes; see :func:`latentjac.limits`.
        workers: Pieces of work at once.
        waiting: Further ones that may wait.
        kept: Photos, and as many bases; the oldest go.
        steps: Of an inversion.
    """

    nbytes: int = 10_000_000
    pixels: int = 40_000_000
    seconds: float = 60.0
    memory: int | None = 2**31
    workers: int = 2
    waiting: int = 32
    kept: int = 100
    steps: int = 12


@dataclass(frozen=True)
class Found:
    """Directions, and where they belong."""

    point: latentjac.Point
    basis: latentjac.LocalBasis


class BasisOptions(BaseModel):
    """What can be said of a basis."""

    t: float = Field(0.6, gt=0, lt=1)
    k: int = Field(3, ge=1, le=16)
    layer: str = Field("mid", max_length=100)


class EditOptions(BaseModel):
    """Where the slider stands."""

    direction: int = Field(0, ge=0)
    distance: float = Field(0.0, ge=-50, le=50)


class Shelf(Generic[Kept]):
    """The last things of a kind, by ids that nobody guesses. Only the thread of the loop comes here."""

    def __init__(self, kind: str, most: int) -> None:
        self._kind, self._most = kind, most
        self._things: OrderedDict[str, Kept] = OrderedDict()

    def put(self, thing: Kept) -> str:
        """Keep it; its id."""
        name = secrets.token_urlsafe(16)
        self._things[name] = thing
        while len(self._things) > self._most:
            self._things.popitem(last=False)
        return name

    def get(self, name: str) -> Kept:
        """The thing of an id; 404 where there is none."""
        if name not in self._things:
            raise HTTPException(404, f"there is no such {self._kind}, or it is gone")
        self._things.move_to_end(name)
        return self._things[name]


class Desk:
    """Takes work, as much as fits, to threads of its own."""

    def __init__(self, limits: Limits) -> None:
        self.open = 0
        self._limits, self._pool = limits, ThreadPoolExecutor(limits.workers, "latentjac")

    def begin(
        self, work: Callable[[], Any], heard: Callable[[Progress], None] | None = None
    ) -> tuple[asyncio.Future[Any], threading.Event]:
        """The result to come, and what ends the work; 503 where too much waits."""
        if self.open >= self._limits.workers + self._limits.waiting:
            raise HTTPException(503, "busy", headers={"Retry-After": "2"})
        loop, stop = asyncio.get_running_loop(), threading.Event()

        def limited() -> Any:
            with latentjac.limits(
                max_seconds=self._limits.seconds, max_memory=self._limits.memory, stop=stop.is_set, progress=heard
            ):
                return work()

        def ended(future: Future[Any]) -> None:
            loop.call_soon_threadsafe(self._ended)

        self.open += 1
        future = self._pool.submit(limited)
        future.add_done_callback(ended)
        return asyncio.wrap_future(future), stop

    async def run(self, work: Callable[[], Any], request: Request) -> Any:
        """The result, once it is there; the work ends when nobody waits for it any more."""
        result, stop = self.begin(work)
        gone = asyncio.ensure_future(disconnected(request))
        try:
            await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise HTTPException(499, "the client has gone")
            return result.result()
        except HTTPException:
            raise
        except Exception as error:
            raise HTTPException(*told(error)) from error
        finally:
            stop.set()
            result.cancel()
            gone.cancel()

    def lines(self, work: Callable[[], Kept], kept: Callable[[Kept], dict[str, Any]]) -> AsyncIterator[bytes]:
        """Lines of JSON: progress, then what is told of the result when it has been kept, or the error."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def heard(step: Progress) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, {"progress": asdict(step)})

        result, stop = self.begin(work, heard)
        result.add_done_callback(lambda _: queue.put_nowait(None))

        async def stream() -> AsyncIterator[bytes]:
            try:
                while (line := await queue.get()) is not None:
                    yield json.dumps(line).encode() + b"\n"
                yield json.dumps(kept(await result)).encode() + b"\n"
            except Exception as error:
                status, message = told(error)
                yield json.dumps({"error": message, "status": status}).encode() + b"\n"
            finally:
                stop.set()

        return stream()

    def close(self) -> None:
        """Wait for what runs; drop what waits."""
        self._pool.shutdown(cancel_futures=True)

    def _ended(self) -> None:
        self.open -= 1


def told(error: Exception) -> tuple[int, str]:
    """Status and message of an error; what is no fault of the request says nothing of the inside."""
    if isinstance(error, latentjac.StoppedError):
        return 504, str(error)
    if isinstance(error, MemoryError):
        return 507, "not enough memory for this request"
    return (422, str(error)) if isinstance(error, (ValueError, TypeError)) else (500, "failed")


async def body_of(request: Request, most: int) -> bytes:
    """The body, read no further than the limit."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, f"a photo may have {most} bytes")
        parts.append(part)
    return b"".join(parts)


async def disconnected(request: Request) -> None:
    """Returns when the client of a request whose body was read is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def opened(data: bytes, most: int) -> Image.Image:
    """A picture that is not decoded yet, once its size is known to be small enough."""
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP"))
    except Exception as error:  # of any kind, by what is no picture
        raise ValueError("a photo must be a JPEG, PNG or WebP") from error
    if picture.width * picture.height > most:
        raise ValueError(f"a photo may have {most} pixels, got {picture.width} x {picture.height}")
    return picture


def create(model: latentjac.Model, limits: Limits = Limits()) -> FastAPI:
    """The service of a model."""
    desk = Desk(limits)
    photos: Shelf[Image.Image] = Shelf("photo", limits.kept)
    bases: Shelf[Found] = Shelf("basis", limits.kept)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(title="latentjac", lifespan=lifespan)

    @app.exception_handler(RequestValidationError)
    async def refused(request: Request, error: RequestValidationError) -> JSONResponse:
        # Without what was sent, which may be what JSON has no text for, such as NaN.
        found = [{"loc": entry["loc"], "msg": entry["msg"]} for entry in error.errors()]
        return JSONResponse({"detail": found}, 422)

    @app.post("/photos", status_code=201)
    async def upload(request: Request) -> dict[str, str]:
        data = await body_of(request, limits.nbytes)

        def work() -> Image.Image:
            return latentjac.prepare_image(opened(data, limits.pixels), model.codec.size).image

        return {"photo": photos.put(await desk.run(work, request))}

    @app.post("/photos/{photo}/basis")
    async def basis(photo: str, options: BasisOptions) -> StreamingResponse:
        picture = photos.get(photo)

        def work() -> Found:
            point = latentjac.invert(model, picture, limits.steps).at(t=options.t)
            return Found(point, latentjac.local_basis(model, point, options.k, options.layer, tol=1e-2))

        def kept(found: Found) -> dict[str, Any]:
            return {"basis": bases.put(found), "s": found.basis.s.tolist(), "status": found.basis.status.value}

        return StreamingResponse(desk.lines(work, kept), media_type="application/x-ndjson")

    @app.post("/bases/{basis}/edit")
    async def edit(basis: str, options: EditOptions, request: Request) -> Response:
        found = bases.get(basis)
        if options.direction >= found.basis.k:
            raise HTTPException(422, f"direction must be less than {found.basis.k}, got {options.direction}")

        def work() -> bytes:
            direction = found.basis.v[options.direction]
            (image,) = latentjac.edit(model, found.point, direction, options.distance).images
            file = io.BytesIO()
            image.save(file, format="PNG")
            return file.getvalue()

        return Response(await desk.run(work, request), media_type="image/png")

    @app.get("/health")
    async def health() -> dict[str, int]:
        return {"open": desk.open}

    return app


def faces() -> FastAPI:
    """The service of the built-in model of faces."""
    return create(latentjac.load("faces"))
