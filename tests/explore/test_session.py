"""One visitor: from a photo to a saved slider, without a page."""

from __future__ import annotations

import json
import re
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import latentjac
from latentjac.editing import Geodesic, Guidance, HSpace, Linear, Mask, Method, word_direction
from latentjac.explore import Question, Session, Shared, export
from latentjac.explore.jobs import Job
from latentjac.explore.session import RANGES

pytestmark = pytest.mark.filterwarnings("ignore:invert. picture", "ignore:local_basis")


def done(job: Job) -> None:
    assert job.join(60)
    assert not job.error
    assert not job.stopped


def inverted(shared: Shared, photo: Path) -> Session:
    session = Session(shared)
    session.open(photo)
    done(session.invert())
    return session


@pytest.fixture
def found(shared: Shared, photo: Path) -> Session:
    session = inverted(shared, photo)
    done(session.find(Question(k=2, end=2.0)))
    return session


def test_a_photo_is_used_in_the_middle_or_in_a_box(shared: Shared, photo: Path) -> None:
    session = Session(shared)
    session.open(photo)
    assert session.photo is not None
    assert session.photo.box == (5, 0, 25, 20)
    session.crop((0, 4, 16, 20))
    done(session.invert())
    assert session.way is not None
    alone = latentjac.prepare_image(photo, 8, (0, 4, 16, 20)).image
    assert session.way.picture.tobytes() == alone.tobytes()


def test_the_way_is_that_of_invert(shared: Shared, photo: Path) -> None:
    session = inverted(shared, photo)
    assert session.way is not None
    path = latentjac.invert(shared.model, latentjac.prepare_image(photo, 8).image, 4)
    assert torch.equal(session.way.trajectory.samples, path.samples)
    assert len(session.way.levels) == len(path.samples)
    assert session.level == path.at(0.7).level


def test_lines_are_edits_of_the_photo(found: Session) -> None:
    assert found.way is not None
    assert found.found is not None
    basis, line = found.found.basis, found.lines[1]
    assert basis.k == len(found.lines) == 2
    alone = latentjac.edit(
        found.shared.model, found.found.walker.point, basis.v[1], list(line.distances), photo=found.way.picture
    )
    assert [a.tobytes() for a in alone.images] == [b.tobytes() for b in line.images]
    assert line.images[4].tobytes() == found.way.picture.tobytes()  # distance 0 is the photo
    assert line.distances == pytest.approx(np.linspace(-2, 2, 9))
    assert line.linear_up_to == alone.linearity[0].radius  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("guidance", Guidance(layer="mid")),
        ("linear", Linear(layer="mid")),
        ("geodesic", Geodesic(layer="mid")),
        ("h-space", HSpace(layer="mid")),
    ],
)
def test_lines_are_walked_by_the_method_that_was_chosen(shared: Shared, photo: Path, name: str, method: Method) -> None:
    session, end = inverted(shared, photo), RANGES[name] / 3
    done(session.find(Question(k=1, end=end, method=name)))
    assert session.found is not None
    assert session.way is not None
    basis, (line,) = session.found.basis, session.lines
    directions = basis.u if name == "h-space" else basis.v
    alone = latentjac.edit(
        shared.model, line.walker.point, directions[0], list(line.distances), method=method, photo=session.way.picture
    )
    assert [a.tobytes() for a in alone.images] == [b.tobytes() for b in line.images]
    assert line.images[0].tobytes() != line.images[-1].tobytes()
    done(session.farther(0))
    assert session.lines[0].end == pytest.approx(2 * end)
    done(session.keep(0))
    slider = latentjac.Slider.load(session.kept[0].path, shared.model)
    assert slider.method == method
    assert slider.direction.shape == directions[0].shape
    assert "index.html" in zipfile.ZipFile(export.page(session)).namelist()


def test_a_mask_under_h_space_says_what_leaks(shared: Shared, photo: Path) -> None:
    session, mask = inverted(shared, photo), torch.zeros(8, 8, dtype=torch.bool)
    mask[:4] = True
    done(session.find(Question(k=1, end=100.0, method="h-space", mask=mask)))
    assert session.found is not None
    assert session.found.basis.metadata["layer"] == "mid"
    assert session.lines[0].leakage is not None
    with pytest.raises(ValueError, match="layer must be a module"):
        session.find(Question(k=1, method="h-space", layer="x0"))


def test_a_line_goes_farther_and_keeps_what_it_has(found: Session) -> None:
    line = found.lines[0]
    done(found.farther(0))
    longer = found.lines[0]
    assert longer.distances == pytest.approx([-4, -3.5, -3, -2.5, *line.distances, 2.5, 3, 3.5, 4])
    assert longer.images[4:13] == line.images
    end = latentjac.edit(found.shared.model, line.walker.point, line.direction, [-4.0, 4.0], photo=line.walker.photo)
    for image, alone in zip((longer.images[0], longer.images[-1]), end.images, strict=True):
        assert np.abs(np.asarray(image, float) - np.asarray(alone, float)).max() <= 8  # steps fall otherwise


