"""The cosine router's logits are cosines over a temperature, as a plain loop computes them."""

from __future__ import annotations

import math

import torch

from moebench.kernels.problem.router import Router


def test_logits_and_gates_are_those_of_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    router = Router.parse("cosine:width=3")
    parameters = {name: torch.randn(shape, generator=generator) for name, shape in router.shapes(D=5, E=4).items()}
    parameters["temperature"] = torch.tensor([0.3])
    x_TD = torch.randn(6, 5, generator=generator)
    inputs = router.project(x_TD, parameters)
    ids_TK, gates_TK = router.route(inputs, 2)
    for t, x in enumerate(x_TD.tolist()):
        low = [sum(w * v for w, v in zip(row, x, strict=True)) for row in parameters["projection"].tolist()]
        logits = []
        for embedding in parameters["weight"].tolist():
            product = sum(a * b for a, b in zip(low, embedding, strict=True))
            logits.append(product / math.hypot(*low) / math.hypot(*embedding) / 0.3)
        torch.testing.assert_close(inputs.logits_TE[t], torch.tensor(logits), atol=1e-5, rtol=1e-5)
        order = sorted(range(4), key=lambda e: -logits[e])[:2]
        assert ids_TK[t].tolist() == order
        total = sum(math.exp(value) for value in logits)
        expected = torch.tensor([math.exp(logits[e]) / total for e in order])
        torch.testing.assert_close(gates_TK[t], expected, atol=1e-5, rtol=1e-5)


def test_a_token_of_zeros_has_even_gates() -> None:
    router = Router.parse("cosine")
    parameters = {name: torch.ones(shape) for name, shape in router.shapes(D=5, E=4).items()}
    ids_TK, gates_TK = router.route(router.project(torch.zeros(1, 5), parameters), 2)
    assert ids_TK.tolist() == [[0, 1]]
    assert gates_TK.tolist() == [[0.25, 0.25]]
