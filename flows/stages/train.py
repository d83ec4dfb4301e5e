"""The training stage: a checkpoint and mined triplets in, the next checkpoint out."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue, read_catalogue
from remine.data.items.inputs import Inputs
from remine.data.store.place import Address
from remine.data.store.records import Artifact, digest
from remine.data.store.store import Store
from remine.data.types import SPLITS, Int64
from remine.flows.config.settings import Config
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.jobs.run import Run, code_hash
from remine.flows.jobs.torchrun import announce
from remine.flows.stages.features import device, features, load_trained
from remine.flows.stages.health import advice, probe_of, put_history
from remine.flows.stages.training_data import read_neighbours, settings_of
from remine.mining.in_batch.miners import OnlineMiner
from remine.train.augmentation.augment import augment
from remine.train.augmentation.config import AugmentConfig
from remine.train.batches.confusable_sampler import ConfusableSampler
from remine.train.batches.pk_sampler import PKSampler
from remine.train.batches.triplet_loader import TripletLoader
from remine.train.checkpoint import encoder_bytes, load_optimizer, optimizer_bytes
from remine.train.encoders.encoder import Encoder
from remine.train.loop import History, Learner, Training, make_optimizer
from remine.train.losses.softmax import check_alpha
from remine.train.monitor.health import RoundStoppedError
from remine.train.objective import Miner, Objective
from remine.train.precision import wants_bf16
from remine.train.processes import process_count

OBJECTIVE = "objective.safetensors"


def train(
    run: Run,
    checkpoint: Artifact,
    mined: Artifact | None,
    items: Artifact,
    inputs: Artifact,
    seed: int,
) -> Artifact:
    """The next checkpoint: this one, trained on what was mined, or on PK batches.

    mined: the triplets or the confusable classes, as the round's settings need (`training_data`);
    plain PK batches read neither.
    """
    config = settings_of(run, checkpoint)
    if config.batches == "pk":
        mined = None
    read = mined.digest if mined else items.digest
    given = [checkpoint.digest, read, inputs.digest, asdict(config), seed]
    given += [asdict(run.config.online), asdict(run.config.health), run.config.mining.margin]
    bf16 = wants_bf16(config.precision, device())
    given += [asdict(run.config.augment), bf16, process_count()]
    key = digest(["train", given, torch.get_num_threads(), code_hash("train", "mining")])
    if found := run.store.recall(key):
        if found.kind == "failure":
            raise RoundStoppedError(found.card["why"])
        return found
    round_ = replace(run, config=replace(run.config, train=config))
    arguments = (checkpoint, mined, items, features(run, checkpoint, inputs), key, seed)
    announce((assist, (run.store.address, round_.config, arguments)))
    training = _training(round_, *arguments)
    with run.console.stage("train", "steps") as bar:

        def progress(step: int, loss: float, active: float) -> None:
            bar.update(step, config.steps, f"loss {loss:.4f}, active {active:.0%}")

        try:
            history = training.run(config, progress)
        except RoundStoppedError as error:
            # The same settings would come to the same end: the next run need not train for it.
            files = tuple(put_history(run, error.history))
            why = f"{error}; {advice(round_.config)} would help"
            run.store.remember(key, Artifact(kind="failure", files=files, card={"why": why}))
            run.store.clear_scratch(key)
            raise RoundStoppedError(why) from None
    artifact = _checkpoint(round_, training, history, checkpoint, mined)
    run.store.remember(key, artifact)
    run.store.clear_scratch(key)
    return artifact


def assist(store: Address, config: Config, arguments: tuple[Any, ...]) -> None:
    """In a process beside the one that runs the cycle: train the same round with it."""
    run = Run(config=config, store=Store(store), execute=run_plain, console=Console(quiet=True))
    with suppress(RoundStoppedError):  # process 0 stops at the same step, and says why
        _training(run, *arguments).run(config.train, lambda _step, _loss, _active: None)


def training_record(checkpoint: Artifact) -> Artifact:
    """How a checkpoint was trained: its loss and active fraction, step by step, and its health."""
    names = ("loss", "active", "steps", "round_steps", "batches", "mined", "health")
    card = {k: checkpoint.card[k] for k in names if k in checkpoint.card}
    files = tuple(f for f in checkpoint.files if f.name in ("history.json", "health.parquet"))
    return Artifact(kind="training", files=files, card=card)


def check_training(config: Config, items: Artifact) -> None:
    """Refuse, before anything runs, what the items' training classes do not allow."""
    classes = items.card["splits"]["train"]["classes"]
    if config.train.loss == "l2_softmax":
        settings = config.train.losses.l2_softmax
        check_alpha(settings.alpha, classes, settings.probability)
    for train in (config.train.at(0), config.train):
        if train.online and train.batch // train.per_class > classes:
            raise InputError(
                f"train.batch = {config.train.batch} with train.per_class = {train.per_class} needs"
                f" {train.batch // train.per_class} classes in a batch; there are {classes} to"
                " train on"
            )


