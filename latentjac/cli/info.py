"""``latentjac info``: what is installed and whether it works."""

from __future__ import annotations

from dataclasses import asdict

import typer


def info() -> None:
    """Say what is installed and built in, and run the self-test of the kernels."""
    import latentjac
    from latentjac import kernels
    from latentjac.report import versions

    for name, value in versions().items():
        print(f"{name:<18} {value}")
    print(f"{'models':<18} {', '.join(latentjac.builtin_models()) or 'none'}\n")
    for name, value in asdict(kernels.build_info()).items():
        if value != "":
            shown = ", ".join(value) if isinstance(value, tuple) else value
            print(f"{name.replace('_', ' '):<18} {shown}")
    results = kernels.self_test()
    failed = [result for result in results if not result[1]]
    print(f"\nself-test: {len(results) - len(failed)} of {len(results)} checks of the kernels passed")
    for name, _, error in failed:
        print(f"  FAIL  {name}  (error {error:.1e})")
    if failed:
        raise typer.Exit(1)
