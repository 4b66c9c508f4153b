"""Names on the Hugging Face hub: `hf:ORG/NAME[@REVISION]`, and the files that `timm:NAME` means.

What lies in the local cache is taken from there, without a question to the network; the rest is
fetched by huggingface_hub, which shows its progress, knows tokens, mirrors and HF_HUB_OFFLINE, and
writes to the same cache. Safetensors go before pickles, and every file passes the same gate as one
that was named by its path.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lcmae.errors import CheckpointError, InputError
from lcmae.safety.text import reason

PREFIX = "hf:"
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Files of weights by the names that libraries give, the safest first."""

ANSWER = 10.0
"""Seconds that the hub has to answer."""

BESIDE = ("config.json", "preprocessor_config.json")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w./ -]+))?(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class HubName:
    """ORG/NAME, perhaps one file of it, and a branch, tag or commit."""

    repo: str
    file: str | None = None
    revision: str | None = None

    @property
    def shown(self) -> str:
        file = f"/{self.file}" if self.file else ""
        return f"{PREFIX}{self.repo}{file}" + (f"@{self.revision}" if self.revision else "")


def is_hub_name(path: Path | str) -> bool:
    return str(path).startswith(PREFIX)


def parse_name(path: Path | str) -> HubName:
    """`hf:ORG/NAME[/FILE][@REVISION]`. `InputError` for anything else."""
    found = NAME.fullmatch(str(path).removeprefix(PREFIX))
    parts = [*(found["repo"].split("/") if found else []), *((found["file"] or "").split("/") if found else [])]
    if found is None or {".", ".."} & {*parts}:
        raise InputError(f"expected a name on the hub as hf:ORG/NAME or hf:ORG/NAME@REVISION, got {str(path)[:200]!a}")
    return HubName(found["repo"], found["file"], found["revision"])


def fetch(name: HubName) -> tuple[Path, str]:
    """The file of weights in the local cache, its settings beside it, and a note of where they come
    from. Downloads what is not there. `CheckpointError` in one line where that cannot be."""
    local = _in_cache(name)
    if local is not None:
        return local, f"{name.shown} from the local cache, commit {_commit(local)}"
    local = _download(name)
    return local, f"{name.shown} from the hub, commit {_commit(local)}"


def _in_cache(name: HubName) -> Path | None:
    """The weights as a former download left them, shards and all; None where one is missing."""
    if name.file is not None:
        return _cached(name, name.file)
    for file in WEIGHTS:
        if (found := _cached(name, file)) is not None:
            is_whole = not file.endswith(".index.json") or all(_cached(name, shard) for shard in shards(found))
            return found if is_whole else None
    config = _cached(name, "config.json")
    others = _weights_among([path.name for path in config.parent.iterdir()]) if config is not None else []
    return config.parent / others[0] if config is not None and len(others) == 1 else None


def _cached(name: HubName, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name.repo, file, revision=name.revision)
    except HFValidationError as error:
        raise InputError(f"expected a name on the hub, got {name.shown!a}: {reason(error)}") from error
    return Path(found) if isinstance(found, str) else None


def _download(name: HubName) -> Path:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # what the HTTP client itself raises, whichever it is: the base of the hub's own errors
    client_error: type[Exception] = HfHubHTTPError.__mro__[1]  # pyright: ignore[reportAssignmentType]
    try:
        # one question, which fails at once without network
        found = HfApi().model_info(name.repo, revision=name.revision, timeout=ANSWER)
        files = [file.rfilename for file in found.siblings or []]
        chosen = _choose(name, files)
        wanted = [chosen, *(file for file in BESIDE if file in files)]
        paths = [Path(hf_hub_download(name.repo, file, revision=name.revision)) for file in wanted]
        if chosen.endswith(".index.json"):
            for shard in shards(paths[0]):
                hf_hub_download(name.repo, shard, revision=name.revision)
        return paths[0]
    except HFValidationError as error:
        raise InputError(f"expected a name on the hub, got {name.shown!a}: {reason(error)}") from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"expected a model that may be downloaded, got {name.shown}, whose owner asks for consent: accept it on "
            "the hub, then `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"expected a branch, tag or commit of {name.repo}, got {name.revision!a}") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"expected a model on the hub, got {name.shown}, which is not there (or private: `hf auth login`)"
        ) from error
    except (client_error, OSError) as error:
        raise CheckpointError(offline(name, error)) from error


def offline(name: HubName, error: BaseException) -> str:
    """What to do without network."""
    return (
        f"expected {name.shown} in the local cache or the network to fetch it, got neither ({reason(error)[:120]}); where "
        f"there is network: hf download {name.repo}"
    )


def _choose(name: HubName, files: Sequence[str]) -> str:
    """The file of weights among those of a repository."""
    if name.file is not None:
        if name.file not in files:
            raise CheckpointError(f"expected a file of {name.repo}, got {name.file!a}")
        return name.file
    if known := [file for file in WEIGHTS if file in files]:
        return known[0]
    others = _weights_among(files)
    if len(others) == 1:
        return others[0]
    if not others:
        raise CheckpointError(f"expected a model with weights at {name.shown}, got {len(files)} files without")
    shown = ", ".join(ascii(file)[1:-1] for file in others[:5])
    raise CheckpointError(
        f"expected one file of weights at {name.shown}, got {len(others)} ({shown}): say hf:{name.repo}/FILE"
    )


def _weights_among(files: Sequence[str]) -> list[str]:
    found = sorted(file for file in files if file.endswith(SUFFIXES))
    return [file for file in found if file.endswith(".safetensors")] or found


def shards(index: Path) -> list[str]:
    """The files that an index of shards names, each once."""
    from lcmae.formats.shards import read_index

    return read_index(index)


def _commit(path: Path) -> str:
    # models--ORG--NAME/snapshots/COMMIT/FILE
    parts = path.parts
    return parts[parts.index("snapshots") + 1][:12] if "snapshots" in parts[:-1] else "unknown"
