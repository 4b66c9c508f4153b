"""What an adapted model promises, tried on random images: each finding is one sentence.

Shapes are wrong or right, and an `InputError`. The other promises are laws of masked autoencoders:
equal input gives equal output, images do not see each other, pixels of hidden patches change
nothing, a token stands for the patch that moves it most, and gradients reach visible pixels.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lcmae.adapters.model import Adapted, AdaptedBlocks
from lcmae.errors import InputError
from lcmae.mask import Mask
from lcmae.patches import patchify, unpatchify
from lcmae.progress import ProgressBar
from lcmae.randomness import generator
from lcmae.safety.text import reason
from lcmae.shapes import Float, Int

NUM_IMAGES = 2
NUM_MOVED = 8
"""Patches that are changed one by one to see which token each of them moves."""

TOLERANCE = 1e-4
"""Of what must not change, in deviations of the output; rounding of large models is below 1e-5."""


@dataclass
class Found:
    """What the random images told."""

    measured: dict[str, Any] = field(default_factory=dict)
    """Settings: width, heads, decoder_width, decoder_heads."""

    findings: list[str] = field(default_factory=list)
    """Broken promises, a sentence each."""

    notes: list[str] = field(default_factory=list)
    """What cannot be had, or could not be told."""

    encodes_hidden: bool = False
    num_decoder_prefix: int = 0


@torch.no_grad()
def check(model: Adapted) -> Found:
    """Try every promise. `InputError` for what does not run or has other shapes."""
    trial, begin = _Trial(model), time.monotonic()
    trial.shapes()
    steps = (trial.blocks, trial.attention, trial.repeats, trial.leaks, trial.orders, trial.gradients)
    # the shapes take a tenth of it all
    with ProgressBar("checking the adapter", len(steps)) if time.monotonic() - begin > 0.2 else nullcontext() as bar:
        for step in steps:
            step()
            if bar is not None:
                bar.advance(note=step.__name__)
    return trial.found


class _Trial:
    def __init__(self, model: Adapted) -> None:
        self.model, self.found = model, Found()
        config, rng = model.config, generator("adapter")
        device = next((weight.device for weight in model.module.parameters()), torch.device("cpu"))
        self.images = torch.randn(NUM_IMAGES, config.channels, *config.image_size, generator=rng).to(device)
        self.others = torch.randn(NUM_IMAGES, config.channels, *config.image_size, generator=rng).to(device)
        num_patches = model.num_patches
        if num_patches < 2:
            raise InputError(f"expected at least 2 patches to mask, got {num_patches} (image_size, patch_size)")
        rank = torch.rand(NUM_IMAGES, num_patches, generator=rng).argsort(1)
        self.mask = Mask.from_hidden(rank < num_patches // 2, num_patches // 2).to(device)
        self.tokens = self.pred = torch.empty(0)

    # --- shapes: wrong or right ---

    def shapes(self) -> None:
        """Of tokens and predictions, under a mask and without."""
        model, found = self.model, self.found
        self.tokens = self._encode(self.images, self.mask)
        num_prefix, visible, every = model.num_prefix, self.mask.visible.shape[1], model.num_patches
        found.encodes_hidden = self.tokens.shape[1] == num_prefix + every
        if self.tokens.shape[1] not in (num_prefix + visible, num_prefix + every):
            more = self.tokens.shape[1] - num_prefix - visible
            hint = f"; num_prefix={num_prefix + more} would fit" if 0 < more <= 16 else ""
            raise InputError(
                f"expected {num_prefix} prefix tokens and {visible} visible patches (or all {every}) from encode, got "
                f"{self.tokens.shape[1]} tokens{hint}"
            )
        found.measured["width"] = self.tokens.shape[2]
        none = Mask.none(NUM_IMAGES, every, self.images.device)
        whole = self._encode(self.images, none)
        if whole.shape[1] != num_prefix + every:
            raise InputError(
                f"expected {num_prefix} + {every} tokens from encode where the mask hides nothing, got {whole.shape[1]}"
            )
        if model.has_prediction:
            self.pred = self._predict(self.tokens, self.mask)
            self._predict(whole, none)

    def _encode(self, images: Tensor, mask: Mask) -> Float[Tensor, "b t d"]:
        tokens = _called("encode", lambda: self.model._encode(images, mask))
        if isinstance(tokens, tuple | list):
            raise InputError(
                "expected one tensor from encode, prefix tokens first (num_prefix says how many), got "
                f"{len(tokens)} values"
            )
        expected = f"tokens [{len(mask)} t d]"
        return _numbers("encode", tokens, expected, lambda x: x.ndim == 3 and len(x) == len(mask))

    def _predict(self, tokens: Tensor, mask: Mask) -> Float[Tensor, "b n p"]:
        predict, config = self.model._predict, self.model.config
        assert predict is not None
        pred = _called("predict", lambda: predict(tokens, mask))
        patches = (len(mask), config.num_patches, config.patch_values)
        pictures = (len(mask), config.channels, *config.image_size)
        expected = f"predictions {list(patches)} of every patch, or pictures {list(pictures)}"
        pred = _numbers("predict", pred, expected, lambda x: tuple(x.shape) in (patches, pictures))
        return patchify(pred, config.patch_size) if pred.ndim == 4 else pred

    # --- blocks and their attention ---

    def blocks(self) -> None:
        """Every block is called once, in this order, and gives tokens."""
        found, model = self.found, self.model
        num_tokens = self.tokens.shape[1]
        with _outputs(model.blocks) as outputs:
            tokens = self._encode(self.images, self.mask)
        if self._called_once("encoder", model.blocks, outputs):
            for layer, output in outputs:
                expected = (NUM_IMAGES, num_tokens, tokens.shape[2])
                if output is None or tuple(output.shape) != expected:
                    got = "no tensor" if output is None else list(output.shape)
                    found.findings.append(
                        f"expected tokens {list(expected)} from encoder block {layer + 1}, got {got}; leave out blocks "
                        "that give no tokens"
                    )
                    break
        if not model.has_prediction or not len(model.decoder_blocks):
            return
        with _outputs(model.decoder_blocks) as outputs:
            self._predict(tokens, self.mask)
        if self._called_once("decoder", model.decoder_blocks, outputs):
            shapes = {None if output is None else tuple(output.shape) for _, output in outputs}
            first = next(iter(shapes))
            more = first[1] - model.num_patches if first is not None and len(first) == 3 else -1
            if len(shapes) > 1 or first is None or more < 0:
                found.findings.append(
                    f"expected tokens of all {model.num_patches} patches from every decoder block, got "
                    f"{' and '.join(str(shape) for shape in shapes)}; leave out blocks that give no such tokens"
                )
            else:
                found.num_decoder_prefix = more
                found.measured["decoder_width"] = first[2]

    def _called_once(self, name: str, blocks: nn.ModuleList, outputs: list[tuple[int, Tensor | None]]) -> bool:
        order = [layer + 1 for layer, _ in outputs]
        if order != list(range(1, len(blocks) + 1)):
            got = ", ".join(map(str, order[:12])) or "none"
            self.found.findings.append(
                f"expected {name} blocks 1 to {len(blocks)} to be called once each and in this order, got {got}; name "
                "the modules that are called themselves"
            )
            return False
        return True

    def attention(self) -> None:
        """Maps are rows that sum to 1, of as many tokens as went in; heads are counted."""
        model, found = self.model, self.found
        parts = (("encoder", "heads", model.blocks), ("decoder", "decoder_heads", model.decoder_blocks))
        for name, setting, blocks in parts:
            if not len(blocks):
                continue
            assert isinstance(blocks, AdaptedBlocks)
            if blocks.attention is None:
                heads = getattr(getattr(blocks[0], "attn", None), "num_heads", None)
                if isinstance(heads, int):
                    found.measured[setting] = heads
                else:
                    found.notes.append(
                        f"no maps of {name} attention: its blocks have no timm Attention; say attention="
                    )
                continue
            entered = self._entered(blocks, with_predict=name == "decoder")
            if entered is None:
                continue
            read = blocks.attention
            maps = _called("attention", lambda read=read, blocks=blocks, entered=entered: read(blocks[0], entered))
            tokens = entered.shape[1]
            maps = _numbers(
                "attention",
                maps,
                f"maps [{NUM_IMAGES} h {tokens} {tokens}] of {name} block 1",
                lambda x, tokens=tokens: x.ndim == 4 and (len(x), *x.shape[2:]) == (NUM_IMAGES, tokens, tokens),
            )
            found.measured[setting] = maps.shape[1]
            total = maps.float().sum(-1)
            if bool(((total - 1).abs() > 1e-3).any()):
                found.findings.append(
                    f"expected rows of attention that sum to 1 in {name} block 1, got {float(total.min()):.3g} to "
                    f"{float(total.max()):.3g}"
                )

    def _entered(self, blocks: nn.ModuleList, *, with_predict: bool) -> Tensor | None:
        """What goes into the first block."""
        seen: list[Any] = []
        hook = blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0] if args else None))
        try:
            tokens = self._encode(self.images, self.mask)
            if with_predict and self.model.has_prediction:
                self._predict(tokens, self.mask)
        finally:
            hook.remove()
        return seen[0] if seen and isinstance(seen[0], Tensor) and seen[0].ndim == 3 else None

    # --- laws ---

    def repeats(self) -> None:
        """Equal input gives equal output, and images do not see each other."""
        again, alone = self._both(self.images, self.mask), self._both(self.images[:1], self.mask[:1])
        for name, first, second, third in zip(NAMES, self._seen, again, alone, strict=False):
            if (moved := _moved(first, second)) > TOLERANCE:
                self.found.findings.append(
                    f"{name} gives other numbers for the same images and mask ({moved:.2g} deviations apart): dropout, "
                    "or a mask of its own, is on"
                )
            elif (moved := _moved(first[:1], third)) > TOLERANCE:
                self.found.findings.append(
                    f"{name} gives other numbers for an image alone than in a batch ({moved:.2g} deviations apart)"
                )

    def leaks(self) -> None:
        """Pixels of hidden patches change nothing."""
        patches, others = (patchify(x, self.model.patch_size) for x in (self.images, self.others))
        changed = self._unpatchify(torch.where(self.mask.is_hidden[..., None], others, patches))
        for name, before, after in zip(NAMES, self._seen, self._both(changed, self.mask), strict=False):
            if (moved := _moved(before, after)) > TOLERANCE:
                self.found.findings.append(
                    f"hidden patches leak into {name}: other pixels there move its output by {moved:.2g} deviations "
                    "(does it use the mask, in raster order?)"
                )
                return

    def orders(self) -> None:
        """Each changed patch moves its own token, and its own prediction, most."""
        if self.found.findings:
            return  # what is random or leaks has no order to be told
        visible = self.mask.visible[0]
        chosen = torch.linspace(0, len(visible) - 1, min(NUM_MOVED, len(visible))).round().long().to(visible.device)
        patches, others = (patchify(x[:1], self.model.patch_size) for x in (self.images, self.others))
        rows = patches.repeat(len(chosen), 1, 1)
        each = torch.arange(len(chosen), device=visible.device)
        rows[each, visible[chosen]] = others[0, visible[chosen]]
        mask = self.mask[torch.zeros_like(chosen)]
        with _outputs(self.model.blocks) as outputs:
            after = self._both(self._unpatchify(rows), mask)
        with _outputs(self.model.blocks) as before_outputs:
            before = self._both(self.images[:1], self.mask[:1])
        own = visible[chosen] if self.found.encodes_hidden else chosen
        rightly = [own, visible[chosen]]
        compared: list[tuple[str, Tensor, Tensor, Tensor]] = [*zip(NAMES, before, after, rightly, strict=False)]
        if outputs and outputs[-1][1] is not None and before_outputs[-1][1] is not None:
            cut = self.model.num_prefix
            compared.append(("the last encoder block", before_outputs[-1][1][:, cut:], outputs[-1][1][:, cut:], own))
        for name, first, second, expected in compared:
            self._order(name, (second - first).float().square().sum(-1).argmax(1), expected, visible)

    def _order(self, name: str, most: Int[Tensor, " r"], own: Int[Tensor, " r"], visible: Int[Tensor, " v"]) -> None:
        right = (most == own).double().mean()
        if right >= 0.5 or len(own) < 3:
            return
        if len(most.unique()) >= 0.75 * len(most):
            wrong = int((most != own).nonzero()[0])
            self.found.findings.append(
                f"what {name} gives is not in raster order: a change of the patch that stands at {int(own[wrong])} moves "
                f"{int(most[wrong])} most"
            )
        else:
            self.found.notes.append(f"whether {name} is in raster order could not be told from random images")

    def gradients(self) -> None:
        """Gradients reach the pixels of visible patches."""
        if self.found.findings:
            return
        with torch.enable_grad():
            leaf = self.images.clone().requires_grad_()
            outputs = dict(zip(NAMES, self._both(leaf, self.mask), strict=False))
            for name, output in outputs.items():
                if not output.requires_grad:
                    self.found.findings.append(f"{name} has no gradients: is torch.no_grad() or detach() in it?")
                    return
                signs = torch.randn(output.shape, generator=generator("adapter", name)).to(output)
                (gradient,) = torch.autograd.grad((output * signs).sum(), leaf, retain_graph=True, allow_unused=True)
                if gradient is None or not bool(gradient.isfinite().all()):
                    got = "none" if gradient is None else "NaN or infinity"
                    self.found.findings.append(f"expected finite gradients of {name} at the pixels, got {got}")
                    return
                mass = patchify(gradient, self.model.patch_size).abs().sum(-1)
                if bool((mass[~self.mask.is_hidden] == 0).all()):
                    self.found.findings.append(f"gradients of {name} reach no visible pixel")
                    return

    @property
    def _seen(self) -> list[Tensor]:
        tokens = self.tokens[:, self.model.num_prefix :]
        return [tokens, self.pred] if self.model.has_prediction else [tokens]

    def _both(self, images: Tensor, mask: Mask) -> list[Tensor]:
        """Tokens of patches and, where there are any, predictions."""
        tokens = self._encode(images, mask)
        patches = tokens[:, self.model.num_prefix :]
        return [patches, self._predict(tokens, mask)] if self.model.has_prediction else [patches]

    def _unpatchify(self, patches: Tensor) -> Tensor:
        return unpatchify(patches, self.model.grid, self.model.patch_size)


NAMES = ("encode", "predict")


def _called(name: str, call: Callable[[], Any]) -> Any:
    """What a person's function gives; its error becomes one line, with the traceback as its
    cause."""
    try:
        return call()
    except Exception as error:
        raise InputError(f"{name} failed on random images: {type(error).__name__}: {reason(error)}") from error


def _numbers(name: str, values: Any, expected: str, fits: Callable[[Tensor], bool]) -> Tensor:
    if not isinstance(values, Tensor):
        raise InputError(f"expected {expected} from {name}, got {type(values).__name__}")
    if not values.is_floating_point() or not fits(values):
        raise InputError(f"expected {expected} from {name}, got {values.dtype} {list(values.shape)}")
    if not bool(values.isfinite().all()):
        raise InputError(f"expected finite numbers from {name} on random images, got NaN or infinity")
    return values


def _moved(first: Tensor, second: Tensor) -> float:
    """The largest difference, in deviations of the values."""
    deviation = first.float().std().clamp(min=1e-12)
    return float((first.float() - second.float()).abs().max() / deviation)


@contextmanager
def _outputs(blocks: Sequence[nn.Module] | nn.ModuleList) -> Iterator[list[tuple[int, Tensor | None]]]:
    """While inside, every call of a block adds (layer, its output); a tuple stands for its first
    value."""
    seen: list[tuple[int, Tensor | None]] = []
    with ExitStack() as stack:
        for layer, block in enumerate(blocks):

            def hook(module: nn.Module, args: Any, output: Any, layer: int = layer) -> None:
                output = output[0] if isinstance(output, tuple) and output else output
                seen.append((layer, output if isinstance(output, Tensor) else None))

            stack.callback(block.register_forward_hook(hook).remove)
        yield seen
