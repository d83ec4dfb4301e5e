"""The TOML loader: strict about names, types and ranges, and it says what it knows."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from remine.data.errors import InputError
from remine.flows.config.settings import Config, load_config
from remine.flows.config.starters import STARTERS
from remine.flows.config.template import config_text
from remine.train.recipe import kind_of, recipe_of


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "remine.toml"
    path.write_text(text)
    return path


def test_without_a_file_all_is_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(None)
    assert config.to_json() == Config().to_json()
    assert config.store == tmp_path / "runs" / "glyphs"


def test_paths_start_at_the_file(tmp_path):
    path = write(tmp_path, '[run]\nstore = "here"')
    assert load_config(path).store == tmp_path / "here"


def test_overrides_win(tmp_path):
    path = write(tmp_path, "[train]\nsteps = 5")
    config = load_config(path, ["train.steps=7", "data.source=items.parquet", "mining.margin=1"])
    assert (config.train.steps, config.data.source, config.mining.margin) == (
        7,
        "items.parquet",
        1.0,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mining]\nmargn = 1", "unknown key mining.margn; known: positives, max_positives"),
        ("[minin]\nmargin = 1", "unknown key minin; known: run, data"),
        (
            "[mining]\nmargin = 9",
            "mining.margin is 9.0; it must be above 0 and at most 4 (squared Euc",
        ),
        ("[mining]\nmargin = 'wide'", "mining.margin is 'wide'; it must be a number"),
        (
            "[mining]\nnegatives = 'hard'",
            "mining.negatives is 'hard'; it must be a list of one or more of",
        ),
        (
            "[mining]\nnegatives = ['harder']",
            "mining.negatives is ['harder']; it must be a list of one or more of semi_hard, hard",
        ),
        ("[mining]\nnegatives = ['hard', 'hard']", "name each strategy once"),
        ("[train]\nsteps = 1.5", "train.steps is 1.5; it must be a whole number"),
        ("[train]\nsteps = true", "train.steps is True; it must be a whole number"),
        ("[train]\nsteps = 0", "train.steps is 0; it must be 1 to"),
        ("train = 3", "train is 3; it must be a table"),
        ("[data.columns]\nlable = 'x'", "unknown key data.columns.lable; known: id, label"),
        ("[data.columns]\nlabel = 3", "data.columns is {'label': 3}; it must be a table of texts"),
        ("[data.glyphs]\nvariants = 2", "data.glyphs.variants > 1 needs data.glyphs.jitter > 0"),
        ("[train]\nminer = 'best'", "train.miner is 'best'; it must be one of auto, batch_all"),
        (
            "[online]\nfallback = 'none'",
            "online.fallback is 'none'; it must be one of skip, farthest",
        ),
        ("[train]\nloss = 'n_pair'\nbatches = 'pk'\nper_class = 1", "no item has a positive"),
        (
            "[train.losses.triplet]\ndistance = 'unsquared'",
            "which selected the semi-hard triplets, is a squared distance",
        ),
        ("[train]\nsynthesis = 'symmetrical'", "set mining.second_negative = true"),
        ("[train.losses.margin]\nbeta = 3", "train.losses.margin.beta is 3.0; it must be above 0"),
        ("[train.losses.margn]\nbeta = 3", "unknown key train.losses.margn; known: contrastive"),
        ("[encoder]\nname = 'resnet'", "encoder.name is 'resnet'; it must be one of auto, conv"),
        (
            "[train]\nlayer_decay = 0.5",
            "train.layer_decay is 0.5, which is for a pretrained or own",
        ),
        (
            "[encoder]\nname = 'minilm'\nfrozen = true\n[train]\nunfreeze_after = 5",
            "train.unfreeze_after is 5, which is for a pretrained or own network that is trained",
        ),
        (
            "[encoder]\nname = 'minilm'\n[train]\nhead_factor = 10",
            "train.head_factor is 10.0, but the network has no head above it: set encoder.head",
        ),
        ("[train]\nsteps = 7\nepochs = 1", "train.steps is 7 and train.epochs is 1: both say how"),
        (
            "[train]\nsteps = 'all'",
            "train.steps is 'all'; it must be 1 to 10,000,000 or",
        ),
        ("[train]\nwarmup = -1", 'train.warmup is -1.0; it must be 0 to 1,000,000 or "auto"'),
        ("[run", "remine.toml: Expected"),
        (f"[run]\nseed = {'9' * 5000}", "remine.toml: Exceeds the limit"),
        (f"[run]\nseed = 0x{'f' * 5000}", "run.seed is a number of thousands of digits; it must"),
    ],
)
def test_bad_settings_are_refused_in_one_line(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as refusal:
        load_config(path)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("override", ["steps=3", "train.steps", "train.stepz=3"])
def test_bad_overrides_are_refused(override):
    with pytest.raises(InputError):
        load_config(None, [override])


def test_the_template_is_the_default_config(tmp_path):
    text = config_text()
    assert load_config(write(tmp_path, text)).to_json() == Config().to_json()
    # Every commented setting is valid TOML with the default as its value.
    live = re.sub(r"^#(\w)", r"\1", text, flags=re.MULTILINE)
    assert len(tomllib.loads(live)["train"]) == len(fields(Config().train))
    assert load_config(write(tmp_path, live)).to_json() == Config().to_json()


@pytest.mark.parametrize("purpose", STARTERS)
def test_a_short_config_loads_and_hints_at_what_would_be_chosen(tmp_path, purpose):
    text = STARTERS[purpose]
    config = load_config(write(tmp_path, text))
    assert config.train == Config().train  # nothing that people set by habit overrules the recipe
    live = load_config(write(tmp_path, re.sub(r"^#(\w)", r"\1", text, flags=re.MULTILINE)))
    recipe = recipe_of(config.train, kind_of(config.encoder, "text"))
    assert recipe_of(live.train, "whole").val_every == recipe.val_every
    assert (live.train.steps, live.train.learning_rate) == (recipe.steps, recipe.learning_rate)
    assert live.train.patience == config.train.patience
