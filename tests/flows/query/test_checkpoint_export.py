"""Exported encoders load with their library alone and give the store's embeddings."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import remine
from remine.data.errors import InputError
from remine.flows.cli.main import app
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", "card", "my", "lost", "i", "a", "tax", "rome"]
FAST = {
    "steps": 2,
    "batch": 8,
    "batches": "pk",
    "per_class": 2,
}


def rows_of_texts():
    rng = np.random.default_rng(0)
    labels = np.repeat([f"class {c}" for c in range(8)], 5)
    texts = [" ".join(rng.choice(WORDS[4:], rng.integers(2, 9))) for _ in labels]
    splits = ["train"] * 25 + ["test"] * 15
    return {"text": texts, "label": labels, "split": splits}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT of two layers with its tokenizer, as transformers saves it."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        model = transformers.BertModel(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(std=0.5)
        model.save_pretrained(folder)
        vocabulary = {word: number for number, word in enumerate(WORDS)}
        transformers.BertTokenizer(vocab=vocabulary, model_max_length=24).save_pretrained(folder)
    return folder


def trained(folder, encoder, data):
    """A store with one trained version; `encoder`: its settings."""
    pq.write_table(pa.table(data), folder / "items.parquet")
    tables = {
        "run": {"store": folder / "store", "rounds": 1},
        "data": {"source": folder / "items.parquet"},
        "encoder": encoder,
        "train": FAST,
        "health": {"every": 0},
    }
    with prepared(load_config(tables), run_plain, Console(quiet=True)) as (cycle, items, inputs):
        run_cycle(cycle, items, inputs)


@pytest.fixture(scope="module")
def text_stores(bert, tmp_path_factory):
    """Stores of texts by the kind of encoder."""
    kinds = {
        "whole": {"name": f"hf:{bert}", "prompt": "query "},
        "lora": {"name": f"hf:{bert}", "adapter": "lora", "lora": {"rank": 4}, "dimensions": 6},
        "frozen": {"name": f"hf:{bert}", "frozen": True, "head": "mlp", "pooling": "cls"},
    }
    stores = {}
    for kind, encoder in kinds.items():
        folder = tmp_path_factory.mktemp(kind)
        trained(folder, encoder, rows_of_texts())
        stores[kind] = folder / "store"
    return stores


def export(store, target, folder):
    arguments = ["checkpoint", "export", str(folder), "--to", target, "--store", str(store)]
    process = CliRunner().invoke(app, arguments)
    if process.exception:
        raise process.exception
    return process.stdout


def code_of(folder):
    """The Python in a folder's README.md."""
    card = (folder / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1)
    assert "remine" not in code
    return code


def run_card(folder, **names: object):
    """The vectors that the Python in a folder's README.md makes."""
    values = {"folder": str(folder), **names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code_of(folder), values)
    return np.asarray(values["vectors"])


def run_card_alone(folder, contents):
    """The same in a process in which remine cannot be imported."""
    out = folder.parent / "vectors.npy"
    script = f"""
import sys
sys.modules["remine"] = None
folder, contents = {str(folder)!r}, {contents!r}
{code_of(folder)}
import numpy
numpy.save({str(out)!r}, numpy.asarray(vectors))
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return np.load(out)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("whole", "sentence-transformers"),
        ("lora", "sentence-transformers"),
        ("frozen", "sentence-transformers"),
        ("lora", "transformers"),
        ("frozen", "transformers"),
        ("whole", "torch"),
        ("lora", "onnx"),
    ],
)
def test_a_text_encoder_gives_the_stores_embeddings(text_stores, tmp_path, kind, target):
    folder = tmp_path / "exported"
    assert "wrote" in export(text_stores[kind], target, folder)
    version = remine.open(text_stores[kind])
    texts = rows_of_texts()["text"]
    alone = (kind, target) == ("lora", "sentence-transformers")
    vectors = run_card_alone(folder, texts) if alone else run_card(folder, contents=texts)
    np.testing.assert_allclose(vectors, version.embeddings().vectors, atol=1e-5)
    card = (folder / "README.md").read_text()
    assert "| train | 25 items, 5 classes |" in card
    assert "recall@1" in card
    assert "| train.steps | 2 |" in card
    assert "| torch |" in card


def test_a_conv_net_is_exported_as_a_graph_and_as_nothing_else(tmp_path, glyph_store):
    version = remine.open(glyph_store)
    folder = tmp_path / "net"
    message = "'auto', of which there can be no sentence-transformers model"
    with pytest.raises(InputError, match=message):
        export(glyph_store, "sentence-transformers", folder)
    assert not folder.exists()
    with pytest.raises(InputError, match="of which there can be no model of transformers"):
        export(glyph_store, "transformers", folder)
    export(glyph_store, "torch", folder)
    np.save(tmp_path / "inputs.npy", version._snapshot.inputs[np.arange(40)])
    card = folder / "README.md"
    load = f"inputs = np.load({str(tmp_path / 'inputs.npy')!r}) #"
    card.write_text(card.read_text().replace("# inputs:", load))
    np.testing.assert_allclose(run_card(folder), version.embeddings().vectors[:40], atol=1e-5)


def test_what_cannot_be_written_is_one_line(tmp_path, glyph_store, monkeypatch):
    with pytest.raises(InputError, match=r"^--to tflite: it must be one of sentence-transformers"):
        export(glyph_store, "tflite", tmp_path / "new")
    with pytest.raises(InputError, match="exists already: name a new folder"):
        export(glyph_store, "torch", tmp_path)
    with pytest.raises(InputError, match=r"the folder .*nowhere does not exist"):
        export(glyph_store, "torch", tmp_path / "nowhere" / "new")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match="pip install onnx onnxscript"):
        export(glyph_store, "onnx", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def glyph_store(cycle_store) -> Path:
    return cycle_store
