"""``latentjac study``: questions put to a model, each answered with a table, a figure and a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentjac.cli import values
from latentjac.cli.options import (
    MOST_SEED,
    ClassLabel,
    Device,
    ModelConfig,
    ModelIPAdapter,
    ModelLora,
    Out,
    help_without_command,
    option,
)
from latentjac.cli.refusals import Refusal, refusing
from latentjac.studies import STUDIES, Finding, Settings, Study

if TYPE_CHECKING:
    from latentjac.cli.run_folder import RunFolder
    from latentjac.models import Model

app = typer.Typer(
    rich_markup_mode=None,
    add_help_option=False,
    help="Put a question about its local geometry to a model. Samples that it generates are followed from noise to "
    "image, and measured at every noise level. Writes the measurements (table.parquet), their means with 95% intervals "
    "over samples (run.json) and a figure, and prints the answer in one sentence.",
)
app.callback(invoke_without_command=True)(help_without_command)

_ALL = "all"
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Built-in name (such as faces), pipeline folder or hub id; repeated to compare several; default: faces, "
        "compared with avatars.",
    ),
]
Samples = Annotated[
    int | None,
    option(
        "--samples", values.whole, 2, 100_000, help=f"Generated samples, at least 2; default: {Settings.samples}."
    ),
]  # fmt: skip
Levels = Annotated[
    str | None,
    option(
        "--levels",
        values.numbers,
        0,
        1,
        2,
        help="Noise levels, at least 2, comma-separated fractions of T; default: "
        + ",".join(f"{t:g}" for t in Settings.levels),
    ),
]
K = Annotated[
    int | None,
    option("-k", values.whole, 1, help=f"Number of directions of a local basis; default: {Settings.k}."),
]
Tol = Annotated[
    float | None,
    option(
        "--tol", values.number, 0, 1,
        help=f"Largest relative residual of a singular triplet, between 0 and 1; default: {Settings.tol:g}.",
    ),
]  # fmt: skip
Seed = Annotated[
    int | None,
    option(
        "--seed", values.whole, 0, MOST_SEED, help=f"Seed of samples and random choices; default: {Settings.seed}."
    ),
]  # fmt: skip
Steps = Annotated[
    int | None,
    option(
        "--steps", values.whole, 1,
        help=f"DDIM steps from noise to image, at most T (often 1000); default: {Settings.steps}.",
    ),
]  # fmt: skip
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        metavar="TEXT",
        help=f"For the study 'prompts': a text that it compares, repeated at least 3 times; default: "
        f"{len(Settings.prompts)} unrelated ones.",
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
        class_label: ClassLabel = None,
        config: ModelConfig = None,
        lora: ModelLora = None,
        ip_adapter: ModelIPAdapter = None,
        small: Small = False,
    ) -> None:
        arguments = {option: value for option, value in locals().items() if option not in ("name", "context")}
        for each in model or []:
            values.name("--model", "a model")(each)
        for each in prompt or []:
            values.sentence("--prompt")(each)
        _run_all(context, name, arguments)

    return command


for _study in STUDIES.values():
    app.command(_study.name, help=_study.question, short_help=_study.question)(_command(_study.name))
app.command(_ALL, help="Run every study, each into a folder of its own; those of one model take the first.")(
    _command(_ALL)
)


def _run_all(context: typer.Context, name: str, arguments: dict[str, Any]) -> None:
    """Run one study, or all that there are models for."""
    from latentjac.cli.run_folder import open_run
    from latentjac.report.extras import require_matplotlib, require_pyarrow

    require_pyarrow()  # before minutes go by
    require_matplotlib()
    out, model, prompt = arguments["out"], arguments["model"], arguments["prompt"]
    together = name == _ALL
    studies = list(STUDIES.values()) if together else [STUDIES[name]]
    if prompt and not any(study.text for study in studies):
        raise Refusal(f"--prompt must be left out with {name}, which does not ask about text, got {prompt}")
    settings = _settings(arguments)
    sources = model or (["faces", "avatars"] if any(study.several for study in studies) else ["faces"])
    runs = {}  # all folders before any study: hours go by between the first and the last
    for study in studies:
        if together and study.several and len(sources) < 2:
            print(f"{study.name}: left out, since it compares models: give --model more than once")
        else:
            runs[study.name] = open_run(context, out / study.name if together else out, f"study {name}", arguments)
    for study in studies:
        if study.name in runs:
            chosen = sources[:1] if together and not study.several else sources
            _run(runs[study.name], study, chosen, arguments, settings, together)


def _settings(arguments: dict[str, Any]) -> Settings:
    """Defaults, and what was asked for instead."""
    given = {name: arguments[name] for name in ("samples", "k", "tol", "seed", "steps", "class_label")}
    if arguments["levels"] is not None:
        given["levels"] = tuple(values.parse_numbers("--levels", arguments["levels"], 0, 1, 2))
    if arguments["prompt"]:
        given["prompts"] = tuple(arguments["prompt"])
    with refusing():
        usual = Settings.small() if arguments["small"] else Settings()
        return replace(usual, **{name: value for name, value in given.items() if value is not None})


def _run(
    run: RunFolder, study: Study, sources: list[str], arguments: dict[str, Any], settings: Settings, together: bool
) -> None:
    """Load what a study needs, run it and write its files; among others, leave it out where it cannot run."""
    from latentjac.cli import checks, stages
    from latentjac.cli.inversion import Inversion
    from latentjac.report import finding_figure, write_parquet

    if study.several != (len(sources) > 1):
        expected = "given more than once, to compare models," if study.several else "given once"
        raise Refusal(f"--model must be {expected} for {study.name}, got {sources}")
    of_model = {name: arguments[name] for name in ("config", "lora", "ip_adapter")}
    models = [stages.load_model(run, source, arguments["device"], **of_model) for source in sources]
    if together and study.text and models[0].text is None:
        print(f"{study.name}: left out, since model {models[0].name!r} has no text")
        return
    for model in models:
        checks.check_prompts(model, None, class_label=settings.class_label)
        place = checks.check_place(model, Inversion(settings.steps), settings.levels[0], "mid", option="--model")
        checks.check_count("-k", settings.k, place.triplets)
    with run.timed(study.name), refusing(source="--model", model="--model"):
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
