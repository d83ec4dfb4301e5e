"""Export to sentence-transformers (texts) and to transformers (texts and pictures)."""

import json
import shutil
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import nn

from remine.data.errors import InputError
from remine.train.encoders.heads import LinearBody, MlpBody
from remine.train.encoders.pretrained import sentence_models, transformer_models
from remine.train.encoders.pretrained.model_files import imported
from remine.train.encoders.pretrained.sentence_models import SentenceNetwork
from remine.train.encoders.pretrained.transformer_models import PicturePooling, TextPooling

if TYPE_CHECKING:
    from remine.flows.query.export.checkpoint_export import ExportedModel

HEAD = "head.safetensors"


def write_sentence_transformer(model: "ExportedModel") -> str:
    """Write the model's own modules with the trained weights, the head as dense layers, a norm."""
    network = _network(model)
    name = model.design.config.name
    if not model.is_text or not isinstance(network, SentenceNetwork | TextPooling):
        raise InputError(
            f"encoder.name is {name!r}, of which there can be no sentence-transformers model: it is"
            " no transformer over texts; export it --to torch or onnx"
        )
    if isinstance(network, SentenceNetwork):
        library = sentence_models.sentence_model(name, model.source_folder)
        library.max_seq_length = model.snapshot.transform.limit  # type: ignore[attr-defined]
        _load_weights(library[0].auto_model, network.transformer)
        for ours, theirs in zip(network.rest, list(library)[1:], strict=True):
            theirs.load_state_dict(ours.state_dict())
        prompt = sentence_models.prompt_text(library, model.design.config.prompt)
    else:
        library = _assembled(model, network)
        prompt = model.design.config.prompt or None
    if prompt:
        library.prompts = {**library.prompts, "remine": prompt}
        library.default_prompt_name = "remine"
    modules = [*library, *_dense_layers(model, library)]
    _save(library, modules, model)
    return (
        "from sentence_transformers import SentenceTransformer\n\n"
        "model = SentenceTransformer(folder)\n"
        "vectors = model.encode(contents)\n"
    )


def _save(library: Any, modules: list[nn.Module], model: "ExportedModel") -> None:
    sentence_transformers = imported("sentence_transformers", model.design.config.name, "")
    result = sentence_transformers.SentenceTransformer(
        modules=modules,
        device="cpu",
        prompts=library.prompts,
        default_prompt_name=library.default_prompt_name,
    )
    result.save(str(model.folder), create_model_card=False)


def _assembled(model: "ExportedModel", network: TextPooling) -> Any:
    """A sentence-transformers model of a transformer, its tokenizer and its pooling."""
    name = model.design.config.name
    sentence_transformers = imported("sentence_transformers", name, sentence_models.INSTALL)
    parts: Any = imported(
        "sentence_transformers.sentence_transformer.modules", name, sentence_models.INSTALL
    )
    limit = model.snapshot.transform.limit  # type: ignore[attr-defined]
    transformer = parts.Transformer(str(model.source_folder), max_seq_length=limit)
    _load_weights(transformer.auto_model, network.transformer)
    pooling = parts.Pooling(transformer.get_embedding_dimension(), network.pooling)
    return sentence_transformers.SentenceTransformer(modules=[transformer, pooling], device="cpu")


def _load_weights(target: Any, trained: Any) -> None:
    """The trained weights into a library's own module, which may have a pooler besides."""
    missing = target.load_state_dict(trained.state_dict(), strict=False)
    assert not missing.unexpected_keys, missing


def _dense_layers(model: "ExportedModel", library: Any) -> list[nn.Module]:
    """The head as modules of sentence-transformers, and the norm if it is not there yet."""
    name = model.design.config.name
    parts: Any = imported(
        "sentence_transformers.sentence_transformer.modules", name, sentence_models.INSTALL
    )
    head = model.head
    last_is_norm = isinstance(library[-1], parts.Normalize)
    if head is None:
        return [] if last_is_norm else [parts.Normalize()]
    # A head reads unit vectors.
    layers = [] if last_is_norm else [parts.Normalize()]
    for weight, bias, activation in dense_form(head):
        rows, columns = weight.shape
        dense = parts.Dense(columns, rows, bias=bias is not None, activation_function=activation)
        dense.linear.weight.data.copy_(weight)
        if bias is not None:
            dense.linear.bias.data.copy_(bias)
        layers.append(dense)
    return [*layers, parts.Normalize()]


Dense = tuple[torch.Tensor, torch.Tensor | None, nn.Module]
"""Weight, bias and activation of a dense layer."""


@torch.no_grad()
def dense_form(head: nn.Module) -> list[Dense]:
    """A head as plain dense layers over unit vectors.

    The residual layer of an MLP becomes two: relu(x) - relu(-x) is x, so that the first layer
    carries the input past the hidden units.
    """
    if isinstance(head, LinearBody):
        return [(head.layer.weight, None, nn.Identity())]
    assert isinstance(head, MlpBody)
    d = head.layer.in_features
    eye, zeros = torch.eye(d), torch.zeros(2 * d)
    widen = torch.cat([head.widen.weight, eye, -eye])
    narrow = torch.cat([head.narrow.weight, eye, -eye], dim=1)
    return [
        (widen, torch.cat([head.widen.bias, zeros]), nn.ReLU()),
        (head.layer.weight @ narrow, head.layer.weight @ head.narrow.bias, nn.Identity()),
    ]


