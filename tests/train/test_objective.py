"""Every loss, miner and synthesis in the real loop: it learns, and resumes to the same bits."""

import numpy as np
import pytest
import torch

from remine.data import schemas
from remine.data.errors import InputError, StoreError
from remine.data.items.inputs import Inputs
from remine.data.types import SEMI_HARD, Triplets
from remine.train.batches.pk_sampler import PKSampler
from remine.train.batches.row_batch import row_batches
from remine.train.batches.triplet_loader import TripletLoader
from remine.train.checkpoint import encoder_bytes, optimizer_bytes
from remine.train.config import TrainConfig
from remine.train.course import step_seed
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.encoder import build_encoder
from remine.train.learner import Learner
from remine.train.loop import Training
from remine.train.losses.config import LossesConfig, MarginConfig
from remine.train.objective import Objective, check_classes
from remine.train.optimization.groups import make_optimizer

N, D, CLASSES = 60, 8, 5
CPU = torch.device("cpu")


def random_miner(embeddings, _pool, labels, items, seed):
    """A miner that draws one triplet an anchor; stands for any of them."""
    generator = torch.Generator().manual_seed(seed)
    triplets = []
    for a in range(len(embeddings)):
        positives = ((labels == labels[a]) & (items != items[a])).nonzero()[:, 0]
        negatives = (labels != labels[a]).nonzero()[:, 0]
        if len(positives) and len(negatives):
            p = positives[torch.randint(len(positives), (1,), generator=generator)]
            n = negatives[torch.randint(len(negatives), (1,), generator=generator)]
            triplets.append([a, int(p), int(n)])
    return torch.tensor(triplets).T


COMMON = {"steps": 7, "batch": 8, "save_every": 2, "learning_rate": 0.01}
PK = {"batches": "pk", "per_class": 4}
EVERY = LossesConfig(margin=MarginConfig(per_class=True, per_item=True, nu=0.01))
CASES = {
    "contrastive": {"loss": "contrastive"},
    "margin": {"loss": "margin", "losses": EVERY},
    "n-pair": {"loss": "n_pair"},
    "lifted": {"loss": "lifted_structure"},
    "angular": {"loss": "angular"},
    "softmax": {"loss": "softmax"},
    "l2 softmax": {"loss": "l2_softmax"},
    "mined again": {"miner": "random"},
    "symmetrical": {"synthesis": "symmetrical"},
    "hdml": {"synthesis": "hdml"},
    "daml": {"synthesis": "daml"},
    "pk triplet": PK,
    "pk margin": {"loss": "margin", "losses": EVERY, **PK},
    "pk n-pair": {"loss": "n_pair", **PK},
    "pk symmetrical": {"synthesis": "symmetrical", **PK},
    "pk symmetrical angular": {"loss": "angular", "synthesis": "symmetrical", **PK},
    "pk mined": {"miner": "random", **PK},
    "pk memory": {"memory": 20, **PK},
    "pk memory mined": {"memory": 20, "loss": "contrastive", "miner": "random", **PK},
    "pk hdml": {"synthesis": "hdml", "miner": "random", **PK},
    "pk proxies": {"loss": "pml:ProxyAnchorLoss", **PK},
    "pk external drawn": {
        "loss": "pml:TripletMarginLoss",
        "losses": LossesConfig(pml=("triplets_per_anchor=2",)),
        **PK,
    },
    "pk external mined": {"loss": "pml:TripletMarginLoss", "miner": "random", "memory": 20, **PK},
}


