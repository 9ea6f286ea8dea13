"""Named tensors by rows: selected, repeated, split, moved, compared, and taken apart and put together."""

from __future__ import annotations

import pickle

import pytest
import torch
from networks import rand

import latentjac
from latentjac import Conditioning
from latentjac.models import ClassifierFreeGuidance

SHARED, OWN = rand(1, 4, 3), rand(3, 2, seed=2)
LABELS = torch.tensor([1, 5, 7])


@pytest.fixture
def guided() -> Conditioning:
    negative = Conditioning({"text": 2 * SHARED, "pooled": -OWN, "label": LABELS + 1})
    scale = torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64)
    return Conditioning({"text": SHARED, "pooled": OWN, "label": LABELS}, ClassifierFreeGuidance(negative, scale))


def test_it_is_a_mapping(guided) -> None:
    assert list(guided) == ["text", "pooled", "label"]
    assert len(guided) == guided.num_rows == 3
    assert torch.equal(guided["pooled"], OWN)
    assert "image" not in guided
    with pytest.raises(KeyError, match=r"conditioning must hold 'image', got \['text', 'pooled', 'label'\]"):
        guided["image"]
    assert not Conditioning()
    assert Conditioning().num_rows == 1


def test_rows_for_all_stay_and_others_are_selected(guided) -> None:
    one = guided.rows(slice(1, 2))
    assert torch.equal(one["text"], SHARED)
    assert torch.equal(one["pooled"], OWN[1:2])
    assert one["label"].tolist() == [5]
    assert torch.equal(one.guidance.negative["pooled"], -OWN[1:2])
    assert one.guidance.scale.tolist() == [3.0]


def test_expanding_gives_every_sample_a_row(guided) -> None:
    wide = guided.expand(3)
    assert {tuple(tensor.shape) for tensor in wide.flat().values()} == {(3, 4, 3), (3, 2), (3,)}
    assert torch.equal(wide["text"][2], SHARED[0])
    with pytest.raises(ValueError, match="expand: count must be 3, the number of rows, got 2"):
        guided.expand(2)


def test_parts_are_those_of_the_samples(guided) -> None:
    parts = list(guided.split(2, 3))
    assert [part["label"].tolist() for part in parts] == [[1, 5], [7]]
    assert all(torch.equal(part["text"], SHARED) for part in parts)
    assert [len(part) for part in Conditioning().split(16, 40)] == [0, 0, 0]


def test_only_floating_tensors_change_their_type(guided) -> None:
    moved = guided.to("cpu", torch.float32)
    types = {name: tensor.dtype for name, tensor in moved.flat().items()}
    assert types["text"] == types["guidance.negative.text"] == types["guidance.scale"] == torch.float32
    assert types["label"] == types["guidance.negative.label"] == torch.int64


def test_equality(guided) -> None:
    assert guided == guided.rows(slice(None))
    assert guided != guided.unguided()
    assert guided != guided.to(dtype=torch.float32)
    assert guided.unguided() != Conditioning({"text": SHARED, "pooled": OWN, "label": LABELS + 1})
    assert Conditioning() == Conditioning({})
    assert Conditioning() != {}


def test_taken_apart_and_put_together(guided) -> None:
    for conditioning in (guided, guided.unguided(), Conditioning()):
        assert Conditioning.from_flat(conditioning.flat()) == conditioning
        assert pickle.loads(pickle.dumps(conditioning)) == conditioning
    flat = guided.flat()
    del flat["guidance.scale"]
    with pytest.raises(ValueError, match=r"tensors must have guidance.scale where there is a negative"):
        Conditioning.from_flat(flat)


def test_it_is_frozen_and_shows_its_shapes(guided) -> None:
    with pytest.raises(AttributeError, match="frozen"):
        guided.guidance = None
    with pytest.raises(TypeError):
        guided["text"] = OWN
    assert repr(guided.unguided()) == "Conditioning(text [1, 4, 3], pooled [3, 2], label [3])"
    assert "guidance 2, 3, 4 away from Conditioning(text" in repr(guided)
    assert repr(Conditioning()) == "Conditioning()"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tensors must have 1 row or as many as the others, got \[2, 3\]"):
        Conditioning({"a": rand(2, 1), "b": rand(3, 1)})
    with pytest.raises(ValueError, match=r"tensors must be named by identifiers, got 'a\.b'"):
        Conditioning({"a.b": OWN})
    with pytest.raises(ValueError, match=r"same names, got \['a'\] and \['b'\]"):
        Conditioning({"a": OWN}, ClassifierFreeGuidance(Conditioning({"b": OWN}), 2.0))
    with pytest.raises(ValueError, match="tensors must be there with guidance"):
        Conditioning({}, ClassifierFreeGuidance(Conditioning(), 2.0))
    with pytest.raises(ValueError, match="negative must have no guidance of its own"):
        ClassifierFreeGuidance(Conditioning({"a": OWN}, ClassifierFreeGuidance(Conditioning({"a": OWN}), 2.0)), 3.0)


def test_every_sample_has_its_scale(tmp_path) -> None:
    from pipelines import build_stable_diffusion

    model = latentjac.load(build_stable_diffusion(tmp_path), dtype=torch.float64)
    x, t = rand(2, 4, 8, 8), torch.tensor(300)
    plain, away = model.conditioning("a"), model.conditioning("b")
    both = model.eps(
        x, t, Conditioning(dict(plain), ClassifierFreeGuidance(away, torch.tensor([1.5, 4.0], dtype=torch.float64)))
    )
    for i, scale in enumerate((1.5, 4.0)):
        expected = scale * model.eps(x[i : i + 1], t, plain) + (1 - scale) * model.eps(x[i : i + 1], t, away)
        torch.testing.assert_close(both[i : i + 1], expected)