def test_several_are_composed(found: Session) -> None:
    done(found.compose({0: 1.5, 1: -1.0}))
    assert found.composed is not None
    image, marks = found.composed
    assert marks == {"direction 1": 1.5, "direction 2": -1.0}
    assert found.found is not None
    walker = found.found.walker
    directions = torch.stack([line.direction for line in found.lines])
    method = Guidance(layer="mid", diagnostics=False)
    alone = latentjac.edit(
        walker.model, walker.point, directions, [1.5, -1.0], compose=True, method=method, photo=walker.photo
    )
    assert image.tobytes() == alone.images[0].tobytes()
    with pytest.raises(ValueError, match="at least one slider"):
        found.compose({0: 0.0, 1: 0.0})


def test_a_mask_keeps_changes_inside(shared: Shared, photo: Path) -> None:
    session = inverted(shared, photo)
    painted = Image.new("L", (40, 40))
    painted.paste(255, (0, 0, 20, 40))
    mask = session.mask_of(painted)
    assert mask is not None
    assert mask.shape == (8, 8)
    assert mask[:, :4].all()
    assert not mask[:, 4:].any()
    done(session.find(Question(k=1, end=1.0, mask=mask)))
    assert session.found is not None
    assert session.found.basis.metadata["layer"] == "x0"
    assert not session.found.basis.u[:, :, ~mask].any()
    leakage = session.lines[0].leakage
    assert leakage is not None
    assert np.isnan(leakage[4])
    assert all(value > 0 for i, value in enumerate(leakage) if i != 4)
    assert session.mask_of(Image.new("L", (40, 40))) is None
    with pytest.raises(ValueError, match="leave a part"):
        session.mask_of(Image.new("L", (40, 40), 255))


def test_a_mask_comes_back_as_it_was_painted(shared: Shared) -> None:
    pytest.importorskip("gradio")
    from latentjac.explore import page, pieces

    session, mask = Session(shared), torch.zeros(8, 8, dtype=torch.bool)
    mask[2:5, 3:] = True
    layer = pieces.painted(mask, (384, 384))
    again = session.mask_of(page._painted({"background": None, "layers": [layer], "composite": None}))
    assert again is not None
    assert torch.equal(again, mask)
    for nothing in (None, {"layers": []}, {"layers": None}):
        assert session.mask_of(page._painted(nothing)) is None


def test_sliders_stand_at_0_at_first(found: Session) -> None:
    from latentjac.explore import pieces

    line = found.lines[0]
    assert line.distances[4] == 0
    slider = re.search('<input type="range"[^>]*>', pieces.line(line, line.walker.photo))
    assert slider is not None
    assert 'value="4"' in slider[0]


def test_a_direction_is_kept_and_applied_to_another_photo(found: Session, tmp_path: Path) -> None:
    done(found.keep(0))
    (kept,) = found.kept
    slider = latentjac.Slider.load(kept.path, found.shared.model)
    torch.testing.assert_close(slider.direction, found.lines[0].direction)
    other = tmp_path / "other.png"
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(other)
    found.open(other)
    assert found.kept == (kept,)
    assert found.lines == ()
    done(found.invert())
    done(found.apply(kept.path, kept.title))
    (line,) = found.lines
    assert line.marks == (-1.0, -0.5, 0.0, 0.5, 1.0)
    assert found.way is not None
    assert line.images[2].tobytes() == found.way.picture.tobytes()
    change = np.asarray(line.images[4], float) / 255 - np.asarray(line.images[2], float) / 255
    assert np.sqrt((change**2).mean()) == pytest.approx(kept.change, rel=0.2)  # clipped and of eight bits
    with pytest.raises(ValueError, match="from -1 to 1"):
        line.walker.longer(line)


def test_what_is_taken_along(found: Session) -> None:
    done(found.compose({0: 1.0}))
    done(found.keep(1))
    with zipfile.ZipFile(export.page(found)) as archive:
        names = set(archive.namelist())
        page = archive.read("index.html").decode()
        record = json.loads(archive.read("explore.json"))
    assert {"index.html", "sheet.png", "photo.png", "composed.png", "basis.safetensors"} <= names
    assert any(name.startswith("sliders/") for name in names)
    assert page.count('class="lj-strip"') == 2
    assert "http" not in page.replace("http://www.w3.org", "")
    assert record["basis"]["singular_values"] == found.found.basis.s.tolist()  # type: ignore[union-attr]
    with Image.open(export.gif(found, 0)) as animation:
        assert animation.n_frames == 16  # nine there, seven back
    with Image.open(export.sheet(found)) as sheet:
        assert sheet.width > 9 * 64


def test_what_cannot_be_asked(shared: Shared, photo: Path, tmp_path: Path) -> None:
    session = Session(shared)
    for act in (session.invert, lambda: session.find(Question()), lambda: export.sheet(session)):
        with pytest.raises(ValueError, match=r"first\.$"):
            act()
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="picture") as caught:
        session.open(bad)
    assert str(tmp_path) not in str(caught.value)
    assert session.photo is None
    session.open(photo)
    with pytest.raises(ValueError, match="inside 30x20"):
        session.crop((0, 0, 31, 20))
    done(session.invert())
    for question, words in (
        (Question(k=0), "number of directions"),
        (Question(k=13), "number of directions"),
        (Question(end=0.0), "range"),
        (Question(method="other"), "method"),
        (Question(layer="nowhere"), "layer"),
        (Question(words="a smile"), "without text"),
    ):
        with pytest.raises(ValueError, match=words):
            session.find(question)
    with pytest.raises(ValueError, match="level"):
        session.choose(0)
    with pytest.raises(ValueError, match="no direction 3"):
        session.farther(2)
    with pytest.raises(ValueError, match=r"\.safetensors, got 'bad.jpg'"):
        session.apply(bad)