def _checkpoint(
    run: Run, training: Training, history: History, parent: Artifact, mined: Artifact | None
) -> Artifact:
    put = run.store.put_bytes
    files = [
        put(encoder_bytes(training.encoder), name="encoder.safetensors"),
        put(optimizer_bytes(training.optimizer), name="optimizer.safetensors"),
        *put_history(run, asdict(history)),
    ]
    card = {
        "encoder": parent.card["encoder"],
        "steps": parent.card["steps"] + len(history.loss),
        "round_steps": len(history.loss),
        "rounds": parent.card.get("rounds", 0) + 1,
        "parent": parent.digest,
        "batches": run.config.train.batches,
        "mined": mined.digest if mined else None,
        "loss": float(np.mean(history.loss[-50:])),
        "active": float(np.mean(history.active[-50:])),
    }
    if history.readings:
        card["health"] = {"first": history.readings[0], "last": history.readings[-1]}
    if history.synthetic:
        card["synthetic"] = float(np.mean(history.synthetic[-50:]))
    assert training.learner is not None
    if learned := training.learner.to_bytes():
        files.append(put(learned, name=OBJECTIVE))
        card["objective"] = _described(run.config, training.labels, training.ids)
    return Artifact(kind="checkpoint", files=tuple(files), card=card)


def _training(
    run: Run,
    checkpoint: Artifact,
    mined: Artifact | None,
    items: Artifact,
    inputs: Artifact,
    key: str,
    seed: int,
) -> Training:
    store, config = run.store, run.config.train
    encoder = load_trained(store, checkpoint, run.config.base).to(device())
    optimizer = make_optimizer(encoder, config)
    if len(checkpoint.files) > 1:
        load_optimizer(optimizer, store.path(checkpoint.files[1]))
    found, mapped = read_catalogue(store, items), Inputs(store.paths(inputs))
    labels = training_labels(found)
    objective = Objective(
        config,
        dimensions=_dimensions(encoder, mapped),
        classes=int(labels.max()) + 1,
        items=len(labels),
        miner=online_miner(run.config),
    )
    learner = Learner(objective, config, device())
    if checkpoint.card.get("objective") == _described(run.config, labels, found.ids):
        path = next(file for file in checkpoint.files if file.name == OBJECTIVE)
        learner.load(store.path(path))
    return Training(
        encoder=encoder,
        optimizer=optimizer,
        loader=_loader(run, mined, labels, seed),
        inputs=mapped,
        ids=found.ids,
        scratch=store.scratch(key),
        device=device(),
        learner=learner,
        labels=labels,
        augment=_augment(run.config.augment),
        bf16=wants_bf16(config.precision, device()),
        probe=probe_of(run, mined, labels, found.ids, seed),
    )


def _augment(config: AugmentConfig) -> Callable[[Tensor, int], Tensor] | None:
    return (lambda pictures, seed: augment(pictures, config, seed)) if config.on else None


def _loader(
    run: Run, mined: Artifact | None, labels: Int64, seed: int
) -> TripletLoader | PKSampler:
    config = run.config.train
    if config.batches == "pk":
        return PKSampler(labels=labels, batch=config.batch, per_class=config.per_class, seed=seed)
    wanted = "classes" if config.batches == "confusable" else "triplets"
    if mined is None or mined.kind != wanted:
        raise ValueError(f"the round trains on {wanted}, and got {mined and mined.kind}")
    if config.batches == "confusable":
        return ConfusableSampler(
            labels=labels,
            batch=config.batch,
            per_class=config.per_class,
            seed=seed,
            neighbours=read_neighbours(run.store, mined),
            random_share=config.random_classes,
        )
    return TripletLoader(
        paths=run.store.paths(mined),
        kinds=config.kinds,
        batch=config.batch,
        seed=seed,
        partners=config.synthesis == "symmetrical",
    )


def training_labels(found: Catalogue) -> Int64:
    """(n,) class numbers from 0 on of the items that are trained on, -1 for the others."""
    mine = found.splits == SPLITS.index("train")
    labels = np.full(len(found.ids), -1, np.int64)
    labels[mine] = np.unique(found.label_codes[mine], return_inverse=True)[1]
    return labels


def online_miner(config: Config) -> Miner | None:
    """The miner that the settings name; None where a batch's own triplets are taken."""
    train = config.train
    if train.miner == "auto":
        return None
    return OnlineMiner(
        name=train.miner, margin=train.margin, unsquared=train.unsquared, config=config.online
    )


def _described(config: Config, labels: Int64 | None, ids: Int64) -> dict[str, Any]:
    """All that the state of an objective belongs to; with another its parameters start afresh.

    Its parameters are by class number and by row, so also which items and classes these are: a
    class may go while another comes, and the counts stay.
    """
    train = config.train
    names = ("loss", "synthesis", "memory")
    described: dict[str, Any] = {name: getattr(train, name) for name in names}
    if not train.loss.startswith("pml:"):
        described["loss_settings"] = asdict(getattr(train.losses, train.loss))
    described["pml"] = list(train.losses.pml)
    if labels is not None:
        described |= {"items": len(labels), "classes": int(labels.max()) + 1}
        described["who"] = hashlib.sha256(ids.tobytes() + labels.tobytes()).hexdigest()
    if train.synthesis != "none":
        described["synthesis_settings"] = asdict(getattr(train.generators, train.synthesis))
    return described


def _dimensions(encoder: Encoder, inputs: Inputs) -> int:
    """Of the embeddings, found out on one item; the encoder is set for use and stays as it is."""
    one = torch.from_numpy(inputs[np.arange(1)]).to(device())
    with torch.no_grad():
        return int(encoder(one).shape[1])
