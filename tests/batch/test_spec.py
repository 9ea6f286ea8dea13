"""Specs are checked whole; an error names the key, what was expected and what came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from batch.instant import basis_of, items_of, small_model
from PIL import Image

import latentjac
from latentjac import batch
from latentjac.batch import fitting
from latentjac.batch.edit_spec import METHODS
from latentjac.batch.fitting import check_fits
from latentjac.batch.items import read_items
from latentjac.batch.spec import read_spec
from latentjac.batch.tasks import MEASURES
from latentjac.batch.yaml_files import from_yaml
from latentjac.strict_json import to_json

pytest.importorskip("yaml")
BASES = {"t": [0.7, 0.5], "k": 4}


def edits(**keys: Any) -> dict[str, Any]:
    return {"bases": {"t": 0.7, "k": 4}, "edits": [keys]}


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"itms": "photos"}, ValueError, r"keys must be among \[.*'items'.*\], got 'itms'; did you mean 'items'\?"),
    ({"items": None}, ValueError, "'items' must be a folder, a table or a list of picture files, got none"),
    ({"model": 3}, TypeError, "'model' must be a str, got int"),
    ({"dtype": "int8"}, ValueError, r"'dtype' must be None or one of \['float32'.*\], got 'int8'"),
    (
        {"invert": {"steps": 3}},
        ValueError,
        r"keys must be among \[.*'num_inference_steps'.*\], got 'invert.steps'; did you mean 'num_inf",
    ),
    ({"invert": {"num_inference_steps": 0}}, ValueError, "'invert.num_inference_steps' must be at least 1, got 0"),
    ({"invert": {"t": "high"}}, TypeError, "'invert.t' must be a number, got str"),
    ({"load": {"sise": 64}}, ValueError, r"got 'load.sise'; did you mean 'size'\?"),
    ({"load": {"size": "large"}}, TypeError, "'load.size' must be an int, got str"),
    ({"load": {"lora": ["a"]}}, TypeError, "'load.lora' must be a file, a folder or a mapping of such to scales"),
    ({"load": {"lora": "no.safetensors"}}, ValueError, "'load.lora' must be a safetensors file or a folder with one"),
    ({"invert": {"grid": "edm"}}, ValueError, "'invert.grid' must be one of .*'rho'.*, got 'edm'"),
    ({"invert": [1]}, TypeError, r"'invert' must be a mapping of \[.*\], got list"),
    ({"sample": {"solver": "ddim"}}, ValueError, "got 'sample.solver'"),
    ({"bases": {"k": 2}}, ValueError, "'bases.t' must be a fraction of T or a list of some, got none"),
    ({"bases": {"t": [0.5, 1.5]}}, ValueError, r"'bases.t' must be a number in \[0, 1\], got 1.5"),
    ({"bases": {"t": [0.5, 0.5]}}, ValueError, "'bases.t' must be different values"),
    ({"bases": {"t": []}}, ValueError, "'bases.t' must be a value or a list of some, got an empty list"),
    ({"bases": {"t": 0.5, "k": "8"}}, TypeError, "'bases.k' must be an int, got str"),
    ({"bases": {"t": 0.5, "tol": 0}}, ValueError, r"'bases.tol' must be a number in \(0, 1\), got 0"),
    ({"bases": {"t": 0.5, "seed": -1}}, ValueError, "'bases.seed' must be at least 0, got -1"),
    ({"bases": {"t": [i / 2000 for i in range(1001)]}}, ValueError, "'bases' must be at most 1000 an item"),
    ({"measures": ["effective_rank"]}, ValueError, "'bases' must be given with 'measures'"),
    ({"bases": BASES, "measures": ["rank"]}, ValueError, "'measures' must be one of .*, got 'rank'"),
    ({"bases": BASES, "measures": {"linearity": {"probes": 2}}}, ValueError, "got 'measures.linearity.probes'"),
    ({"bases": BASES, "edits": {"t": 0.7}}, TypeError, "'edits' must be a list of mappings, got dict"),
    (edits(distance=[0.1234561, 0.1234562]), ValueError, r"'edits\[0\].distance' must differ in their first six"),
    ({"bases": BASES, "edits": [{}]}, TypeError, r"'edits\[0\].t' must be a number, got NoneType"),
    ({"bases": BASES, "edits": [{"t": 0.6}]}, ValueError, r"'edits\[0\].t' must be one of 'bases.t' \[0.7, 0.5\]"),
    ({"edits": [{"t": 0.7}]}, ValueError, r"'edits\[0\].basis' must be given without 'bases'"),
    (edits(method="walk"), ValueError, r"'edits\[0\].method' must be one of \['guidance'.*\], got 'walk'"),
    (edits(layer="up"), ValueError, r"'edits\[0\].layer' must be one of 'bases.layer' \['mid'\], got 'up'"),
    (edits(directions=5), ValueError, r"'edits\[0\].directions' must be at most 4, the basis' k, got 5"),
    (edits(directions=[0]), ValueError, r"'edits\[0\].directions' must be at least 1, got 0"),
    (edits(distance="far"), TypeError, r"'edits\[0\].distance' must be a number, got str"),
    (edits(distance=[1, 2], compose=True), ValueError, r"must be one number for each of 1 directions, got \[1, 2\]"),
    (edits(residual=0), TypeError, r"'edits\[0\].residual' must be a bool, got int"),
    (edits(compose="yes"), TypeError, r"'edits\[0\].compose' must be a bool, got str"),
    (edits(method="geodesic", num_steps=0), ValueError, r"'edits\[0\].num_steps' must be at least 1, got 0"),
    (edits(method="linear", transport="park2023"), ValueError, r"keys must be among .*, got 'edits\[0\].transport'"),
    (edits(method="h-space", inject="above"), ValueError, r"'edits\[0\].inject' must be one of"),
    (edits(basis="no.safetensors"), ValueError, r"'edits\[0\].basis' must be a saved basis, got 'no.safetensors'"),
]


@pytest.mark.parametrize(("keys", "kind", "message"), REFUSED, ids=[str(keys)[:50] for keys, *_ in REFUSED])
def test_refusals_name_the_key(keys: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=rf"^spec: .*{message}"):
        read_spec({"items": "photos", **keys})


def test_defaults_are_those_of_the_functions() -> None:
    spec = read_spec({"items": "photos", "bases": {"t": 0.7}, "edits": [{}]})
    assert spec.bases is not None
    assert (spec.bases.layer, spec.bases.k, spec.bases.tol, spec.bases.seed) == (("mid",), 8, 1e-3, 0)
    (edit,) = spec.edits
    assert (edit.method, edit.t, edit.directions, edit.distance) == ("guidance", 0.7, (1,), (3.0,))
    assert edit.built() == latentjac.editing.Guidance(layer="mid")


def test_a_saved_basis_is_told_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    basis_of(1).save(tmp_path / "one.safetensors")
    (tmp_path / "two.safetensors").write_bytes((tmp_path / "one.safetensors").read_bytes())
    basis_of(2).save(tmp_path / "other.safetensors")
    spec = {name: _saved(name) for name in ("one", "two", "other")}
    assert spec["one"].settings() == spec["two"].settings() != spec["other"].settings()


def _saved(name: str) -> Any:
    return read_spec({"items": "photos", "edits": [{"t": 0.7, "basis": f"{name}.safetensors"}]})


def test_where_items_are_is_no_setting() -> None:
    assert read_spec({"items": "a"}).settings() == read_spec({"items": "b"}).settings()


def test_measures_of_specs_are_those_that_are_there() -> None:
    for name in MEASURES:
        assert read_spec({"items": "a", "bases": BASES, "measures": [name]}).measures == {name: {}}
    assert set(METHODS) == {"guidance", "linear", "geodesic", "h-space"}


YAML = {
    "k: 1e-3": {"k": 1e-3},
    "k: 1.5e+2": {"k": 150.0},
    "k: 0.5": {"k": 0.5},
    "k: 12": {"k": 12},
    "k: e3": {"k": "e3"},
    "k: [1, 2.5, mid]": {"k": [1, 2.5, "mid"]},
    "k: true\nl:": {"k": True, "l": None},
}


@pytest.mark.parametrize("text", YAML)
def test_yaml_values(text: str) -> None:
    found = from_yaml(text)
    assert found == YAML[text]
    assert [type(value) for value in found.values()] == [type(value) for value in YAML[text].values()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "a key twice: 'a'"),
        ("a: &x [1]\nb: *x", "an alias"),
        ("a: !!python/object:os.system {}", "could not determine a constructor"),
        ("a: [", "while parsing"),
        ("[1]: 2", "a key twice"),
    ],
)
def test_yaml_that_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(latentjac.FileError, match=rf"spec: '.*spec.yaml' must be YAML, got .*{message}"):
        read_spec(path)


def test_yaml_that_is_nested_or_long(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    texts = {"[" * 5000: "nested too deeply|while parsing", "#" * (2**22 + 1): "at most 4194304 bytes"}
    for text, message in texts.items():
        path.write_text(text)
        with pytest.raises(latentjac.FileError, match=message):
            read_spec(path)


def test_paths_begin_in_the_folder_of_the_spec(tmp_path: Path) -> None:
    items_of(tmp_path, 2)
    (tmp_path / "spec.yaml").write_text("items: items.jsonl\n")
    spec = read_spec(tmp_path / "spec.yaml")
    assert [item.id for item in read_items(spec.items, spec.root)] == ["item 0", "item 1"]


def test_a_model_begins_in_the_folder_of_the_spec(tiny_folder: Path, tmp_path: Path) -> None:
    """It is not where somebody stands who starts the run."""
    (tmp_path / "models").symlink_to(tiny_folder.parent)
    (tmp_path / "spec.yaml").write_text("items: photos\nmodel: models/tiny\n")
    model = fitting.load_named(read_spec(tmp_path / "spec.yaml"), "cpu")
    assert model.name == str(tmp_path / "models/tiny")
    (tmp_path / "faces").mkdir()
    (tmp_path / "spec.yaml").write_text("items: photos\n")
    assert fitting.load_named(read_spec(tmp_path / "spec.yaml"), "cpu").name == "faces"


def test_a_model_is_loaded_with_the_options_of_the_spec(tiny_folder: Path, tmp_path: Path) -> None:
    def of(load: dict[str, Any]) -> Any:
        return read_spec({"items": "photos", "model": str(tiny_folder), "load": load})

    assert fitting.load_named(of({"size": [32, 16]}), "cpu").codec.size == (32, 16)
    assert fitting.load_named(of({}), "cpu").codec.size != (32, 16)
    assert of({"size": 16}).settings() != of({}).settings()
    (tmp_path / "a.safetensors").write_bytes(b"none")
    with pytest.raises((latentjac.LoadError, TypeError), match=r"spec: 'load.lora' must be None for a"):
        fitting.load_named(of({"lora": str(tmp_path / "a.safetensors")}), "cpu")
    with pytest.raises(TypeError, match=r"spec: 'load.config' must be None unless source is a single file"):
        fitting.load_named(of({"config": "owner/name"}), "cpu")


def test_adapters_of_a_spec_are_told_by_what_is_in_them(tmp_path: Path) -> None:
    """They begin in its folder, and may be moved with it."""
    told = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.safetensors").write_bytes(b"some")
        spec = tmp_path / name / "spec.yaml"
        spec.write_text("items: photos\nload: {lora: {a.safetensors: 0.8}}\n")
        read = read_spec(spec)
        assert read.load == {"lora": {str(tmp_path / name / "a.safetensors"): 0.8}}
        told.append(read.settings())
    assert told[0] == told[1]
    spec.write_text("items: photos\nload: {lora: a.safetensors}\n")
    assert read_spec(spec).settings() != told[1]


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return small_model()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bases": {"t": 0.5, "layer": "top"}}, "'layer' must fit the model: .*'top'"),
        ({"bases": {"t": 0.5, "k": 193}}, "'bases.k' must be at most 192 at layer 'mid', got 193"),
        ({"sample": {"num_inference_steps": 1001}}, "'sample.num_inference_steps' must fit the model"),
        ({"sample": {"prompt": "a face"}}, "'sample' must fit the model: .*prompt"),
        ({"bases": {"t": 0.5}, "edits": [{"method": "h-space", "layer": "mid", "basis": "b.safetensors", "t": 0.5}]},
         r"'edits\[0\]' must fit the model: its basis must have directions of shape \[8, 8, 8\], got \[6\]"),
    ],
)  # fmt: skip
def test_what_the_model_cannot_do_is_refused_before(
    model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    basis_of(0).save(tmp_path / "b.safetensors")
    run = batch.Run({"items": str(items_of(tmp_path, 1)), **keys}, tmp_path / "run", model=model, shard="1/1")
    with pytest.raises(ValueError, match=message):
        run.run()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("edits", [{}, {"edits": [{"basis": "b.safetensors", "t": 0.7, "method": "linear"}]}])
def test_steps_above_the_inversion_are_refused_before(model: latentjac.Model, tmp_path: Path, edits: Any) -> None:
    """Every item would be inverted for nothing."""
    basis = latentjac.local_basis(model, latentjac.noise_point(model, num_inference_steps=2), k=1, tol=0.5)
    basis.save(tmp_path / "b.safetensors")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    steps = edits or {"bases": {"t": [0.4, 0.7], "k": 1}}
    (tmp_path / "spec.yaml").write_text(to_json({"items": ["a.png"], "invert": {"t": 0.5}, **steps}))
    run = batch.Run(tmp_path / "spec.yaml", tmp_path / "run", model=model, shard="1/1")
    key = r"edits\[0\].t" if edits else "bases.t"
    with pytest.raises(ValueError, match=f"spec: '{key}' must fit the model: level: t must be at most 0.5"):
        run.plan()


def test_two_t_of_one_level_are_told(model: latentjac.Model, tmp_path: Path) -> None:
    """Their rows would be the same, and a mean over t would count them twice."""
    items = read_items(items_of(tmp_path, 1), tmp_path)
    spec = {"items": "x", "sample": {"num_inference_steps": 4}, "bases": {"t": [0.75, 0.5, 0.45]}}
    with pytest.warns(UserWarning, match=r"'bases.t' must be different levels of 4 steps, got 0.5 and 0.45"):
        check_fits(model, read_spec(spec), items)


def test_sizes_are_those_of_the_model(model: latentjac.Model, tmp_path: Path) -> None:
    items = read_items(items_of(tmp_path, 1), tmp_path)
    sizes = check_fits(model, read_spec({"items": "x", "bases": {"t": 0.5, "layer": ["mid", "eps"]}}), items)
    assert (sizes.sample, sizes.features) == (192, {"eps": 192, "mid": 512})


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"shard": "3/2"}, ValueError, "shard must be i/n"),
        ({"shard": "1"}, ValueError, "shard must be i/n"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"batch_size": 257}, ValueError, "batch_size must be at most 256"),
        ({"model": torch.nn.Identity()}, TypeError, "model must be a latentjac.Model"),
        ({"device": 3}, TypeError, "device must be a str"),
    ],
)
def test_arguments_of_a_run(tmp_path: Path, options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        batch.Run({"items": str(items_of(tmp_path, 1))}, tmp_path / "run", **options)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, "cuda:0"), ({"LOCAL_RANK": "5"}, "cuda:1"), ({"LOCAL_RANK": "x"}, "cuda:0"),
     ({"SLURM_LOCALID": "3"}, "cuda:3"), ({"LOCAL_RANK": "1", "SLURM_LOCALID": "0"}, "cuda:1")],
)  # fmt: skip
def test_each_process_of_a_machine_has_its_gpu(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    devices: list[str] = []
    monkeypatch.setattr(fitting, "load", lambda name, device, dtype: devices.append(device))
    fitting.load_named(read_spec({"items": "photos"}), "auto")
    assert devices == [expected]


def test_values_of_a_spec_are_changed_by_key(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("items: photos\nbases: {t: 0.7, k: 4}\nedits: [{distance: 1}, {distance: 2}]\n")
    changes = {"bases.k": 2, "edits.1.distance": [-3, 3], "measures.effective_rank.probes": 4, "model": "avatars"}
    spec = read_spec(path, changes=changes)
    assert spec.bases is not None
    assert (spec.bases.k, spec.model, spec.root) == (2, "avatars", tmp_path)
    assert [edit.distance for edit in spec.edits] == [(1.0,), (-3.0, 3.0)]
    assert spec.measures == {"effective_rank": {"probes": 4}}
    given: dict[str, Any] = {"items": "photos", "invert": {"t": 0.5}}
    assert read_spec(given, changes={"invert.t": 0.6}).invert == {"t": 0.6}
    assert given["invert"] == {"t": 0.5}
    assert read_spec({}, changes={"items": "photos"}).items == "photos"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("bases.j", r"keys must be among \[.*\], got 'bases.j'"),
        ("edits.1.t", "'edits.1.t' must lead through mappings and lists, got a list of 1 before '1'"),
        ("edits.first.t", "got a list of 1 before 'first'"),
        ("bases.t.0", "got float before '0'"),
        ("bases.", "got dict before ''"),
    ],
)
def test_keys_that_lead_nowhere_are_refused(key: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^spec: .*{message}"):
        read_spec({"items": "photos", "bases": {"t": 0.7}, "edits": [{}]}, changes={key: 0.5})
