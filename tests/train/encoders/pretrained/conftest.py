"""Tiny models in the folders that the libraries themselves write; nothing is downloaded."""

import json
import logging
import warnings

import pytest
import torch

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "query", "card", "my", "lost", "i", "a", ":"]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory):
    """A BERT of two layers with its tokenizer, as transformers saves it."""
    import transformers

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
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


@pytest.fixture(scope="session")
def sentence_folder(bert_folder, tmp_path_factory):
    """The same as a sentence-transformers model: CLS pooling, a dense layer, prompts, 12 tokens."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer import modules

        logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
        folder = tmp_path_factory.mktemp("sentences")
        transformer = modules.Transformer(str(bert_folder), max_seq_length=12)
        torch.manual_seed(6)
        model = SentenceTransformer(
            modules=[transformer, modules.Pooling(16, "cls"), modules.Dense(16, 8)],
            prompts={"query": "query: "},
            device="cpu",
        )
        model.save(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory):
    """A small ViT with a preprocessor that asks for 24 pixels."""
    import transformers

    folder = tmp_path_factory.mktemp("vit")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=24,
        patch_size=8,
    )
    torch.manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers.utils.logging.disable_progress_bar()
        transformers.ViTModel(config).save_pretrained(folder)
    recipe = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 24, "width": 24},
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.3, 0.4],
        "rescale_factor": 1 / 255,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(recipe))
    return folder
