"""How many images every kind of pooling names right, layer by layer: tokens of training images in,
accuracies out.

Tokens are held in half precision, divided by one number a layer; at most `MOST_BYTES` of them: of
a large network some layers are left out (NaN), the last never.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
import xarray as xr
from torch import Tensor

from lcmae.probes.measures import pooling
from lcmae.probes.measures.classifiers import with_interval
from lcmae.probes.measures.pooling import POOLINGS, Chosen
from lcmae.probes.results.networks import TRAINED
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.variables import variable
from lcmae.randomness import generator
from lcmae.shapes import Float, Int

MOST_BYTES = 512 * 2**20

Source = tuple[str, int]
"""A network and a layer, counted from 0; raw pixels have the layer -1."""


@dataclass
class PooledAccuracy:
    """Collect training tokens (`add`), `learn`, `count` test images, and give the variables."""

    num_layers: int
    has_class_token: bool
    grid: tuple[int, int]
    rates: tuple[float, ...]
    epochs: int
    seed: int
    most_images: int = 0
    """Training images that will come, so that their tokens have one place from the start: parts are
    held twice when they are joined. By default those of the first `add` alone."""
    tokens: dict[Source, Tensor] = field(default_factory=dict)
    """Of the images so far, in half precision."""
    held: dict[Source, int] = field(default_factory=dict)
    """How many these are."""
    scale: dict[Source, float] = field(default_factory=dict)
    right: dict[tuple[str, Source], RunningMean] = field(default_factory=dict)
    chosen: dict[tuple[str, Source], Chosen] = field(default_factory=dict)
    control: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By pooling: share of the training images named right with true and with shuffled labels."""
    shuffled: dict[str, Chosen] = field(default_factory=dict)
    shuffled_right: dict[str, RunningMean] = field(default_factory=dict)
    maps: RunningMean = field(default_factory=RunningMean)
    num_images: int = 0
    parameters: list[int] = field(default_factory=list)

    @property
    def last(self) -> Source:
        """The trained network's last layer, of which controls are computed."""
        return TRAINED, self.num_layers - 1

    @property
    def poolings(self) -> tuple[str, ...]:
        """Those that there are tokens for."""
        return POOLINGS if self.has_class_token else POOLINGS[1:]

    @staticmethod
    def layers_within(num_layers: int, num_images: int, num_tokens: int, width: int) -> list[int]:
        """The layers that are held: all, or evenly as many as there is memory for, the last always
        among them."""
        most = max(1, MOST_BYTES // (2 * num_images * num_tokens * width))
        if most >= num_layers:
            return list(range(num_layers))
        return sorted({num_layers - 1 - round(step * num_layers / most) for step in range(most)})

    def add(self, source: Source, tokens: Float[Tensor, "b t d"]) -> None:
        """Tokens of training images: the class token first, where there is one."""
        self.scale.setdefault(source, float(tokens.float().square().mean().sqrt().clamp(min=1e-12)))
        if source not in self.tokens:
            most = max(self.most_images, len(tokens))
            self.tokens[source] = torch.empty(most, *tokens.shape[1:], dtype=torch.float16)
        first = self.held.get(source, 0)
        last = self.held[source] = first + len(tokens)
        self.tokens[source][first:last] = self._scaled(source, tokens)

    def _scaled(self, source: Source, tokens: Tensor) -> Tensor:
        # half precision ends at 65504
        return (tokens.detach().float().cpu() / self.scale[source]).clamp(-6e4, 6e4)

    def learn(self, labels: Int[Tensor, " n"], num_classes: int) -> None:
        """Train every classifier; tokens are let go of layer by layer."""
        self.num_images = len(labels)
        order = torch.randperm(len(labels), generator=generator("pooling-shuffled", self.seed))
        train = {"epochs": self.epochs, "seed": self.seed}
        for source in list(self.tokens):
            every = self.tokens.pop(source)[: self.held[source]]
            for name, some in self._inputs(source, every):
                found = pooling.fit(name, some, labels, num_classes, rates=self.rates, **train)
                self.chosen[name, source] = found
                if source == self.last:
                    other = pooling.fit(name, some, labels[order], num_classes, rates=(found.rate,), **train)
                    self.shuffled[name] = other
                    self.control[name] = (
                        float((found.classifier.predict(some)[0] == labels).double().mean()),
                        float((other.classifier.predict(some)[0] == labels[order]).double().mean()),
                    )
            if source == self.last:
                width = every.shape[-1]
                self.parameters = [pooling.num_parameters(name, width, num_classes) for name in self.poolings]

    def _inputs(self, source: Source, tokens: Tensor) -> Iterator[tuple[str, Tensor]]:
        """What each kind of pooling sees: patch tokens, their mean, or the class token."""
        with_class = self.has_class_token and source[1] >= 0
        patches = tokens[:, 1:] if with_class else tokens
        if with_class:
            yield "cls", tokens[:, :1]
        mean = patches.float().mean(1, keepdim=True)
        yield "mean", mean
        yield "mlp", mean
        yield "abmilp", patches
        yield "efficient", patches

    def count(self, source: Source, tokens: Float[Tensor, "b t d"], labels: Int[Tensor, " b"]) -> None:
        """Take in test images' tokens of one source that was learned."""
        tokens = self._scaled(source, tokens)
        for name, some in self._inputs(source, tokens):
            classifier = self.chosen[name, source].classifier
            self.right.setdefault((name, source), RunningMean()).add((classifier.predict(some)[0] == labels).double())
            if source == self.last:
                found = self.shuffled[name].classifier.predict(some)[0]
                self.shuffled_right.setdefault(name, RunningMean()).add((found == labels).double())
            if source == self.last and name == "efficient":
                self.maps.add(pooling.attention(name, classifier.weights, some.float())[:, 0])

    def variables(self, networks: list[str], num_images: int) -> dict[str, xr.Variable]:
        """Labelled accuracies [pooling network layer]; raw pixels stand at every layer."""
        sizes = len(self.poolings), len(networks), self.num_layers
        accuracy, rate, edge = (torch.full(sizes, torch.nan, dtype=torch.float64) for _ in range(3))
        for (name, (network, layer)), running in self.right.items():
            at = (self.poolings.index(name), networks.index(network), slice(None) if layer < 0 else layer)
            assert running.mean is not None
            accuracy[at], rate[at] = running.mean, self.chosen[name, (network, layer)].rate
            edge[at] = float(self.chosen[name, (network, layer)].at_edge)
        dims = ("pooling", "network", "layer")
        fits = [self.control.get(name, (torch.nan, torch.nan)) for name in self.poolings]
        maps = self.maps.mean
        assert maps is not None
        held = self.held_layers
        return {
            **with_interval("pooled_accuracy", dims, accuracy, num_images, "accuracy of pooled tokens"),
            **self._shuffled(num_images),
            "pooled_fit": variable("pooling", [one for one, _ in fits], "share of the training images named right"),
            "shuffled_fit": variable(
                "pooling",
                [two for _, two in fits],
                "share of the training images named right by classifiers trained on shuffled labels",
            ),
            "pooled_rate": variable(dims, rate, "learning rate that held-out training images chose"),
            "pooled_rate_at_edge": variable(dims, edge, "whether it is the smallest or largest one tried (1: yes)"),
            "pooled_parameters": variable(
                "pooling", self.parameters, "learned numbers of the classifier", "parameters"
            ),
            "query_map": variable(
                ("query", "row", "column"),
                maps.reshape(len(maps), *self.grid),
                "attention of a query of efficient probing, last layer, mean over images",
            ),
            "query_weight": variable(
                ("query_layer", "query", "width"),
                torch.stack([self._queries((TRAINED, layer)) for layer in held]),
                "query of efficient probing: its attention is the softmax, over patches, of its product with their tokens",
            ),
        }

    @property
    def held_layers(self) -> list[int]:
        """Of the trained network, counted from 0: those that were learned."""
        return sorted(layer for name, (network, layer) in self.chosen if (name, network) == ("efficient", TRAINED))

    def _queries(self, source: Source) -> Float[Tensor, "q d"]:
        """With the divisors of the layer's tokens and of the paper within: for tokens as they
        are."""
        query = self.chosen["efficient", source].classifier.weights["query"][0]
        return query * (query.shape[-1] ** -0.5 / self.scale[source])

    def _shuffled(self, num_images: int) -> Mapping[str, xr.Variable]:
        found = torch.full((len(self.poolings),), torch.nan, dtype=torch.float64)
        for name, running in self.shuffled_right.items():
            assert running.mean is not None
            found[self.poolings.index(name)] = running.mean
        words = "accuracy of classifiers trained on shuffled labels, last layer"
        return with_interval("shuffled_accuracy", ("pooling",), found, num_images, words)
