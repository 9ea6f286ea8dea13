"""``latentjac run``: many items through the steps of a spec, into a folder that can be gone on with."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from latentjac.cli import values
from latentjac.cli.options import Device, Out, option
from latentjac.cli.refusals import Refusal, refusing

_MOST_AT_ONCE = 256
_BATCH_SIZE = 4
_SHARES = {"workers": "--ray-workers", "num_cpus": "--ray-cpus", "num_gpus": "--ray-gpus"}


def _shard(text: Any) -> Any:
    """Texts such as 2/8."""
    found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text, re.ASCII) if isinstance(text, str) else None
    if isinstance(text, str) and (found is None or not 1 <= int(found[1]) <= int(found[2])):
        raise values.refusal("--shard", "i/n with 1 <= i <= n <= 9999", text)
    return text


def _address(text: Any) -> Any:
    """Where a Ray cluster is."""
    known = r"auto|local|[-A-Za-z0-9.]+:[0-9]{1,5}"
    if isinstance(text, str) and re.fullmatch(known, text, re.ASCII) is None:
        raise values.refusal("--ray", "auto, local or host:port", text)
    return text


def _change(text: Any) -> Any:
    """Texts such as bases.k=4."""
    if isinstance(text, str) and (not text.partition("=")[0].strip() or "=" not in text or not _is_plain(text)):
        raise values.refusal("--set", "KEY=VALUE, such as items=photos", text)
    return text


def _is_plain(text: str) -> bool:
    return all(letter == "\n" or (letter.isprintable() and letter != "\0") for letter in text)


def _changes(texts: list[str]) -> dict[str, Any]:
    """Values by key of what ``--set`` got."""
    from latentjac.batch.yaml_files import from_yaml

    found: dict[str, Any] = {}
    for text in texts:
        key, _, value = text.partition("=")
        try:
            found[key.strip()] = from_yaml(value)
        except ValueError as error:
            raise values.refusal("--set", "KEY=VALUE with a value in YAML", text) from error
    return found


@contextmanager
def _telling_how_far(folder: Path) -> Iterator[None]:
    """Tell what is done where a run ends before its end, and how it goes on."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, OSError, RuntimeError):
        from latentjac import batch

        with suppress(OSError, ValueError):
            status = batch.open(folder).status()
            print(f"\n{status.done} of {status.items} items are done; the same command goes on", file=sys.stderr)
        raise


def run(
    spec: Annotated[
        Path | None,
        typer.Argument(
            parser=values.file("SPEC", "a YAML file"),
            metavar="SPEC",
            help="YAML file: items (folder, table or list), model, and invert, sample, bases, measures, edits and "
            "sliders; default: none, with --set items=FOLDER.",
        ),
    ] = None,
    out: Out = Path("latentjac-run"),
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            parser=_change,
            metavar="KEY=VALUE",
            help="Another value for a key of the spec, as YAML, once or several times: --set bases.k=4, "
            "--set 'edits.0.distance=[-3, 3]'; default: none.",
        ),
    ] = None,
    device: Device = "auto",
    batch_size: Annotated[
        int,
        option("--batch-size", values.whole, 1, _MOST_AT_ONCE, help="Photos or seeds that are computed together."),
    ] = _BATCH_SIZE,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            parser=_shard,
            metavar="I/N",
            help="Part i of n of the items, as i/n; default: that of a task of Slurm or torchrun, or all.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            parser=_address,
            metavar="ADDRESS",
            help="Compute on a Ray cluster: auto (that of this machine), local (a new one) or host:port; default: no.",
        ),
    ] = None,
    ray_workers: Annotated[
        int | None,
        option(
            "--ray-workers", values.whole, 1, 10_000, help="Processes on the cluster; default: as many as have room."
        ),
    ] = None,
    ray_cpus: Annotated[
        int | None,
        option("--ray-cpus", values.whole, 1, 1024, help="Processors of each, which are its threads; default: 1."),
    ] = None,
    ray_gpus: Annotated[
        float | None,
        option(
            "--ray-gpus",
            values.number,
            0,
            64,
            ends=True,
            help="GPUs of each, also a part of one; default: 1 where the cluster has any.",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Do items again that have an error; the last attempt counts.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and how large it would be; write nothing.")
    ] = False,
) -> None:
    """Take many photos or seeds through the steps of a spec; started again, it goes on where it stopped.

    A spec for the four strongest directions of every photo in a folder, and edits along two of them:

    \b
        items: photos
        bases: {t: 0.7, k: 4}
        edits:
          - {directions: [1, 2], distance: [-3, 3]}

    With this in spec.yaml: latentjac run spec.yaml --out run. Results: run/index.html, and
    latentjac.batch.open("run") in Python. docs/batch.md has all keys.
    """  # noqa: D301 - click keeps lines behind this character as they are
    shares = {"workers": ray_workers, "num_cpus": ray_cpus, "num_gpus": ray_gpus}
    asked: dict[str, Any] = {name: value for name, value in shares.items() if value is not None}
    if ray is None and asked:
        name, value = next(iter(asked.items()))
        raise values.refusal(_SHARES[name], "left out without --ray", value)
    values.check_file("SPEC", "a YAML file", spec)
    if spec is None and not changes:
        raise Refusal("SPEC must be a YAML file, got none; or give at least --set items=FOLDER")
    from latentjac import batch
    from latentjac.models import LoadError

    with refusing(spec="SPEC", folder="--out", shard="--shard", batch_size="--batch-size", address="--ray", **_SHARES):
        read = batch.read_spec({} if spec is None else spec, changes=_changes(changes or []))
        made = batch.Run(read, out, device=device, batch_size=batch_size, retry_failed=retry_failed, shard=shard)
        try:
            loaded = made.model
        except LoadError as error:
            raise Refusal(f"SPEC must name a model that can be loaded: {error}") from error
        if dry_run:
            print(made.plan())
            return
        with _telling_how_far(out):
            results = made.run(progress=True) if ray is None else made.run_on_ray(ray, progress=True, **asked)
    print(f"\n{results.status()}\nWrote to {results.path}/ with {loaded.name}; index.html shows it")