def test_a_new_photo_ends_what_computes(shared: Shared, photo: Path) -> None:
    session = inverted(shared, photo)
    with shared.turn:  # somebody else computes
        job = session.find(Question(k=1))
        with pytest.raises(ValueError, match="stop it"):
            session.invert()
        session.open(photo)
        assert job.join(10)
    assert job.stopped
    assert session.found is None
    assert session.lines == ()
    done(session.invert())


def test_results_of_a_job_that_was_left_are_dropped(shared: Shared, photo: Path) -> None:
    session = inverted(shared, photo)
    old = session.job
    session.open(photo)
    assert old is not None
    session._put(old, level=99)
    assert session.level == 0


def test_two_visitors_do_not_mix(shared: Shared, photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    Image.fromarray(np.random.default_rng(7).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(other)
    alone = [inverted(shared, path) for path in (photo, other)]
    sessions = [Session(shared), Session(shared)]

    def visit(session: Session, path: Path) -> None:
        session.open(path)
        done(session.invert())
        done(session.find(Question(k=1, end=1.0)))

    threads = [threading.Thread(target=visit, args=pair) for pair in zip(sessions, (photo, other), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for session, own in zip(sessions, alone, strict=True):
        done(own.find(Question(k=1, end=1.0)))
        assert session.lines[0].images[0].tobytes() == own.lines[0].images[0].tobytes()
        assert torch.equal(session.lines[0].direction, own.lines[0].direction)
    assert sessions[0].lines[0].images[4].tobytes() != sessions[1].lines[0].images[4].tobytes()


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Of a small model with text."""
    pytest.importorskip("transformers")
    from pipelines import build_stable_diffusion

    folder = tmp_path_factory.mktemp("text")
    return Shared(latentjac.load(build_stable_diffusion(folder)), steps=2, tol=0.1, folder=folder)


def test_words_are_those_of_the_directions(photo: Path, worded: Shared) -> None:
    session = Session(worded)
    session.open(photo)
    done(session.invert("a face"))
    session.choose(1)
    done(session.find(Question(k=1, end=1.0, words="a face with glasses")))
    assert session.found is not None
    assert session.way is not None
    assert session.way.prompt == "a face"
    walker, model = session.found.walker, session.shared.model
    seen = walker.point.with_prompt(model, "a face with glasses")
    alone = latentjac.local_basis(model, seen, 1, tol=0.1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(session.found.basis.v, alone.v)
    assert walker.method == Guidance(layer="mid", prompt="a face with glasses")
    plain = latentjac.local_basis(model, walker.point, 1, tol=0.1, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(plain.s, alone.s, rtol=1e-4)
    with pytest.raises(ValueError, match="left out with h-space"):
        session.find(Question(k=1, method="h-space", words="a face with glasses"))


def test_a_direction_between_two_texts(photo: Path, worded: Shared, shared: Shared) -> None:
    session = Session(worded)
    with pytest.raises(ValueError, match="Invert a photo first"):
        session.between("", "a smile", Question())
    session.open(photo)
    done(session.invert("a face"))
    session.choose(1)
    done(session.find(Question(k=1, end=1.0)))
    mask = torch.zeros(session.shared.model.sample_shape[1:], dtype=torch.bool)
    mask[4:] = True
    done(session.between("", " a smile ", Question(end=1.0, method="linear")))
    done(session.between("a sad mouth", "a smile", Question(end=1.0, method="linear", mask=mask, words="not these")))
    first, here, there = session.lines  # beside those that were found
    assert (first.title, here.title, here.note) == ("direction 1", "a smile", "from what the photo shows")
    assert there.note == "from a sad mouth"
    model, point = session.shared.model, here.walker.point
    for line, away, area in ((here, None, None), (there, "a sad mouth", Mask(mask))):
        direction = word_direction(model, point, "a smile", away, mask=area)
        assert line.walker.method == Linear(layer="mid" if area is None else "x0")
        alone = latentjac.edit(
            model, point, direction, list(line.distances), method=line.walker.method, mask=area, photo=line.walker.photo
        )
        assert [a.tobytes() for a in alone.images] == [b.tobytes() for b in line.images]
    for away, towards, method, words in (
        ("a face", " ", "linear", "where the direction is to lead"),
        ("a face", "a smile", "h-space", "move the noisy sample"),
    ):
        with pytest.raises(ValueError, match=words):
            session.between(away, towards, Question(method=method))
    silent = inverted(shared, photo)
    with pytest.raises(ValueError, match="models with text"):
        silent.between("", "a smile", Question())
