"""``latentjac study``: questions put to a model, each answered with a table, a figure and a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from latentjac.cli import stages
from latentjac.cli.options import Device, parse_numbers
from latentjac.cli.run_folder import RunFolder, open_run
from latentjac.models import Model
from latentjac.report import finding_figure, write_parquet
from latentjac.report.extras import require_matplotlib, require_pyarrow
from latentjac.study import STUDIES, Finding, Settings, Study

app = typer.Typer(
    no_args_is_help=True,
    help="Put a question about its local geometry to a model. Samples that it generates are followed from noise to "
    "image, and measured at every noise level. Writes the measurements (table.parquet), their means with 95% intervals "
    "over samples (run.json) and a figure, and prints the answer in one sentence.",
)

_ALL = "all"
_DEFAULT = Settings()
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write into; made if missing.")]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="Built-in name, pipeline folder or hub id; repeated to compare several. Default: faces, "
        "compared with avatars.",
    ),
]
Samples = Annotated[int | None, typer.Option(help=f"Generated samples, at least 2; default: {_DEFAULT.samples}.")]
Levels = Annotated[
    str | None,
    typer.Option(
        help="Noise levels, comma-separated fractions of T; default: " + ",".join(f"{t:g}" for t in _DEFAULT.levels)
    ),
]
K = Annotated[int | None, typer.Option("-k", help=f"Directions of a local basis; default: {_DEFAULT.k}.")]
Tol = Annotated[
    float | None, typer.Option(help=f"Largest relative residual of a singular triplet; default: {_DEFAULT.tol:g}.")
]
Seed = Annotated[int | None, typer.Option(help=f"Seed of samples and random choices; default: {_DEFAULT.seed}.")]
Steps = Annotated[int | None, typer.Option(help=f"DDIM steps from noise to image; default: {_DEFAULT.steps}.")]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        help=f"For the study 'prompts': a text that it compares, repeated at least 3 times; default: "
        f"{len(_DEFAULT.prompts)} unrelated ones.",
    ),
]
Small = Annotated[bool, typer.Option("--small", help="Smaller defaults of all these: seconds instead of minutes.")]


def _command(name: str) -> Callable[..., None]:
    """The command of a study, or of all of them."""

    def command(
        context: typer.Context,
        out: Out = Path("latentjac-study"),
        model: Models = None,
        device: Device = "auto",
        samples: Samples = None,
        levels: Levels = None,
        k: K = None,
        tol: Tol = None,
        seed: Seed = None,
        steps: Steps = None,
        prompt: Prompts = None,
        small: Small = False,
    ) -> None:
        arguments = {option: value for option, value in locals().items() if option not in ("name", "context")}
        require_pyarrow()  # before minutes go by
        require_matplotlib()
        together = name == _ALL
        studies = list(STUDIES.values()) if together else [STUDIES[name]]
        if prompt is not None and not any(study.text for study in studies):
            raise ValueError(f"--prompt: expected none for {name}, which does not ask about text, got {prompt}")
        sources = model or (["faces", "avatars"] if any(study.several for study in studies) else ["faces"])
        given: dict[str, Any] = {
            "samples": samples, "levels": None if levels is None else tuple(parse_numbers("--levels", levels)),
            "k": k, "tol": tol, "seed": seed, "steps": steps, "prompts": None if prompt is None else tuple(prompt),
        }  # fmt: skip
        settings = replace(
            Settings.small() if small else _DEFAULT, **{n: value for n, value in given.items() if value is not None}
        )
        chosen = {}
        for study in studies:
            if together and study.several and len(sources) < 2:
                print(f"{study.name}: left out, since it compares models: give --model more than once")
                continue
            chosen[study.name] = sources[:1] if together and not study.several else sources
        # All folders before any study: hours go by between the first and the last.
        runs = {
            study: open_run(context, out / study if together else out, f"study {name}", arguments) for study in chosen
        }
        for study in studies:
            if study.name in chosen:
                _run(runs[study.name], study, chosen[study.name], device, settings, together)

    return command


for _study in STUDIES.values():
    app.command(_study.name, help=_study.question)(_command(_study.name))
app.command(_ALL, help="Run every study, each into a folder of its own; those of one model take the first.")(
    _command(_ALL)
)


def _run(run: RunFolder, study: Study, sources: list[str], device: str, settings: Settings, together: bool) -> None:
    """Load what a study needs, run it and write its files; among others, leave it out where it cannot run."""
    if study.several != (len(sources) > 1):
        expected = "at least two models to compare" if study.several else "one model"
        raise ValueError(f"--model: expected {expected} for {study.name}, got {sources}")
    models = [stages.load_model(run, source, device) for source in sources]
    if together and study.text and models[0].text is None:
        print(f"{study.name}: left out, since model {models[0].name!r} has no text")
        return
    with run.timed(study.name):
        subject: Model | list[Model] = models if study.several else models[0]
        finding = study.run(subject, settings, progress=True)
    run.record.update(models=[stages.describe_model(model) for model in models], settings=asdict(settings))
    run.record["finding"] = _record(study, finding)
    write_parquet(run.target("table.parquet", "every measurement, one a row"), finding.table)
    run.picture("figure.png", "means over samples with 95% intervals", finding_figure(finding))
    print(f"\n{study.question}\n{finding.sentence}")
    run.finish()


def _record(study: Study, finding: Finding) -> dict[str, Any]:
    return {
        "question": study.question,
        "sentence": finding.sentence,
        "number": finding.number,
        "interval": list(finding.interval),
        "holds": finding.holds,
        "summary": finding.summary,
    }
