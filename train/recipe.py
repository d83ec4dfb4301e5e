"""How a round optimises, by kind of encoder: what the settings of [train] at "auto" stand for.

One table, `RECIPES`, with the measurement that chose each row. What the settings name is taken as
it is.
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

from remine.train.config import TrainConfig
from remine.train.encoders.config import EncoderConfig

Kind = Literal["scratch", "head", "lora", "whole", "own"]
"""What of an encoder is trained.

scratch: a network that starts from random weights.
head: a head on the features of a frozen network, or a linear map of vectors: it starts as the
    identity, on features that are good already.
lora: small matrices beside the weights of a pretrained network.
whole: all weights of a pretrained network.
own: all weights of a network of the user's own, which may be pretrained or not.
"""
DESCRIPTIONS: dict[Kind, str] = {
    "scratch": "a network from scratch",
    "head": "a head on frozen features",
    "lora": "adapters of a pretrained network",
    "whole": "a pretrained network as a whole",
    "own": "your own network as a whole",
}
TENTH = -1
"""Of `Recipe.val_every`: a tenth of the round, as its number of steps is a setting, too."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of a round that have no value of their own at "auto".

    steps: of a round. learning_rate: the highest of the round. warmup: steps, or a share of the
    round below 1. clip_norm: 0 for none. val_every: steps between validations, 0 for none.
    """

    steps: int
    learning_rate: float
    schedule: Literal["constant", "linear", "cosine"]
    warmup: float
    weight_decay: float
    clip_norm: float
    batch_statistics: Literal["batch", "kept"]
    val_every: int

    @property
    def warmup_steps(self) -> int:
        """Steps of the warm-up."""
        return round(self.warmup * self.steps if self.warmup < 1 else self.warmup)


RECIPES: dict[Kind, Recipe] = {
    # The demo's glyphs rise from 64 to 95 % R@1 in three rounds with these, and a constant rate
    # lets a comparison stop anywhere.
    "scratch": Recipe(
        steps=300,
        learning_rate=1e-3,
        schedule="constant",
        warmup=0.0,
        weight_decay=0.0,
        clip_norm=0.0,
        batch_statistics="batch",
        val_every=0,
    ),
    # MAP@R on unseen classes, EfficientNet-Lite0 on 2,020 photos of Caltech-101 (79.2 before) and
    # MiniLM on banking77 (64.2 before), one split each. Without validation and at a constant 1e-3
    # three rounds end at 73.6 and 64.0, at 1e-4 at 80.4 and 68.2. With them: 1e-3 81.3 and 68.3,
    # 3e-4 81.3 and 68.0, 1e-4 81.4 and 67.9, 3e-5 81.5 and 67.5: little depends on the rate, and
    # the lower ones find their best weights after more than a few steps.
    "head": Recipe(
        steps=300,
        learning_rate=1e-4,
        schedule="linear",
        warmup=0.1,
        weight_decay=0.0,
        clip_norm=1.0,
        batch_statistics="kept",
        val_every=TENTH,
    ),
    # On the texts of "whole", below: 63.7 to 68.4 in 60 steps, still rising.
    "lora": Recipe(
        steps=100,
        learning_rate=2e-4,
        schedule="linear",
        warmup=0.1,
        weight_decay=0.01,
        clip_norm=1.0,
        batch_statistics="kept",
        val_every=TENTH,
    ),
    # MiniLM on 2,160 texts of banking77, 60 steps of 32 triplets at 2e-5: 63.7 to 68.5 MAP@R on
    # unseen classes. At 1e-3 it collapses within 30 steps.
    "whole": Recipe(
        steps=100,
        learning_rate=2e-5,
        schedule="linear",
        warmup=0.1,
        weight_decay=0.01,
        clip_norm=1.0,
        batch_statistics="kept",
        val_every=TENTH,
    ),
    # Nobody knows whether it was pretrained: the rate that harms no such network, but batch norm as
    # the network's author wrote it.
    "own": Recipe(
        steps=100,
        learning_rate=2e-5,
        schedule="linear",
        warmup=0.1,
        weight_decay=0.01,
        clip_norm=1.0,
        batch_statistics="batch",
        val_every=TENTH,
    ),
}


def kind_of(encoder: EncoderConfig, content: str) -> Kind:
    """The kind of `encoder` for items of `content`."""
    if encoder.name == "linear" or (encoder.name == "auto" and content == "vector"):
        return "head"
    if not encoder.has_backbone:
        return "scratch"
    if encoder.frozen:
        return "head"
    if encoder.adapter == "lora":
        return "lora"
    return "own" if encoder.is_custom else "whole"


def recipe_of(config: TrainConfig, kind: Kind = "scratch") -> Recipe:
    """The recipe of `kind`, with what `config` sets itself in place of the table's values."""
    names = [field.name for field in fields(Recipe)]
    values = {name: getattr(config, name) for name in names}
    recipe = replace(RECIPES[kind], **{k: v for k, v in values.items() if v != "auto"})
    if recipe.val_every == TENTH:
        return replace(recipe, val_every=max(1, recipe.steps // 10))
    return recipe


def resolved(config: TrainConfig, kind: Kind) -> TrainConfig:
    """`config` with the recipe's values in place of "auto", and steps in place of epochs."""
    return replace(config, **asdict(recipe_of(config, kind)), epochs=0.0)


def recipe_line(config: TrainConfig, kind: Kind) -> str:
    """How `config`, which is resolved, trains an encoder of `kind`, in one line."""
    recipe = recipe_of(config)
    parts = [
        f"{recipe.steps} steps a round",
        f"learning rate {recipe.learning_rate:g} {recipe.schedule}",
        f"warm-up {recipe.warmup_steps}" if recipe.warmup_steps else "no warm-up",
    ]
    if recipe.weight_decay:
        parts.append(f"decay {recipe.weight_decay:g}")
    if recipe.clip_norm:
        parts.append(f"gradients clipped at {recipe.clip_norm:g}")
    if recipe.val_every:
        interval = "step" if recipe.val_every == 1 else f"{recipe.val_every} steps"
        parts.append(f"validated every {interval}")
    return f"{DESCRIPTIONS[kind]}: {', '.join(parts)}"
