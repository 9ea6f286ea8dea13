"""Files of bases that hold something else: refused by one kind of error that names the fault."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import save
from solvers.saved_bases import BASIS, BATCH, Facts, Tensors, parts, same, written

import latentjac
from latentjac.files import FileError
from latentjac.tensor_files import digest


def changed(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors, Facts], None]:
    def apply(tensors: Tensors, facts: Facts) -> None:
        tensors[name] = change(tensors[name])

    return apply


def entry(name: str, index: int, value: float) -> Callable[[Tensors, Facts], None]:
    def put(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1)[index] = value
        return tensor

    return changed(name, put)


def fact(name: str, value: object) -> Callable[[Tensors, Facts], None]:
    return lambda tensors, facts: facts.update({name: value})


def noted(name: str, value: object) -> Callable[[Tensors, Facts], None]:
    return lambda tensors, facts: facts["metadata"].update({name: value})


NAN, INF = float("nan"), float("inf")
CONTENT: dict[str, tuple[Callable[[Tensors, Facts], Any], str]] = {
    "s nan": (entry("s", 1, NAN), "s must be finite"),
    "s inf": (entry("s", 0, INF), "s must be finite"),
    "s negative": (entry("s", 2, -1e-9), "s must be descending, from 0"),
    "s unsorted": (changed("s", lambda s: s.flip(0)), "s must be descending"),
    "s shape": (changed("s", lambda s: s[:, None, None]), r"s must have shape \[k\] or \[B, k\]"),
    "s scalar": (changed("s", lambda s: s[0]), "s must have shape"),
    "s empty": (changed("s", lambda s: s[:0]), "s must have shape"),
    "s longer": (changed("s", lambda s: torch.cat([s, s])), "residuals must have the shape of s"),
    "s dtype": (changed("s", lambda s: s.float()), "one floating type"),
    "s gone": (lambda tensors, facts: tensors.pop("s"), "tensors must be"),
    "v bool": (changed("v", lambda v: v > 0), "one floating type"),
    "v int": (changed("v", lambda v: v.long()), "one floating type"),
    "v half": (changed("v", lambda v: v.half()), "one floating type"),
    "all int": (
        lambda tensors, facts: tensors.update({n: tensors[n].long() for n in ("s", "v", "u", "residuals")}),
        "one floating type",
    ),
    "v nan": (entry("v", 5, NAN), "v must be finite"),
    "v long": (changed("v", lambda v: 7 * v), "rows of v must be orthonormal to 1e-05"),
    "v long by little": (changed("v", lambda v: 1.0001 * v), "rows of v must be orthonormal"),
    "v one long": (changed("v", lambda v: torch.cat([v[:2], 2 * v[2:]])), "rows of v must be orthonormal"),
    "v twice": (changed("v", lambda v: v[[0, 0, 2]]), "rows of v must be orthonormal"),
    "v zero": (changed("v", lambda v: 0 * v), "rows of v must be orthonormal"),
    "v huge": (changed("v", lambda v: v + 1e300), "rows of v must be orthonormal"),
    "v rows": (changed("v", lambda v: v[:2]), r"v must hold \[3\] rows"),
    "v flat": (changed("v", lambda v: v[:, 0, 0]), r"v must hold \[3\] rows that can be orthogonal"),
    "v narrow": (changed("v", lambda v: v[:, 0, :2]), "that can be orthogonal"),
    "v gone": (lambda tensors, facts: tensors.pop("v"), "tensors must be"),
    "u nan": (entry("u", 0, NAN), "u must be finite"),
    "u long": (changed("u", lambda u: u + 0.1), "rows of u must be orthonormal"),
    "u zero where s is not": (changed("u", lambda u: torch.cat([u[:2], 0 * u[2:]])), "rows of u must be orthonormal"),
    "u rows": (changed("u", lambda u: u.repeat(2, 1)), r"u must hold \[3\] rows"),
    "u one dimension": (changed("u", lambda u: u.reshape(-1)), r"u must hold \[3\] rows"),
    "residuals nan": (entry("residuals", 0, NAN), "residuals must be numbers from 0"),
    "residuals negative": (entry("residuals", 0, -1.0), "residuals must be numbers from 0"),
    "residuals shape": (changed("residuals", lambda r: r[:2]), "residuals must have the shape of s"),
    "certificate dtype": (changed("certificate.gap", lambda g: g.float()), "certificate.gap must be torch.float64"),
    "certificate shape": (changed("certificate.angle", lambda a: a[None]), r"certificate.angle .* of shape \[\]"),
    "certificate nan": (entry("certificate.s_error", 0, NAN), "certificate.s_error must be numbers from 0"),
    "certificate negative": (entry("certificate.angle", 0, -1.0), "certificate.angle must be numbers from 0"),
    "certificate gone": (lambda tensors, facts: tensors.pop("certificate.gap"), "with or without a certificate"),
    "more tensors": (lambda tensors, facts: tensors.update(w=torch.ones(2)), "tensors must be"),
    "status unknown": (fact("status", "fine"), "status must be one of"),
    "status null": (fact("status", None), "status must be one of"),
    "status list": (fact("status", []), "status must be one of"),
    "point_status long": (fact("point_status", ["converged"] * 2), "point_status must be one a point"),
    "point_status text": (fact("point_status", "converged"), "point_status must be a list"),
    "point_status object": (fact("point_status", [{}]), "point_status must be a list"),
    "jvps text": (fact("jvps", "7"), "jvps must be an int from 0"),
    "jvps bool": (fact("jvps", True), "jvps must be an int from 0"),
    "jvps huge": (fact("jvps", 10**400), "jvps must be an int from 0"),
    "vjps negative": (fact("vjps", -1), "vjps must be an int from 0"),
    "seconds text": (fact("seconds", "NaN"), "seconds must be a number from 0"),
    "seconds huge": (fact("seconds", 10**400), "seconds must be a number from 0"),
    "facts that replace s": (fact("s", [1.0]), "facts must be"),
    "facts that replace the class": (fact("certificate", {}), "facts must be"),
    "fact gone": (lambda tensors, facts: facts.pop("vjps"), "facts must be"),
    "metadata null": (fact("metadata", None), "metadata must be a JSON object"),
    "metadata list": (fact("metadata", []), "metadata must be a JSON object"),
    "layer int": (noted("layer", 3), "metadata: layer must be a text"),
    "model null": (noted("model", None), "metadata: model must be a text"),
    "t text": (noted("t", "0.5"), "metadata: t must be a number in"),
    "t out": (noted("t", 1.5), "metadata: t must be a number in"),
    "t gone": (lambda tensors, facts: facts["metadata"].pop("t"), "must have t beside num_inference_steps"),
    "steps zero": (noted("num_inference_steps", 0), "num_inference_steps must be an int from 1"),
    "steps fraction": (noted("num_inference_steps", 2.5), "num_inference_steps must be an int from 1"),
    "tol object": (noted("tol", {}), "metadata: tol must be a number"),
    "identity list": (noted("model_identity", ["a"]), "model_identity must be a text"),
}


@pytest.mark.parametrize("name", CONTENT)
def test_content_that_is_no_basis(tmp_path, name: str) -> None:
    damage, message = CONTENT[name]
    tensors, facts = parts()
    damage(tensors, facts)
    path = tmp_path / "b.safetensors"
    path.write_bytes(written(tensors, json.dumps(facts)))
    with pytest.raises(FileError, match=message) as caught:
        latentjac.LocalBasis.load(path)
    assert "b.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_the_undamaged_parts_load(tmp_path) -> None:
    """Or the table above would prove nothing."""
    path = tmp_path / "b.safetensors"
    for basis in (BASIS, BATCH):
        tensors, facts = parts(basis)
        path.write_bytes(written(tensors, json.dumps(facts)))
        assert same(latentjac.LocalBasis.load(path), basis)


@pytest.mark.parametrize("name", ["s unsorted", "v long", "u nan", "residuals negative", "metadata null", "jvps text"])
def test_a_basis_that_would_not_load_is_not_saved(tmp_path, name: str) -> None:
    tensors, facts = parts()
    CONTENT[name][0](tensors, facts)
    fields = {**{n: tensors[n] for n in ("s", "v", "u", "residuals")}, "jvps": facts["jvps"]}
    basis = replace(BASIS, **fields, metadata=facts["metadata"])
    with pytest.raises(ValueError, match="save: basis must be one that can be loaded again"):
        basis.save(tmp_path / "b.safetensors")
    assert not os.listdir(tmp_path)


TEXTS = {
    "no JSON": ("{", "Expecting property name"),
    "empty": ("", "Expecting value"),
    "null": ("null", "facts must be a JSON object, got NoneType"),
    "list": ("[]", "facts must be a JSON object, got list"),
    "text": ('"x"', "facts must be a JSON object, got str"),
    "NaN": ('{"seconds": NaN}', "finite numbers, got nan at seconds"),
    "infinity": ('{"seconds": -Infinity}', "finite numbers, got -inf at seconds"),
    "large": ('{"seconds": 1e999}', "finite numbers, got inf at seconds"),
    "twice": ('{"jvps": 1, "jvps": 2}', "'jvps' twice"),
    "nested": ('{"metadata": ' + "[" * 50_000 + "]" * 50_000 + "}", "at most 64 deep"),
    "objects": ('{"a":' * 50_000 + "1" + "}" * 50_000, "at most 64 deep"),
    "half a pair": ('{"metadata": "\\ud800"}', "surrogates"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_facts_that_are_no_strict_json(tmp_path, name: str) -> None:
    text, message = TEXTS[name]
    path = tmp_path / "b.safetensors"
    path.write_bytes(written(parts()[0], text))
    with pytest.raises(FileError, match=message):
        latentjac.LocalBasis.load(path)


@pytest.mark.parametrize("schema", ["-5", "0", "4", "99", "2.0", " 3", "3 ", "+3", "x", "", "³", "1" * 5000])
def test_schemas_that_are_not_known(tmp_path, schema: str) -> None:
    tensors, facts = parts()
    path = tmp_path / "b.safetensors"
    path.write_bytes(written(tensors, json.dumps(facts), schema))
    with pytest.raises(FileError, match="schema must be one of"):
        latentjac.LocalBasis.load(path)
    if schema == "4":
        with pytest.raises(FileError, match="a newer latentjac wrote it"):
            latentjac.LocalBasis.load(path)


def test_older_schemas(tmp_path) -> None:
    tensors, facts = parts()
    path = tmp_path / "b.safetensors"
    path.write_bytes(written(tensors, json.dumps(facts), "2"))
    assert same(latentjac.LocalBasis.load(path), BASIS)
    for name in [name for name in tensors if name.startswith("certificate.")]:
        del tensors[name]
    del facts["point_status"]
    path.write_bytes(written(tensors, json.dumps(facts), "1"))
    assert same(latentjac.LocalBasis.load(path), replace(BASIS, certificate=None, point_status=()))
    # Vectors of park2023 were not noted.
    tensors["u"][1] = tensors["u"][0]
    facts["metadata"]["method"] = "subspace"
    path.write_bytes(written(tensors, json.dumps(facts), "1"))
    assert latentjac.LocalBasis.load(path).k == 3
    path.write_bytes(written(tensors, json.dumps(facts), "1", sha256="0" * 64))
    with pytest.raises(FileError, match="metadata of schema 1 must be"):
        latentjac.LocalBasis.load(path)


def test_vectors_of_park2023_had_another_name(tmp_path) -> None:
    """As bases had it that were computed with compat="pullback"."""
    tensors, facts = parts()
    path = tmp_path / "b.safetensors"
    tensors["u"][1] = tensors["u"][0]
    for name in ("paper", "park2023"):
        facts["metadata"] |= {"vectors": name, "stop": name, "grid": "pullback"}
        path.write_bytes(written(tensors, json.dumps(facts)))
        assert latentjac.LocalBasis.load(path).metadata["grid"] == "pullback"
    facts["metadata"]["vectors"] = "ritz"
    path.write_bytes(written(tensors, json.dumps(facts)))
    with pytest.raises(FileError, match="rows of u must be orthonormal"):
        latentjac.LocalBasis.load(path)


def test_a_sum_finds_what_no_other_check_does(tmp_path) -> None:
    tensors, facts = parts()
    text = json.dumps(facts)
    whole = {"schema": "3", "latentjac": text, "sha256": digest(tensors, text)}
    tensors["v"].view(-1)[0] += 1e-9
    path = tmp_path / "b.safetensors"
    path.write_bytes(save(tensors, metadata=whole))
    with pytest.raises(FileError, match="SHA-256"):
        latentjac.LocalBasis.load(path)
