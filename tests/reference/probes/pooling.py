"""Poolings as the papers write them, a token and a query at a time; numpy only."""

import numpy as np


def softmax(scores: np.ndarray) -> np.ndarray:
    """Shares of a row of scores."""
    raised = np.exp(scores - scores.max())
    return raised / raised.sum()


def efficient(tokens: np.ndarray, queries: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Efficient probing (Psomas et al., 2506.10178): `tokens` [n d] and `queries` [q d] as they
    are, `value` [d d]; every token is multiplied by V, and query q pools chunk q of these."""
    width, chunk = tokens.shape[1], tokens.shape[1] // len(queries)
    products = np.stack([value @ token for token in tokens])
    found = np.zeros(width)
    for number, query in enumerate(queries):
        shares = softmax(np.array([query @ token for token in tokens]) / np.sqrt(width))
        mine = slice(number * chunk, (number + 1) * chunk)
        found[mine] = sum(share * product[mine] for share, product in zip(shares, products, strict=True))
    return found


def queries(tokens: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Attention [q n] of queries as results hold them, with all divisors within."""
    return np.stack([softmax(np.array([query @ token for token in tokens])) for query in stored])


def abmilp(tokens: np.ndarray, weight: np.ndarray, bias: float) -> np.ndarray:
    """AbMILP of depth 1 (Przewiezlikowski et al., 2412.03215): tokens weighed by the softmax of one
    linear score each."""
    shares = softmax(np.array([weight @ token + bias for token in tokens]))
    return sum((share * token for share, token in zip(shares, tokens, strict=True)), np.zeros(tokens.shape[1]))


def num_parameters(width: int, queries: int, classes: int) -> int:
    """Of efficient probing: queries, one bias-free D x D, a linear layer with biases."""
    return queries * width + width**2 + classes * (width + 1)
