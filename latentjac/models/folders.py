"""The parts of a model from a pipeline folder: all files are looked at before the first weights are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from latentjac.models import autoencoders, mistaken
from latentjac.models.adapters import FAMILIES, NETWORK_PARTS, class_now
from latentjac.models.configs import check_part, check_schedule, read_config
from latentjac.models.errors import LoadError
from latentjac.models.ip_adapters import add_ip_adapters
from latentjac.models.lora import add_loras
from latentjac.models.own_loaders import Scaled
from latentjac.models.pipeline import Parts, family_of_parts, made_of
from latentjac.models.schedulers import check_class
from latentjac.models.text_files import EncoderFiles, classes_taken
from latentjac.models.weights import plan

STEM = "diffusion_pytorch_model"  # how files of weights of diffusers begin
_INFINITE = ("lambda_min_clipped",)  # of solvers, which diffusers writes as -Infinity
# Files of low-rank adapters, which diffusers and transformers write beside the weights of what they change.
_ADAPTERS = tuple(f"{stem}.{kind}" for stem in mistaken.ADAPTER_STEMS for kind in ("safetensors", "bin"))
# Of diffusers, with a configuration and weights as those of transformers have them.
_ENCODERS = (
    "MultilingualCLIP", "PaintByExampleImageEncoder", "RobertaSeriesModelWithTransformation", "LDMBertModel",
)  # fmt: skip
# Several networks in a folder each, such as controlnet, controlnet_1 and so on: the class of one.
_SEVERAL = {
    "MultiAdapter": "T2IAdapter",
    "MultiControlNetModel": "ControlNetModel",
    "MultiControlNetUnionModel": "ControlNetUnionModel",
}
# Several that diffusers writes into no folders.
_UNWRITTEN = ("FluxMultiControlNetModel", "SD3MultiControlNetModel", "HunyuanDiT2DMultiControlNetModel")

Read = Callable[[], Any]


class PipelineFolder:
    """A pipeline folder: its index, and the configurations of its networks.

    Attributes:
        path: The folder.
        family: What its network is one of.
        kinds: Classes by name of the parts that a model is made of, but for the scheduler.
        encoders: Those of its parts that are of transformers.

    Args:
        path: The folder.
        variant: Weight variant such as ``"fp16"``.
        dtypes: Types of the weights of networks and encoders, and of those of the autoencoder.
        loras: Files of low-rank adapters, with their scales.
        ip_adapters: Files of IP-Adapters, with their scales.

    Raises:
        LoadError: If a part is not one that a model knows, or a configuration cannot be.
    """

    def __init__(
        self,
        path: Path,
        variant: str | None,
        dtypes: tuple[torch.dtype, torch.dtype],
        loras: Scaled | None = None,
        ip_adapters: Scaled | None = None,
    ) -> None:
        self.path, self._variant, self._dtypes = path, variant, dtypes
        self._loras, self._ip_adapters = loras or {}, ip_adapters or {}
        self._index = read_config(path / "model_index.json")
        pairs = {
            name: e
            for name, e in self._index.items()
            if isinstance(e, list) and len(e) == 2 and isinstance(e[1], str) and e[1]
        }
        classes = {name: str(kind) for name, (_, kind) in pairs.items()}
        self._configs = self._read_configs([name for name in NETWORK_PARTS if name in classes])
        classes |= {name: class_now(classes[name], config) for name, config in self._configs.items()}
        self._pipeline = str(self._index.get("_class_name"))
        self.family = family_of_parts(self._pipeline, classes, self._configs)
        _refuse_unwritten(path, classes)
        self._coder = next((name for name in autoencoders.PARTS if name in classes), None)
        self._libraries = {name: str(library) for name, (library, _) in pairs.items()}
        own = [name for name in (self.family.part, *self.family.beside, self._coder) if name]
        # A prior makes embeddings of texts beforehand; its encoder of pictures is the pipeline's.
        parts = (*self.family.requires, *self.family.allows)
        further = [name for name in parts if not name.startswith("prior") or name.startswith("prior_image_")]
        further += ["feature_extractor", "image_processor"] if "image_encoder" in further else []
        self.kinds = {name: classes[name] for name in dict.fromkeys((*own, *further)) if name in classes}
        self._kind_of_scheduler = classes.get("scheduler")
        for name, (library, kind) in pairs.items():
            self._check_library(name, str(library), str(kind), [*own, "scheduler"])
        _refuse_adapters(path, pairs, self._loras)
        is_text = "transformers" in map(self._libraries.get, self.kinds)
        self.encoders = EncoderFiles(path, self._pipeline, variant, dtypes[0]) if is_text else None

    def read(self, given: Mapping[str, Read] | None = None) -> Parts:
        """The parts.

        Args:
            given: What reads those of other places, by name.

        Raises:
            LoadError: If files cannot be or do not fit together.
        """
        scheduler = _read_scheduler(self.path / "scheduler" / "scheduler_config.json", self._kind_of_scheduler)
        plans = {name: (given or {}).get(name) or self.plan(name) for name in self.kinds}
        made = {name: read() for name, read in plans.items()} | {"scheduler": scheduler}
        if self._ip_adapters:
            add_ip_adapters(self._pipeline, made, self._index, self.family.part, self._ip_adapters)
        if self._loras:
            add_loras(self._pipeline, made, self._index, self.family.part, self._loras)
        return made_of(self.family, self._pipeline, made, self._index, scheduler)

    def plan(self, name: str) -> Read:
        """What reads a part, after a look at its files; errors as of :meth:`read`."""
        kind, folder = self.kinds[name], self.path / name
        if self.of_transformers(name):
            assert self.encoders is not None
            return self.encoders.plan(name, kind, self.family.requires.get(name, ()))
        if (folder / "scheduler_config.json").exists():
            scheduler = _read_scheduler(folder / "scheduler_config.json", kind)
            return lambda: scheduler
        if self.is_several(name):
            return self._plan_several(name)
        make = self.maker(name)
        return plan(make, folder / "config.json", STEM, self._variant, self.dtype_of(name))

    def _plan_several(self, name: str) -> Read:
        """The same of several networks, each in a folder of its own."""
        from diffusers import models

        kind, dtype = self.kinds[name], self.dtype_of(name)
        folders = [self.path / name]
        while (following := self.path / f"{name}_{len(folders)}").is_dir():
            folders.append(following)
        configs = [folder / "config.json" for folder in folders]
        makers = [_maker(path, None, _SEVERAL[kind]) for path in configs]
        reads = [plan(make, path, STEM, self._variant, dtype) for make, path in zip(makers, configs, strict=True)]
        if len(reads) < 2:
            raise LoadError(f"load: folder must hold several networks {name}, {name}_1, ..., got one ({kind})")
        joined: Any = getattr(models, kind)
        return lambda: joined([read() for read in reads]).eval()

    def is_several(self, name: str) -> bool:
        """Whether a part is several networks, each in a folder of its own."""
        return self.kinds[name] in _SEVERAL

    def has_weights(self, name: str) -> bool:
        """Whether a part is a network, an autoencoder or an encoder; errors as of :meth:`read`."""
        if self.encoders is not None and self.of_transformers(name):
            return self.encoders.has_weights(name, self.kinds[name])
        return not (self.path / name / "scheduler_config.json").exists()

    def of_transformers(self, name: str) -> bool:
        """Whether a part is an encoder, a tokenizer or the like; of diffusers are some that its pipelines have."""
        return self._libraries[name] == "transformers" or self.kinds[name] in _ENCODERS

    def dtype_of(self, name: str) -> torch.dtype:
        """Type of the weights of a part."""
        return self._dtypes[name == self._coder]

    def maker(self, name: str) -> Callable[[], torch.nn.Module]:
        """What makes a network, an autoencoder or an encoder with any weights; errors as of :meth:`read`."""
        if self.of_transformers(name):
            assert self.encoders is not None
            return self.encoders.maker(name, self.kinds[name])
        of_pipeline = classes_taken(self._pipeline, name, "diffusers")
        return _maker(self.path / name / "config.json", self._configs.get(name), self.kinds[name], of_pipeline)

    def _read_configs(self, names: list[str]) -> dict[str, dict[str, Any]]:
        for name in names:
            if not (self.path / name / "config.json").exists():
                raise LoadError(
                    f"load: folder must hold a diffusers pipeline with safetensors weights, got {str(self.path)!r} "
                    f"without {name}/config.json"
                )
        return {name: _read_part(self.path / name / "config.json") for name in names}

    def _check_library(self, name: str, library: str, kind: str, own: list[str]) -> None:
        """Raise unless a part that is read is of diffusers, or of transformers where such parts are."""
        known: tuple[str, ...] = ("diffusers",) if name in own else ("diffusers", "transformers")
        if name.startswith(("text_encoder", "tokenizer")):
            known = ("transformers",)
        of_pipeline = [of.__name__ for of in classes_taken(self._pipeline, name, "diffusers")]
        if (
            name in (*self.kinds, "scheduler")
            and library not in known
            and (name in own or kind not in (*of_pipeline, *_ENCODERS))
        ):
            raise LoadError(
                f"load: {str(self.path / 'model_index.json')!r}: {name} must be of {' or '.join(known)}, "
                f"got {library[:60]!r} ({kind[:60]})"
            )


def read_network(folder: Path, variant: str | None, dtype: torch.dtype) -> Any:
    """The denoiser in a folder of its own; errors as of :meth:`PipelineFolder.read`."""
    path = folder / "config.json"
    kind, known = read_config(path).get("_class_name"), sorted({family.network for family in FAMILIES})
    if kind not in known:
        raise LoadError(
            f"load: {str(path)!r}: _class_name must be one of {known}, got {str(kind)[:60]!r}"
            f"{mistaken.of_folder(folder)}"
        )
    return plan(_maker(path, None, kind), path, STEM, variant, dtype)()


def _maker(
    path: Path, config: dict[str, Any] | None, kind: str, of_pipeline: tuple[type, ...] = ()
) -> Callable[[], torch.nn.Module]:
    """What makes a part of diffusers, with any weights.

    Args:
        path: File of its configuration.
        config: What that holds, if it was read before.
        kind: Its class.
        of_pipeline: Classes that only its pipeline has.
    """
    import diffusers

    settings = _read_part(path) if config is None else config
    made = getattr(diffusers, kind, None) or next((of for of in of_pipeline if of.__name__ == kind), None)
    if not isinstance(made, type) or not issubclass(made, diffusers.ModelMixin):
        raise LoadError(f"load: {str(path)!r} must be of a network of diffusers, got {kind[:60]!r}")
    if class_now(str(settings.get("_class_name", kind)), settings) != kind:
        raise LoadError(f"load: {str(path)!r}: _class_name must be {kind}, got {str(settings['_class_name'])[:60]!r}")
    # Of an object: given a text, diffusers would ask the hub for it.
    return lambda: cast(Any, made).from_config(settings)


def _refuse_unwritten(folder: Path, classes: Mapping[str, str]) -> None:
    """Raise if there are several networks of a kind that diffusers does not write."""
    for name, kind in classes.items():
        if kind in _UNWRITTEN:
            raise LoadError(
                f"load: source must be a pipeline object with several networks ({name}: {kind}), got the folder "
                f"{str(folder)!r}: latentjac.load(diffusers.DiffusionPipeline.from_pretrained(...))"
            )


def _refuse_adapters(folder: Path, parts: Mapping[str, Any], loras: Scaled) -> None:
    """Raise if there are weights of adapters that nobody asked for, without which the model would be another."""
    known = {file.resolve() for file in loras}
    for place in (folder, *(folder / name for name in parts if "/" not in name)):
        for name in _ADAPTERS:
            file = place / name
            if file.exists() and file.resolve() not in known:
                raise LoadError(
                    f"load: folder must hold no weights of adapters (LoRA), got {str(file)!r}: give it as lora, remove "
                    "it, or load the pipeline and the adapter by diffusers, and the pipeline object by latentjac.load"
                )


def _read_scheduler(path: Path, kind: str | None) -> Any:
    """The scheduler of a file, of the class that the pipeline names, or else the file."""
    import diffusers

    settings = read_config(path, _INFINITE)
    if "_class_name" not in settings and "beta_schedule" not in settings:
        raise LoadError(f"load: {str(path)!r} must be settings of a scheduler of diffusers, got others")
    own = str(settings.get("_class_name", kind))
    kind = own if kind is None else kind
    made = getattr(diffusers, kind, None)
    if not isinstance(made, type) or not issubclass(made, diffusers.SchedulerMixin):
        raise LoadError(f"load: {str(path)!r}: scheduler must be one of diffusers, got {kind[:60]!r}")
    try:
        check_class("load", made.__name__)
    except ValueError as error:
        raise LoadError(str(error)) from error
    check_schedule(repr(str(path)), settings)
    try:
        scheduler: Any = cast(Any, made).from_config(settings)
    except Exception as error:
        raise LoadError(f"load: {str(path)!r}: beta_schedule and the like must be of {kind}, got: {error}") from error
    # Schedulers with betas can be exchanged for each other.
    if own != kind and not (hasattr(scheduler, "alphas_cumprod") and "beta_schedule" in settings):
        raise LoadError(f"load: {str(path)!r}: _class_name must be {kind}, got {own[:60]!r}")
    return scheduler


def _read_part(path: Path) -> dict[str, Any]:
    config = read_config(path)
    check_part(repr(str(path)), config)
    return config
