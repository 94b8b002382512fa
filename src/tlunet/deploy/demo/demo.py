"""Local web page: drop an image to see the predictions of one or two networks."""

import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlunet.deploy.demo.comparison import dice, table
from tlunet.deploy.demo.samples import Example
from tlunet.deploy.overlay import STYLES, overlay
from tlunet.deploy.stream import Prediction, Stream, Unreadable
from tlunet.errors import visible

HOST = "127.0.0.1"
TITLE = "TLU-Net: find defects in steel"
FONTS = ["system-ui", "sans-serif"]  # local fonts; nothing is downloaded
CSS = """
footer {display: none !important}
#panels {flex-wrap: wrap}
table.comparison {border-collapse: collapse; width: 100%; border: 0 !important}
table.comparison tr {border: 0 !important}
table.comparison :is(th, td) {padding: .3em .8em .3em 0 !important; text-align: left;
  vertical-align: top; border: 0 !important;
  border-bottom: 1px solid var(--border-color-primary) !important}
.chip {display: inline-block; width: .8em; height: .8em}
"""
#: Strips are shown one below the other, as wide as the page.
STACKED = "<style>#panels > * {flex: 1 1 100% !important}</style>"
STRIP = 2.5  # width over height of an image that is a strip


class Page:
    """What the page shows of an image.

    Args:
        networks: name → network; two are compared.
        examples: name → test image with its ground truth.
    """

    def __init__(self, networks: Mapping[str, Stream], examples: Mapping[str, Example]) -> None:
        self.networks = networks
        self.classes = next(iter(networks.values())).classes
        self.files = _write(examples)
        self._truths = {_digest(one.image): one.truth for one in examples.values()}

    @property
    def threshold(self) -> float | None:
        """The threshold of all networks; ``None`` if they have several (``--tuned``)."""
        thresholds = {t for one in self.networks.values() for t in one.rules.thresholds}
        is_plain = all(one.rules.is_plain for one in self.networks.values())
        return thresholds.pop() if is_plain and len(thresholds) == 1 else None

    def look(self, path: Path, style: str, threshold: float | None) -> list[Any]:
        """Return the ground truth, a title and a picture per network, the table and the layout.

        Raises:
            gr.Error: the image cannot be read; the page shows the reason.
        """
        predictions = {name: _predict(one, path, threshold) for name, one in self.networks.items()}
        first = next(iter(predictions.values()))
        height, width = first.bits.shape
        truth = self._truths.get(_digest(first.image))
        if truth is not None and truth.shape != (len(self.classes), height, width):
            truth = None  # networks of other classes
        pictures = []
        for name, one in predictions.items():
            score = None if truth is None else dice(one.masks, truth)
            pictures += [heading(name, score), overlay(one.image, one.masks, style)]
        shown = None if truth is None else overlay(first.image, truth, style)
        layout = STACKED if width >= STRIP * height else ""
        rows = table(predictions, self.classes, truth)
        return [gr.Column(visible=truth is not None), shown, *pictures, rows, layout]