@pytest.fixture
def data(tmp_path):
    """Vectors of five classes, and triplets of them with a partner for nine in ten negatives."""
    rng = np.random.default_rng(0)
    codes = np.arange(N) % CLASSES
    inputs = 3 * rng.standard_normal((N, 12)).astype(np.float32)
    inputs[:, :3] = rng.standard_normal((CLASSES, 3))[codes] + 0.1 * rng.standard_normal((N, 3))
    np.save(tmp_path / "inputs.npy", inputs)
    anchor = np.repeat(np.arange(N), 3)
    positive = (anchor + 5 * rng.integers(1, N // 5, len(anchor))) % N
    negative = (anchor + 5 * rng.integers(0, N // 5, len(anchor)) + rng.integers(1, 5)) % N
    ids, t = np.arange(N) * 7 + 2**40, len(anchor)
    partner = np.where(rng.random(t) < 0.9, ids[(negative + 5) % N], -1)
    triplets = Triplets(
        anchor_id=ids[anchor],
        positive_id=ids[positive],
        negative_id=ids[negative],
        d_ap=np.zeros(t, np.float32),
        d_an=np.zeros(t, np.float32),
        kind=np.full(t, SEMI_HARD, np.int8),
        negative_rank=np.zeros(t, np.int32),
        negative2_id=partner,
    )
    table = schemas.triplets_table(triplets)
    schemas.write(table, tmp_path / "triplets.parquet", schema="triplets/1", provenance={})
    return tmp_path, ids, codes.astype(np.int64)


def config_of(case, **settings: int):
    return TrainConfig(**{**COMMON, **CASES[case], **settings})


def training(data, config, scratch="scratch", *, has_labels=True):
    folder, ids, codes = data
    encoder = build_encoder(EncoderConfig(dimensions=D), "vector", (12,))
    loader = (
        PKSampler(labels=codes, batch=config.batch, per_class=config.per_class, seed=5)
        if config.uses_pk_batches
        else TripletLoader(
            paths=[folder / "triplets.parquet"],
            kinds=("semi_hard",),
            batch=config.batch,
            seed=5,
            partners=config.synthesis == "symmetrical",
        )
    )
    miner = random_miner if config.miner == "random" else None
    objective = Objective(
        config, dimensions=D, classes=CLASSES if has_labels else 0, items=N, miner=miner
    )
    return Training(
        encoder=encoder,
        optimizer=make_optimizer(encoder, config),
        loader=loader,
        inputs=Inputs([folder / "inputs.npy"]),
        ids=ids,
        scratch=folder / scratch,
        device=CPU,
        learner=Learner(objective, config, CPU),
        labels=codes if has_labels else None,
    )


def outcome(round_, history):
    return (
        encoder_bytes(round_.encoder),
        optimizer_bytes(round_.optimizer),
        round_.learner.to_bytes(),
        vars(history),
    )


class Killed(Exception):  # noqa: N818 - it is what happens, not what went wrong
    pass


def silent(step, loss, active):
    pass


def skip_external(case):
    if "pml" in CASES[case].get("loss", ""):
        pytest.importorskip("pytorch_metric_learning")


@pytest.mark.parametrize("case", CASES)
def test_a_killed_round_resumes_to_the_same_bits(data, case):
    skip_external(case)
    config = config_of(case)
    complete = training(data, config)
    expected = outcome(complete, complete.run(config, silent))

    def kill(step, _loss, _active) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        training(data, config, "killed").run(config, kill)
    torch.manual_seed(99)  # a new process; nothing may hang on the global generator
    resumed_round, steps = training(data, config, "killed"), []
    history = resumed_round.run(config, lambda step, _loss, _active: steps.append(step))
    assert steps == [5, 6, 7]
    assert outcome(resumed_round, history) == expected
    if "symmetrical" in case or "hdml" in case or "daml" in case:
        assert len(history.synthetic) == 7


@pytest.mark.parametrize("case", CASES)
def test_it_learns(data, case):
    skip_external(case)
    config = config_of(case, steps=80, batch=16, save_every=100)
    history = training(data, config).run(config, silent)
    assert np.mean(history.loss[-10:]) < np.mean(history.loss[:10])


@pytest.mark.parametrize(
    "case", ["margin", "softmax", "hdml", "daml", "pk proxies", "pk memory", "pk margin"]
)
def test_what_a_loss_learns_is_in_its_state(data, case):
    skip_external(case)
    config = config_of(case)
    round_ = training(data, config)
    before = {k: v.clone() for k, v in round_.learner.objective.state_dict().items()}
    assert before
    round_.run(config, silent)
    after = round_.learner.objective.state_dict()
    equal_names = [name for name in before if torch.equal(before[name], after[name])]
    assert len(equal_names) <= len(before) / 2


def test_the_state_of_another_loss_is_refused(data, tmp_path):
    first, second = (training(data, config_of(case)).learner for case in ("softmax", "margin"))
    (tmp_path / "state").write_bytes(first.to_bytes())
    with pytest.raises(StoreError, match="holds the state of another loss") as refusal:
        second.load(tmp_path / "state")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("case", ["contrastive", "symmetrical", "daml"])
def test_triplets_alone_are_enough_for_some(data, case):
    config = config_of(case)
    history = training(data, config, has_labels=False).run(config, silent)
    assert len(history.loss) == 7


@pytest.mark.parametrize(
    "case", ["n-pair", "lifted", "angular", "softmax", "l2 softmax", "margin", "hdml"]
)
def test_losses_that_need_classes_say_so(data, case):
    with pytest.raises(InputError, match=r"needs the class of every item, and the items have none"):
        training(data, config_of(case), has_labels=False)


def test_an_alpha_too_small_for_so_many_classes_is_refused():
    config = TrainConfig(loss="l2_softmax")
    Objective(config, dimensions=D, classes=10_000, items=N)
    with pytest.raises(InputError, match=r"l2_softmax.alpha is 16.0: with 1000000000 classes"):
        check_classes(config, 10**9)


def test_a_named_miner_must_be_passed_in():
    with pytest.raises(InputError, match=r"train\.miner is 'batch_hard', and training was given"):
        Objective(TrainConfig(miner="batch_hard"), dimensions=D, classes=3, items=9)


def test_seeds_of_steps_differ():
    seeds = {step_seed(seed, step) for seed in range(20) for step in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_first_symmetrical_batch_has_its_partners(data):
    config = config_of("symmetrical")
    round_ = training(data, config)
    ids = next(round_.loader.batches())
    assert ids.shape == (4, 8)
    batch = next(row_batches(round_.loader, round_.ids, 0))
    rows = batch.rows
    assert len(rows) == 24 + (ids[3] >= 0).sum()  # nothing is embedded for a missing partner
    for number, partner in enumerate(batch.partners.tolist()):
        expected = ids[3, number] if ids[3, number] >= 0 else ids[2, number]
        assert data[1][rows[partner]] == expected
