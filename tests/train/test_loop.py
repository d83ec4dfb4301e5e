"""The training loop: it learns, and a killed round goes on as if nothing had happened."""

import numpy as np
import pytest
import torch

from remine.data import schemas
from remine.data.errors import StoreError
from remine.data.items.inputs import Inputs
from remine.data.types import SEMI_HARD, Triplets
from remine.train.batches.triplet_loader import TripletLoader
from remine.train.checkpoint import encoder_bytes, optimizer_bytes
from remine.train.config import TrainConfig
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.encoder import build_encoder
from remine.train.loop import Training
from remine.train.optimization.groups import make_optimizer

N = 60
CONFIG = TrainConfig(steps=11, batch=8, save_every=3, learning_rate=0.01)


class Killed(Exception):  # noqa: N818 - it is what happens, not what went wrong
    pass


def silent(step, loss, active):
    pass


def kill_at(last):
    def progress(step: int, _loss: float, _active: float) -> None:
        if step == last:
            raise Killed

    return progress


@pytest.fixture(params=["vector", "image"])
def content(request):
    return request.param


@pytest.fixture
def dataset(tmp_path, content):
    """Triplets and inputs on disk: five classes that only some of the numbers tell apart."""
    rng = np.random.default_rng(0)
    codes = np.arange(N) % 5
    if content == "vector":
        inputs = 3 * rng.standard_normal((N, 12)).astype(np.float32)
        inputs[:, :3] = rng.standard_normal((5, 3))[codes] + 0.1 * rng.standard_normal((N, 3))
    else:
        patterns = rng.integers(0, 256, (5, 1, 10, 10))[codes]
        inputs = ((patterns + 3 * rng.integers(0, 256, (N, 1, 10, 10))) // 4).astype(np.uint8)
    np.save(tmp_path / "inputs.npy", inputs)
    anchor = np.repeat(np.arange(N), 3)
    positive = (anchor + 5 * rng.integers(1, N // 5, len(anchor))) % N
    negative = (anchor + 5 * rng.integers(0, N // 5, len(anchor)) + rng.integers(1, 5)) % N
    ids = np.arange(N) * 7 + 2**40
    t = len(anchor)
    triplets = Triplets(
        anchor_id=ids[anchor],
        positive_id=ids[positive],
        negative_id=ids[negative],
        d_ap=np.zeros(t, np.float32),
        d_an=np.zeros(t, np.float32),
        kind=np.full(t, SEMI_HARD, np.int8),
        negative_rank=np.zeros(t, np.int32),
    )
    table = schemas.triplets_table(triplets)
    schemas.write(table, tmp_path / "triplets.parquet", schema="triplets/1", provenance={})
    return tmp_path, content, inputs.shape[1:], ids


def training(dataset, scratch, config=CONFIG, seed=0):
    """A round as a new process would set it up."""
    folder, content, shape, ids = dataset
    encoder = build_encoder(EncoderConfig(width=8, dimensions=8), content, shape, seed)
    loader = TripletLoader(
        paths=[folder / "triplets.parquet"], kinds=("semi_hard",), batch=config.batch, seed=5
    )
    return Training(
        encoder=encoder,
        optimizer=make_optimizer(encoder, config),
        loader=loader,
        inputs=Inputs([folder / "inputs.npy"]),
        ids=ids,
        scratch=folder / scratch,
        device=torch.device("cpu"),
    )


def outcome(round_, history):
    """All that a round leaves, as bytes and numbers."""
    return encoder_bytes(round_.encoder), optimizer_bytes(round_.optimizer), vars(history)


@pytest.fixture
def expected_outcome(dataset):
    round_ = training(dataset, "undisturbed")
    history = round_.run(CONFIG, silent)
    assert min(history.active) > 0  # every step learns something that a resumed one could miss
    return outcome(round_, history)


@pytest.mark.parametrize("last", [2, 3, 7, 11])
def test_a_killed_round_resumes_to_the_same_bits(dataset, expected_outcome, last):
    with pytest.raises(Killed):
        training(dataset, "killed").run(CONFIG, kill_at(last))
    # Whatever the new process starts with, the save decides; without one it starts from step 1.
    resumed_round = training(dataset, "killed", seed=1 if last > 3 else 0)
    steps = []
    history = resumed_round.run(CONFIG, lambda step, _loss, _active: steps.append(step))
    assert outcome(resumed_round, history) == expected_outcome
    saved_step = (last - 1) // 3 * 3
    assert steps == list(range(saved_step + 1, 12))


def test_a_round_may_be_killed_again_and_again(dataset, expected_outcome):
    for last in (4, 5, 8, 10):
        with pytest.raises(Killed):
            training(dataset, "killed").run(CONFIG, kill_at(last))
    resumed_round = training(dataset, "killed")
    assert outcome(resumed_round, resumed_round.run(CONFIG, silent)) == expected_outcome


def test_a_half_written_save_is_passed_over(dataset, expected_outcome):
    with pytest.raises(Killed):
        training(dataset, "killed").run(CONFIG, kill_at(5))
    half = dataset[0] / "killed" / "saving"
    half.mkdir()
    (half / "encoder").write_bytes(b"half")
    resumed_round = training(dataset, "killed")
    assert outcome(resumed_round, resumed_round.run(CONFIG, silent)) == expected_outcome


@pytest.mark.parametrize(
    ("steps", "every", "saved_steps"),
    [(11, 3, [3, 6, 9]), (9, 3, [3, 6]), (4, 1, [1, 2, 3]), (5, 9, [])],
)
@pytest.mark.parametrize("content", ["vector"], indirect=True)
def test_saves_come_as_often_as_wished_and_only_the_newest_stays(
    dataset, steps, every, saved_steps
):
    steps_with_save = set()

    def look(_step, _loss, _active) -> None:
        names = [path.name for path in (dataset[0] / "saves").glob("*")]
        assert len(names) <= 1
        steps_with_save.update(int(name.split("-")[0]) for name in names)

    config = TrainConfig(steps=steps, batch=8, save_every=every)
    training(dataset, "saves", config).run(config, look)
    assert sorted(steps_with_save) == saved_steps


@pytest.mark.parametrize("content", ["vector"], indirect=True)
def test_a_damaged_save_is_not_resumed_from(dataset):
    config = TrainConfig(steps=5, batch=8, save_every=2)
    expected_history = training(dataset, "undisturbed", config).run(config, silent)
    training(dataset, "saves", config).run(config, silent)
    (save,) = (dataset[0] / "saves").glob("*")
    content = bytearray((save / "encoder").read_bytes())
    content[-1] ^= 1
    (save / "encoder").write_bytes(content)
    assert training(dataset, "saves", config).run(config, silent) == expected_history


def test_history_and_progress_tell_every_step(dataset):
    reports = []
    round_ = training(dataset, "told")
    history = round_.run(CONFIG, lambda *step: reports.append(step))
    steps = range(1, 12)
    assert reports == list(zip(steps, history.loss, history.active, strict=True))
    assert not round_.encoder.training  # ready for use


@pytest.mark.parametrize("content", ["image"], indirect=True)
def test_batch_statistics_come_from_the_steps_alone(dataset):
    # A loaded encoder is set for use, where they do not move; and no batch is read ahead.
    round_ = training(dataset, "used")
    round_.encoder.eval()
    round_.run(CONFIG, silent)
    counts = [n for name, n in round_.encoder.named_buffers() if name.endswith("tracked")]
    assert counts
    assert set(map(int, counts)) == {11}


def test_training_lowers_the_loss(dataset):
    config = TrainConfig(steps=60, batch=32, learning_rate=0.01)
    history = training(dataset, "long", config).run(config, silent)
    before, after = np.mean(history.loss[:5]), np.mean(history.loss[-5:])
    assert before > 0.15
    assert after < before / 2
    assert history.active[-1] < history.active[0]


@pytest.mark.parametrize("content", ["vector"], indirect=True)
def test_the_first_step_is_on_the_first_batch(dataset):
    # By hand: the ids of the batch, their rows, the loss of the untrained encoder.
    round_ = training(dataset, "first")
    ids = next(round_.loader.batches())
    vectors = np.load(dataset[0] / "inputs.npy").astype(np.float64)
    encoder = training(dataset, "first").encoder.double()
    rows = [[dataset[3].tolist().index(number) for number in role] for role in ids.tolist()]
    with torch.no_grad():
        a, p, n = (encoder.body(torch.from_numpy(vectors[role])) for role in rows)
    a, p, n = (torch.nn.functional.normalize(x) for x in (a, p, n))
    terms = torch.relu(((a - p) ** 2).sum(1) - ((a - n) ** 2).sum(1) + CONFIG.margin)
    history = round_.run(CONFIG, silent)
    assert history.loss[0] == pytest.approx(terms.mean().item(), abs=1e-5)
    assert history.active[0] == (terms > 0).double().mean().item()


@pytest.mark.parametrize("content", ["vector"], indirect=True)
def test_a_loss_that_is_not_finite_stops_the_round(dataset):
    round_ = training(dataset, "bad")
    with torch.no_grad():
        next(round_.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(StoreError, match=r"^step 1: the loss is nan"):
        round_.run(CONFIG, silent)
