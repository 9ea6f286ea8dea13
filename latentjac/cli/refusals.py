"""What the command line refuses, in terms of the options that were typed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType


class Refusal(Exception):
    """Something that was typed cannot be done; the message is one line that names the option.

    No ValueError: parsers of options turn those into messages of their own.
    """


# Arguments of Python functions, and the options that they come from.
OPTIONS = {
    "class_label": "--class-label",
    "compat": "--compat",
    "compose": "--compose",
    "config": "--config",
    "asymmetric": "--asymmetric",
    "count": "--frames",
    "crop": "--crop",
    "device": "--device",
    "directions": "--direction",
    "distance": "--distance",
    "gain": "--gain",
    "image": "PHOTO",
    "inject": "--inject",
    "k": "-k",
    "ip_adapter": "--ip-adapter",
    "layer": "--layer",
    "lora": "--lora",
    "levels": "--levels",
    "mask": "--mask",
    "method": "--method",
    "null_energy": "--null-energy",
    "null_rank": "--null-rank",
    "num_inference_steps": "--steps",
    "num_steps": "--edit-steps",
    "prompt": "--prompt",
    "prompts": "--prompt",
    "reestimate": "--reestimate",
    "refinement": "--refinement",
    "samples": "--samples",
    "seed": "--seed",
    "size": "--size",
    "settings.samples": "--samples",
    "source": "--model",
    "steps": "--steps",
    "t": "--t",
    "timestep": "--t",
    "tol": "--tol",
    "transport": "--transport",
}
# Arguments whose names are no English words, so that they can be told from the rest of a sentence.
_TELLING = ("compat", "null_energy", "null_rank", "num_inference_steps", "num_steps", "reestimate")
_MOST_CHARACTERS = 500


def in_options(message: str, options: Mapping[str, str] = MappingProxyType({})) -> str:
    """The message of a Python function, ``function: argument must be …, got …``, in terms of options.

    Args:
        message: The message.
        options: Where an argument comes from in this case, before :data:`OPTIONS`.
    """
    known = {**OPTIONS, **options}
    begin = re.match(r"(?:[\w.-]+: )?(--?[\w-]+|[\w.]+(?: or \w+)?)(?:\[\d+\])?( must |: expected )", message)
    if begin is None or not (begin[1] in known or begin[1].startswith("-")):
        return message
    rest = message[begin.end() :]
    rest = re.sub(r"\b(\w+)=('[^']*'|[\w.]+)", lambda found: _typed(known, found), rest)
    rest = re.sub(rf"(?<![-\w])({'|'.join(_TELLING)})\b", lambda found: known[found[1]], rest)
    sentence = f"{known.get(begin[1], begin[1])} must {'' if 'must' in begin[2] else 'be '}{rest}"
    return (
        sentence.replace("must be None,", "must be left out,")
        .replace("must be None for", "must be left out for")
        .replace("left at None", "left out")
    )


def _typed(known: Mapping[str, str], found: re.Match[str]) -> str:
    """``method='h-space'`` as it is typed, ``--method h-space``."""
    option = known.get(found[1])
    return found[0] if option is None else option if found[2] == "True" else f"{option} {found[2]}".replace("'", "")


def one_line(message: str) -> str:
    """A message without line breaks, its middle left out where it is very long."""
    line = " ".join(message.split())
    if len(line) <= _MOST_CHARACTERS:
        return line
    return f"{line[: _MOST_CHARACTERS // 2]} […] {line[-_MOST_CHARACTERS // 4 :]}"


@contextmanager
def refusing(**options: str) -> Iterator[None]:
    """Errors of Python functions that a user can mend become refusals.

    Args:
        **options: Where arguments come from in this case, before :data:`OPTIONS`.
    """
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise Refusal(in_options(str(error), options)) from error