def build(networks: Mapping[str, Stream], examples: Mapping[str, Example], common: str = "") -> Any:
    """Build the page without serving it.

    Args:
        networks: name → network; two are compared.
        examples: name → test image with its ground truth.
        common: what the networks have in common.
    """
    page = Page(networks, examples)
    threshold = page.threshold
    with gr.Blocks(title=TITLE, analytics_enabled=False) as blocks:
        gr.HTML(
            f"<h2>{TITLE}</h2>{escape(common)}{'<br>' if common else ''}"
            "Drop an image; it stays on this machine."
        )
        image = gr.Image(
            label="image", type="filepath", sources=["upload"], elem_id="image", format="png",
            buttons=["fullscreen"],
        )  # fmt: skip
        # Pass the file unchanged, so that our own reader reports problems. Not a subclass of
        # gr.Image: Gradio would write a file next to it into this folder.
        image.preprocess = _path  # type: ignore[method-assign]
        with gr.Row():
            style = gr.Radio(list(STYLES), value=STYLES[0], label="mask style", elem_id="style")
            slider = gr.Slider(
                0.05, 0.95, threshold or 0.5, step=0.05, label="threshold of pixels and labels",
                elem_id="threshold", visible=threshold is not None,
            )  # fmt: skip
        with gr.Row(elem_id="panels"):
            with gr.Column(visible=False) as truth:
                gr.HTML(heading("ground truth"))
                outputs: list[Any] = [truth, _panel("truth")]
            for k, name in enumerate(networks):
                with gr.Column():
                    outputs += [gr.HTML(heading(name)), _panel(f"found-{k}")]
        outputs += [gr.HTML(elem_id="table"), gr.HTML(padding=False)]

        def look(path: str | None, drawn_as: str, chosen: float) -> list[Any]:
            if path is None:
                empty = [part for name in networks for part in (heading(name), None)]
                return [gr.Column(visible=False), None, *empty, "", ""]
            own = threshold is None or chosen == threshold
            return page.look(Path(path), drawn_as, None if own else chosen)

        for event in (image.change, style.change, slider.change):
            event(
                look, [image, style, slider], outputs, show_progress="minimal",
                trigger_mode="always_last", api_visibility="private",
            )  # fmt: skip
        if page.files:
            gr.Examples(
                [[str(file)] for file in page.files], [image],
                label="test images, with ground truth", examples_per_page=len(page.files),
                api_visibility="private",
            )  # fmt: skip
    return blocks


def heading(name: str, score: float | None = None) -> str:
    """Return a panel's title as HTML; the name is escaped.

    >>> heading("<i>", 0.5)
    '<b>&lt;i&gt;</b>: Dice 0.500'
    """
    return f"<b>{escape(name)}</b>" + ("" if score is None else f": Dice {score:.3f}")


def _panel(name: str) -> gr.Image:
    return gr.Image(
        format="png", interactive=False, show_label=False, elem_id=name,
        buttons=["download", "fullscreen"],
    )  # fmt: skip


def _path(payload: Any) -> str | None:
    return payload.path if payload else None


def _digest(image: NDArray[np.uint8]) -> str:
    """Identify an image by its pixels, as Gradio may write its file again."""
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()


def _predict(network: Stream, path: Path, threshold: float | None) -> Prediction:
    if threshold is not None:
        network = network.under(network.rules.at(threshold))
    [outcome] = network.predict([path])
    if isinstance(outcome, Unreadable):
        raise gr.Error(visible(outcome.reason), print_exception=False)
    return outcome


def _write(examples: Mapping[str, Example]) -> list[Path]:
    """Write the images to files, as Gradio requires; :func:`served` deletes them."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"]) / "examples"
    folder.mkdir()
    files = []
    for k, one in enumerate(examples.values()):
        files.append(folder / f"{k}.png")
        Image.fromarray(one.image).save(files[-1])
    return files


@contextmanager
def served(
    networks: Mapping[str, Stream],
    examples: Mapping[str, Example],
    port: int | None = None,
    in_browser: bool = False,
    common: str = "",
) -> Iterator[str]:
    """Serve the page on this machine only, and close it on exit.

    Args:
        networks: name → network.
        examples: name → test image with its ground truth.
        port: by default the first free port from 7860.
        in_browser: whether to open the page in a browser.
        common: what the networks have in common.

    Yields:
        The address of the page.

    Raises:
        OSError: the port is in use.
    """
    with socket.socket() as probe:  # Gradio leaks its socket if the port is in use
        probe.bind((HOST, port or 0))
    with tempfile.TemporaryDirectory() as folder:
        # No analytics; uploads are deleted with the folder.
        own = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": folder}
        os.environ.update(own)
        page = build(networks, examples, common)
        try:
            _, address, _ = page.launch(
                server_name=HOST, server_port=port, inbrowser=in_browser, share=False, quiet=True,
                prevent_thread_lock=True, ssr_mode=False, mcp_server=False, run_history=False,
                allowed_paths=[], footer_links=[], css=CSS,
                theme=gr.themes.Default(font=FONTS, font_mono=["monospace"]),
            )  # fmt: skip
            yield address
        finally:
            page.close(verbose=False)
            for key in own:
                os.environ.pop(key, None)
