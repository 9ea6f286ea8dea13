"""The pages of docs/: their Python runs, their commands parse, their names, files and links are there."""

from __future__ import annotations

import functools
import inspect
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import yaml
from diffusers.pipelines.kandinsky.pipeline_kandinsky_prior import KandinskyPriorPipelineOutput
from families import SMALL
from family_rows.given import AWAY, OWN
from networks import build_scheduler, build_shallow_unet
from PIL import Image
from small_pipeline import Pretrained, by_chance

import latentjac
from latentjac.linearization.instruction import RULES
from latentjac.solvers import LinearOperator
from latentjac.studies import Settings

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
CARDS = [ROOT / "training" / "README.md", *sorted((ROOT / "latentjac" / "models" / "builtin").glob("*/README.md"))]


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return latentjac.load(build_shallow_unet(), build_scheduler())


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Callable[[str], latentjac.Model]:
    """Small models of the families that pages load, by what follows "owner/"; each is made when it is asked for."""
    load = latentjac.load

    @functools.cache
    def made(name: str) -> latentjac.Model:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(latentjac, "load", load)
            row = SMALL[name]
            return row.load(row.source(tmp_path_factory.mktemp(name)))

    return lambda source: made(getattr(source, "source", source).removeprefix("owner/"))


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def points(model, image) -> dict[str, object]:
    """Two points, and a basis at one of them."""
    pictures = image, image.rotate(90)
    point, other_point = (latentjac.invert(model, picture, num_inference_steps=5).at(t=0.6) for picture in pictures)
    other = latentjac.local_basis(model, other_point, k=8, tol=0.1)
    return {"point": point, "other_point": other_point, "other": other}


@pytest.fixture
def rules() -> Iterator[None]:
    """Rules that a page adds are gone after it."""
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)


def in_few_steps(function: Callable[..., object]) -> Callable[..., object]:
    """Whatever number of steps a page asks for, but for points, which have theirs."""

    def called(model: object, *given: object, **more: object) -> object:
        of_point = any(isinstance(one, latentjac.Point) for one in given)
        return function(model, *given, **(more if of_point else {**more, "num_inference_steps": 5}))

    return called


def basis_of(own: latentjac.Model, compute: Callable[..., object]) -> Callable[..., object]:
    """The basis of the tiny model; of families of the hub, which have tests of their own, directions by chance."""

    def found(*given: object, **more: object) -> object:
        asked = inspect.signature(compute).bind(*given, **more).arguments
        return compute(*given, **more) if asked["model"] is own else by_chance(**asked)

    return found


@pytest.fixture
def known(model, hub, image, points, rules, tmp_path, monkeypatch) -> dict[str, object]:
    """What pages take for known: a model, a photo, points, a function. The model is tiny, grids and studies short."""
    small = Settings(samples=2, levels=(0.9, 0.1), k=2, tol=0.1, steps=5)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(latentjac, "local_basis", basis_of(model, latentjac.local_basis))
    of_hub = lambda source: isinstance(source, Pretrained) or "owner" in source  # noqa: E731
    monkeypatch.setattr(latentjac, "load", lambda source, **given: hub(source) if of_hub(source) else model)
    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", Pretrained)
    for name in ("invert", "sample"):
        monkeypatch.setattr(latentjac, name, in_few_steps(getattr(latentjac, name)))
    monkeypatch.setattr("latentjac.studies.Settings", lambda **given: small)
    for name in ("photo.jpg", "mouth.png", "painting.jpg"):
        image.save(name)
    x, t = torch.randn(2, 1, 12, generator=torch.Generator().manual_seed(0))
    f = lambda x, t: torch.sin(t * x).cumsum(1)  # noqa: E731
    return {
        "latentjac": latentjac,
        **{"model": model, "image": image, **points},
        **{"f": f, "x": x, "t": t, "x2": 2 * x, "t2": 2 * t, "lin": latentjac.linearize(f, x, t)},
        "prior": lambda prompt: KandinskyPriorPipelineOutput(OWN, AWAY),
        **{"Sequence": Sequence, "LinearOperator": LinearOperator},
    }


@pytest.mark.filterwarnings("ignore:frechet_mean|svd. out of passes")
@pytest.mark.parametrize(
    "page",
    # Examples of families run one by one in test_families.py.
    [page for page in DOCS if blocks(page, "python") and page.stem != "families"],
    ids=lambda page: page.stem,
)
def test_python_of_a_page_runs(page: Path, known: dict[str, object]) -> None:
    """In order, as one program."""
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), known)


def commands(page: Path) -> list[str]:
    """Every ``latentjac`` command of a page that is written out, from fenced and indented blocks."""
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^(?:    |\$ )?(?:\S+/bin/)?(latentjac [a-z].*)$", text, re.MULTILINE)
    return [re.split(r"\s#|&&", line)[0] for line in lines if "..." not in line and "--help" not in line]


def test_commands_parse() -> None:
    typer = pytest.importorskip("typer")
    from latentjac.cli.app import app

    found = [command for page in PAGES for command in commands(page)]
    assert len(found) > 12
    for line in found:
        command, arguments = typer.main.get_command(app), shlex.split(line)[1:]
        context = command.make_context("latentjac", arguments.copy())
        while hasattr(command, "resolve_command"):
            name, command, arguments = command.resolve_command(context, arguments)
        command.make_context(name, arguments, parent=context)


def test_names_are_there() -> None:
    for page in [*PAGES, *CARDS]:
        for name in re.findall(r"`(latentjac(?:\.[A-Za-z]\w*)+)", page.read_text()):
            found: object = latentjac
            for part in name.split(".")[1:]:
                assert hasattr(found, part), f"{page.name}: {name}"
                found = getattr(found, part)


def test_files_are_there() -> None:
    for page in [*PAGES, *CARDS]:
        for path in re.findall(r"`((?:benchmarks|csrc|docs|latentjac|tests|training)/[\w./*-]*)`", page.read_text()):
            assert list(ROOT.glob(path.rstrip("/"))), f"{page.name}: {path}"


def anchors(page: Path) -> set[str]:
    """Those that a page's headings have where it is shown."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_somewhere() -> None:
    for page in [*PAGES, *CARDS]:
        for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
            if not target.startswith("http"):
                other = page.parent / target if target else page
                assert other.exists(), f"{page.name}: {target}"
                assert not anchor or anchor in anchors(other), f"{page.name}: {target}#{anchor}"


def toctree(page: Path) -> list[Path]:
    """Pages that a page has a place for, as they are named there."""
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    names = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    return [page.parent / name for name in names]


def test_every_page_has_one_place() -> None:
    notebooks = (ROOT / "docs" / "tutorial").glob("*.ipynb")
    pages = {page.with_suffix("") for page in (*DOCS, *notebooks)} - {ROOT / "docs" / "index"}
    places = [place for page in DOCS for place in toctree(page)]
    assert sorted(places) == sorted(pages)


def test_every_built_in_model_has_a_page() -> None:
    for card in CARDS[1:]:
        page = ROOT / "docs" / "models" / f"{card.parent.name}.md"
        assert page.read_text() == f"```{{include}} ../../{card.relative_to(ROOT)}\n```\n"


def test_issues_ask_for_what_is_installed() -> None:
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        body = yaml.safe_load(form.read_text()).get("body")
        assert body is None or any("`latentjac info`" in field["attributes"]["label"] for field in body), form.name
