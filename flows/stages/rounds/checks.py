"""What of the settings of training is refused before anything runs."""

from typing import TYPE_CHECKING

from remine.data.errors import InputError
from remine.data.store.records import Artifact
from remine.train.losses.external import PREFIX
from remine.train.losses.softmax import check_alpha
from remine.train.objective import build_loss

if TYPE_CHECKING:
    from remine.flows.config.settings import Config


def check_training(config: "Config", items: Artifact, *, fits: bool = False) -> None:
    """Check that the training classes suffice for the settings.

    Args:
        config: All settings.
        items: Their card counts the classes.
        fits: In a comparison: refuse batches of compare.items items that the classes do not fill,
            which would be smaller than all agreed on.

    Raises:
        InputError: Nothing can be trained on, a loss is unknown, or alpha is too small.

    """
    classes = items.card["splits"]["train"]["classes"]
    train = config.train
    if train.loss == "l2_softmax":
        settings = train.losses.l2_softmax
        check_alpha(settings.alpha, classes, settings.probability)
    if train.loss.startswith(PREFIX):
        # The dimensions are not known yet, and any will do.
        build_loss(train, 2, classes, items.rows)
    for round_train in (train.after_rounds(0), train):
        if not round_train.uses_pk_batches:
            continue
        if classes < 2:
            raise InputError(
                f"train.batches is {train.batches!r}, which needs two classes; there are {classes}"
                " to train on"
            )
        if fits and round_train.batch // round_train.per_class > classes:
            raise InputError(
                f"compare.items = {train.batch} with train.per_class = {train.per_class} needs"
                f" {train.batch // train.per_class} classes in a batch; there are {classes} to"
                " train on"
            )
