"""Weights as safetensors: one file alone restores its model."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from model.devices import standard_settings
from model.network import CodecConfig, ResidualGRUCodec

_FOLDER = Path(__file__).parent
# What photos are encoded with. Each file here is named by its id, and none is ever removed: .rgc files name
# the model that decodes them.
DEFAULT_MODEL = "rgc-ba2281edefe7"
DEFAULT_WEIGHTS = _FOLDER / f"{DEFAULT_MODEL}.safetensors"


def released_weights(model_id: str) -> Path:
    """The weights of a model that was the default once.

    Raises:
        ValueError: there is none of that id; the message names those that there are.
    """
    released = sorted(path.stem for path in _FOLDER.glob("*.safetensors"))
    if model_id not in released:
        raise ValueError(f"model {model_id} is none of those that this rgc has: {', '.join(released)}")
    return _FOLDER / f"{model_id}.safetensors"


def save_weights(model: ResidualGRUCodec, path: Path, training: str = "") -> None:
    """Writes the model in half precision, all of it or nothing. `training` says how it was trained."""
    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, {"config": json.dumps(asdict(model.config)), "training": training})
    partial.replace(path)


def read_config(path: Path = DEFAULT_WEIGHTS) -> CodecConfig:
    """The sizes of a weights file's model, without its weights.

    Raises:
        ValueError: the file is not one that `save_weights` wrote.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is no weights file: {error}") from error
    if "config" not in metadata:
        raise ValueError(f"{path} is no rgc weights file: its metadata has no 'config', only {metadata}")
    try:
        sizes = json.loads(metadata["config"])
        groups = ("first_groups", "later_groups", "context_hidden")
        return CodecConfig(**{**sizes, **{name: tuple(sizes[name]) for name in groups}})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} holds another kind of model than this rgc knows: {error}") from error


def load_weights(path: Path = DEFAULT_WEIGHTS) -> ResidualGRUCodec:
    """The model of a weights file, in float32, for inference.

    Raises:
        ValueError: see `read_config` and `ContextModel.check_exact`.
    """
    with standard_settings():
        model = ResidualGRUCodec(read_config(path))
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a dict
    model.load_state_dict(tensors)
    model.context.check_exact()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval().requires_grad_(False)


def model_id(path: Path) -> str:
    """Names a model by its weights: "rgc-" and 12 hexadecimal digits of the file's SHA-256."""
    return "rgc-" + hashlib.sha256(path.read_bytes()).hexdigest()[:12]
