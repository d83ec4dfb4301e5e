"""Export to graphs that run without the encoder's code: torch.export and ONNX."""

import json
import logging
import shutil
import warnings
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from remine.data.errors import InputError
from remine.data.items.tensors import blank, dtype_of
from remine.train.encoders.encoder import Encoder
from remine.train.encoders.pretrained.tokens import TokenNetwork

if TYPE_CHECKING:
    from remine.flows.query.export.checkpoint_export import ExportedModel

OPSET = 20
TOKENIZER_FILES = ("tokenizer*", "vocab*", "special_tokens_map.json", "merges.txt", "*.model")


class TokenGraph(nn.Module):
    """A text encoder over token numbers and their mask, without sorting and cutting of batches."""

    def __init__(self, network: nn.Module, head: nn.Module | None) -> None:
        """`network` maps numbers and mask (m, l) to (m, d)."""
        super().__init__()
        self.network, self.head = network, head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token numbers and mask (m, l) int64 to (m, d) unit vectors."""
        x = self.network(input_ids, attention_mask).float()
        return functional.normalize(x if self.head is None else self.head(x))


class InputGraph(nn.Module):
    """An encoder over its stored inputs."""

    def __init__(self, encoder: Encoder) -> None:
        """The whole encoder."""
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: Tensor) -> Tensor:
        """(m, ...) to (m, d) unit vectors."""
        return cast("Tensor", self.encoder(inputs))


def write_torch(model: "ExportedModel") -> str:
    """Write encoder.pt2, a program of torch.export."""
    graph, arguments, shapes = _graph(model)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(graph, arguments, dynamic_shapes=shapes)
            torch.export.save(program, model.folder / "encoder.pt2")
    except Exception as error:  # noqa: BLE001 - whatever a recorder meets
        raise _cannot(model, "torch.export", error) from None
    return _usage(
        model,
        "import torch\n",
        'program = torch.export.load(f"{folder}/encoder.pt2").module()\n',
        "with torch.inference_mode():\n    vectors = program(",
        "torch.from_numpy({})",
    )


def write_onnx(model: "ExportedModel") -> str:
    """Write encoder.onnx."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise InputError(
            "--to onnx needs two packages: pip install onnx onnxscript; or export it --to torch"
        ) from None
    graph, arguments, shapes = _graph(model)
    names = list(_names(model))
    # It warns of operators of torchvision, which nothing here uses.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph,
                arguments,
                str(model.folder / "encoder.onnx"),
                input_names=names,
                output_names=["vectors"],
                dynamic_shapes=shapes,
                dynamo=True,
                opset_version=OPSET,
                verbose=False,
                external_data=False,
            )
    except Exception as error:  # noqa: BLE001 - whatever a recorder meets
        raise _cannot(model, "ONNX", error) from None
    feed = ", ".join(f'"{name}": {name}' for name in names)
    return _usage(
        model,
        "import onnxruntime\n",
        'session = onnxruntime.InferenceSession(f"{folder}/encoder.onnx")\n',
        f"vectors = session.run(None, {{{feed}}})[0]\n",
        "",
    )


def _cannot(model: "ExportedModel", library: str, error: Exception) -> InputError:
    line = str(error).strip().splitlines()[0][:160] if str(error).strip() else ""
    return InputError(
        f"encoder.name is {model.design.config.name!r}, which {library} cannot record:"
        f" {type(error).__name__}: {line}"
    )


def _graph(model: "ExportedModel") -> tuple[nn.Module, tuple[Tensor, ...], Any]:
    """The module to record, arguments of it, and which of their sizes vary."""
    rows = torch.export.Dim("rows", min=1)
    backbone = model.backbone
    if isinstance(backbone, TokenNetwork):
        numbers = torch.ones((3, 7), dtype=torch.int64)
        mask = torch.ones_like(numbers)
        mask[0, 4:] = 0  # with none padded, transformers records a graph that ignores the mask
        sizes = {0: rows, 1: torch.export.Dim("length", min=2, max=_limit(model))}
        return TokenGraph(backbone.network, model.head).eval(), (numbers, mask), (sizes, sizes)
    design = model.design
    if dtype_of(_dtype(model)).names is not None:
        raise InputError(
            f"encoder.name is {design.config.name!r}, which reads several arrays: a graph of one"
            " input cannot be recorded"
        )
    block = blank(3, design.shape, _dtype(model))
    assert isinstance(block, Tensor)
    return InputGraph(model.encoder).eval(), (block,), ({0: rows},)


def _limit(model: "ExportedModel") -> int:
    return int(model.snapshot.transform.limit)  # type: ignore[attr-defined]


def _dtype(model: "ExportedModel") -> str:
    return str(model.snapshot.version.artifacts["inputs"].card["dtype"])


def _names(model: "ExportedModel") -> tuple[str, ...]:
    is_tokens = isinstance(model.backbone, TokenNetwork)
    return ("input_ids", "attention_mask") if is_tokens else ("inputs",)


def _usage(model: "ExportedModel", imports: str, load: str, call: str, argument: str) -> str:
    """How to call a graph, with what turns contents into its inputs."""
    if isinstance(model.backbone, TokenNetwork):
        prepare = _token_usage(model)
        imports += "from tokenizers import Tokenizer\n"
    else:
        shape = ", ".join(map(str, model.design.shape))
        (model.folder / "inputs.json").write_text(
            json.dumps({"shape": list(model.design.shape), "dtype": _dtype(model)})
        )
        prepare = f"# inputs: an array (m, {shape}) of {_dtype(model)}\n"
    if argument:
        call += ", ".join(argument.format(name) for name in _names(model)) + ").numpy()\n"
    return f"import numpy as np\n{imports}\n{load}{prepare}{call}"


def _token_usage(model: "ExportedModel") -> str:
    folder = model.source_folder
    for pattern in TOKENIZER_FILES:
        for path in folder.glob(pattern):
            shutil.copy(path, model.folder / path.name)
    if not (model.folder / "tokenizer.json").is_file():
        return "# input_ids, attention_mask: (m, l) int64, from the model's own tokenizer\n"
    prompt = model.design.config.prompt
    if model.design.config.library == "st":
        from remine.train.encoders.pretrained import sentence_models

        library = sentence_models.sentence_model(model.design.config.name, folder)
        prompt = sentence_models.prompt_text(library, prompt) or ""
    return (
        'tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")\n'
        f"tokenizer.enable_truncation({_limit(model)})\n"
        "tokenizer.enable_padding()\n"
        f"rows = tokenizer.encode_batch([{prompt!r} + text for text in contents])\n"
        "input_ids = np.array([row.ids for row in rows])\n"
        "attention_mask = np.array([row.attention_mask for row in rows])\n"
    )
