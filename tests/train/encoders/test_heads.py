"""How a head into fewer dimensions starts: it keeps the distances better than any other map."""

import numpy as np
import torch

from remine.train.encoders.encoder import Encoder
from remine.train.encoders.heads import (
    BackboneWithHead,
    LinearBody,
    build_head,
    principal_components,
    reducing_layer,
)


def test_components_are_the_longest_directions_first():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    scales = np.array([9, 5, 3, 0.1, 0.1, 0.1])
    vectors = ((rng.standard_normal((500, 6)) * scales) @ basis.T).astype(np.float32)
    components = principal_components(vectors, 3)
    assert components.dtype == np.float32
    np.testing.assert_allclose(components @ components.T, np.eye(3), atol=1e-6)
    overlaps = np.abs(components @ basis[:, :3])
    assert (np.diag(overlaps) > 0.98).all()
    assert (components[np.arange(3), np.abs(components).argmax(axis=1)] > 0).all()


def test_distances_are_kept_better_than_by_a_random_map():
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((300, 40)) * np.linspace(3, 0.1, 40) ** 2
    unit_vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    products = unit_vectors @ unit_vectors.T
    torch.manual_seed(0)
    random_map = LinearBody(40, 6).layer.weight.detach().numpy()
    errors = []
    for weight in (principal_components(unit_vectors, 6), random_map):
        projected = unit_vectors @ weight.T
        errors.append(np.square(projected @ projected.T - products).sum())
    assert errors[0] < 0.5 * errors[1]


def test_only_a_head_into_fewer_dimensions_has_such_a_layer():
    for kind in ("linear", "mlp"):
        head = build_head(kind, 8, 3)
        assert reducing_layer(head) is head.layer
        body = Encoder(BackboneWithHead(torch.nn.Linear(4, 8), head)).body
        assert reducing_layer(body) is head.layer
        assert reducing_layer(build_head(kind, 8, 0)) is None
        assert reducing_layer(build_head(kind, 8, 9)) is None
    assert reducing_layer(torch.nn.Linear(8, 3)) is None
