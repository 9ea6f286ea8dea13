"""The study commands from end to end, on a tiny network."""

from __future__ import annotations

import json

import pytest
from cli.commands import run
from PIL import Image
from report.parsed import Page

from latentjac.studies import STUDIES, Axes, Curve, Finding, Settings, Study

pytest.importorskip("typer")
parquet = pytest.importorskip("pyarrow.parquet")

QUICK = ["--small", "--samples", 2, "--levels", "0.9,0.3", "-k", 2]


@pytest.fixture(scope="module")
def studied(tiny_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "study"
    done = run("study", "coarse-to-fine", "--model", tiny_folder, "--out", out, *QUICK)
    assert done.returncode == 0, done.stderr
    return done, out


def test_files_come_out_and_the_answer_is_printed(studied) -> None:
    done, out = studied
    assert {p.name for p in out.iterdir()} >= {"table.parquet", "figure.png", "run.json"}
    record = json.loads((out / "run.json").read_text())
    assert record["finding"]["sentence"] in Page((out / "index.html").read_text()).text
    assert record["finding"]["sentence"] in done.stdout
    assert STUDIES["coarse-to-fine"].question in done.stdout
    assert record["finding"]["interval"][0] <= record["finding"]["number"] <= record["finding"]["interval"][1]
    assert len(record["finding"]["summary"]["mean"]) == 4
    assert min(Image.open(out / "figure.png").size) > 300
    assert "coarse-to-fine:" in done.stderr  # the progress bar


def test_options_beat_the_small_defaults(studied) -> None:
    settings = json.loads((studied[1] / "run.json").read_text())["settings"]
    assert settings["samples"] == 2
    assert settings["levels"] == [0.9, 0.3]
    assert settings["steps"] == Settings.small().steps


def test_the_table_reads_back(studied) -> None:
    table = parquet.read_table(studied[1] / "table.parquet")
    assert table.num_rows == 2 * 2 * 2  # levels, samples, directions
    assert {"sample", "t", "direction", "centroid"} <= set(table.column_names)
    assert sorted(set(table["t"].to_pylist())) == [0.299, 0.899]


def test_all_studies_one_folder_each(tiny_folder, tmp_path, monkeypatch) -> None:
    axes = Axes("x", "y")

    def answer(subject: object, settings: Settings, progress: bool) -> Finding:
        count = len(subject) if isinstance(subject, list) else 1
        curve = Curve("", axes, (0.0, 1.0), (0.0, 1.0), (0.0, 0.5), (0.5, 1.5))
        return Finding("name", {"models": [count]}, (curve,), f"Saw {count}.", 1.0, (0.0, 2.0), True)

    studies = {
        "one": Study("one", "How many?", answer),
        "two": Study("two", "And now?", answer, several=True),
        "three": Study("three", "What is said?", answer, text=True),
    }
    monkeypatch.setattr("latentjac.cli.study.STUDIES", studies)
    done = run("study", "all", "--model", tiny_folder, "--out", tmp_path / "a", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "two: left out, since it compares models" in done.stdout
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["one"]
    done = run("study", "all", "--model", tiny_folder, "--model", tiny_folder, "--out", tmp_path / "b", *QUICK)
    assert done.returncode == 0, done.stderr
    for name, count in (("one", 1), ("two", 2)):
        assert parquet.read_table(tmp_path / "b" / name / "table.parquet")["models"].to_pylist() == [count]
        assert f"Saw {count}." in done.stdout
    done = run("study", "all", "--out", tmp_path / "c", *QUICK)  # the built-in models
    assert "Saw 1." in done.stdout
    assert "Saw 2." in done.stdout
    assert "three: left out, since model 'faces' has no text" in done.stdout
    assert {p.name for p in (tmp_path / "c").iterdir()} == {"one", "two"}


def test_help_names_every_question() -> None:
    text = " ".join(run("study", "--help").stdout.replace("│", " ").split())
    for study in STUDIES.values():
        assert study.name in text
        assert study.question in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["coarse-to-fine", "--samples", 1], "--samples must be a whole number from 2 to 100000, got 1"),
        (
            ["coarse-to-fine", "--levels", "high"],
            "numbers from 0 to 1, got high",
        ),
        (
            ["coarse-to-fine", "--levels", "0.5,60"],
            "--levels must be at least 2 comma-separated numbers from 0 to 1",
        ),
        (["coarse-to-fine", "--model", "TINY", "--model", "TINY"], "--model must be given once for coarse-to-fine"),
        (["rank", "--prompt", "a cat"], "--prompt must be left out with rank, which does not ask about text"),
        (["prompts", "--model", "TINY", "--prompt", "a cat"], "at least 3 different texts, each once, got ['a cat']"),
        (["prompts"], "--model must be conditioned on text, got 'faces', which is not"),
    ],
)
def test_mistakes_become_one_line(tiny_folder, tmp_path, arguments: list, message: str) -> None:
    arguments = [tiny_folder if a == "TINY" else a for a in arguments]
    done = run("study", *arguments, "--out", tmp_path / "x")
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "x").exists()