def write_transformer(model: "ExportedModel") -> str:
    """Write the transformer with its tokenizer or preprocessor, and the head beside it."""
    network = _network(model)
    known = isinstance(network, SentenceNetwork | TextPooling | PicturePooling)
    plain = isinstance(network, SentenceNetwork) and _is_plain(network)
    if not known or (isinstance(network, SentenceNetwork) and not plain):
        what = "has modules of its own behind the transformer" if known else "is none"
        raise InputError(
            f"encoder.name is {model.design.config.name!r}, of which there can be no model of"
            f" transformers: it {what}; export it --to torch or onnx"
        )
    transformer = transformer_models.auto_model(model.design.config.name, model.source_folder)
    target = transformer
    if isinstance(network, PicturePooling) and hasattr(transformer, "vision_model"):
        target = transformer.vision_model
    _load_weights(target, network.transformer)
    transformer.save_pretrained(str(model.folder))
    for pattern in ("tokenizer*", "vocab*", "special_tokens_map.json", "merges.txt", "*.model"):
        for path in model.source_folder.glob(pattern):
            shutil.copy(path, model.folder / path.name)
    if (recipe := model.source_folder / "preprocessor_config.json").is_file():
        shutil.copy(recipe, model.folder / recipe.name)
    layers = dense_form(model.head) if model.head is not None else []
    tensors = {}
    for number, (weight, bias, _) in enumerate(layers):
        tensors[f"{number}.weight"] = weight.contiguous()
        if bias is not None:
            tensors[f"{number}.bias"] = bias.contiguous()
    if tensors:
        save_file(tensors, model.folder / HEAD)
    pooling = _pooling(network)
    note = {"pooling": pooling, "head_layers": len(layers)}
    (model.folder / "remine.json").write_text(json.dumps(note, indent=1))
    body = _text_usage(model, pooling) if model.is_text else _picture_usage(pooling)
    return body + _head_usage(len(layers))


def _is_plain(network: SentenceNetwork) -> bool:
    """Whether only mean or CLS pooling and a norm follow the transformer."""
    names = [type(module).__name__ for module in network.rest]
    return names in (["Pooling"], ["Pooling", "Normalize"]) and _pooling(network) in ("mean", "cls")


def _pooling(network: nn.Module) -> str:
    if isinstance(network, SentenceNetwork):
        return str(network.rest[0].pooling_mode)
    assert isinstance(network, TextPooling | PicturePooling)
    return network.pooling


def _text_usage(model: "ExportedModel", pooling: str) -> str:
    config = model.design.config
    prompt = config.prompt
    if config.library == "st":
        library = sentence_models.sentence_model(config.name, model.source_folder)
        prompt = sentence_models.prompt_text(library, config.prompt) or ""
    limit = model.snapshot.transform.limit  # type: ignore[attr-defined]
    read = (
        "import torch\nfrom transformers import AutoModel, AutoTokenizer\n\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        "model = AutoModel.from_pretrained(folder).eval()\n"
        f"texts = [{prompt!r} + text for text in contents]\n"
        f"batch = tokenizer(texts, padding=True, truncation=True, max_length={limit},"
        ' return_tensors="pt")\n'
        "with torch.inference_mode():\n"
        "    states = model(**batch).last_hidden_state\n"
    )
    if pooling == "cls":
        return read + "x = states[:, 0]\n"
    return read + (
        'mask = batch["attention_mask"].unsqueeze(2)\n'
        "x = (states * mask).sum(dim=1) / mask.sum(dim=1)\n"
    )


def _picture_usage(pooling: str) -> str:
    read = (
        "import torch\nfrom transformers import AutoModel\n\n"
        "# pixels: (m, 3, height, width), sized and normalised as preprocessor_config.json says\n"
        "model = AutoModel.from_pretrained(folder).eval()\n"
        'model = getattr(model, "vision_model", model)\n'
        "with torch.inference_mode():\n"
        "    output = model(pixel_values=pixels)\n"
    )
    if pooling == "auto":
        return read + (
            "x = output.pooler_output\n"
            "x = output.last_hidden_state.mean(dim=1) if x is None else x.flatten(1)\n"
        )
    pooled = "[:, 0]" if pooling == "cls" else ".mean(dim=1)"
    return read + f"x = output.last_hidden_state{pooled}\n"


def _head_usage(layers: int) -> str:
    if not layers:
        return "vectors = torch.nn.functional.normalize(x)\n"
    lines = [
        "from safetensors.torch import load_file\n",
        f'head = load_file(f"{{folder}}/{HEAD}")',
        "x = torch.nn.functional.normalize(x)",
        *(
            f'x = torch.nn.functional.linear(x, head["{i}.weight"], head.get("{i}.bias"))'
            + (".relu()" if i < layers - 1 else "")
            for i in range(layers)
        ),
        "vectors = torch.nn.functional.normalize(x)",
    ]
    return "\n".join(lines) + "\n"


def _network(model: "ExportedModel") -> nn.Module:
    """The network that a library loaded, without remine's own modules around it."""
    backbone = model.backbone
    inner = getattr(backbone, "network", None)
    return inner if isinstance(inner, nn.Module) else backbone
