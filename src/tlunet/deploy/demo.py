"""A page on this machine: drop an image, see what one network finds in it, or two."""

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

from tlunet.data.colours import class_colour
from tlunet.deploy.boxes import boxes
from tlunet.deploy.overlay import STYLES, overlay
from tlunet.deploy.stream import Prediction, Stream, Unreadable
from tlunet.errors import visible

HOST = "127.0.0.1"
COLUMNS = ["class", "probability", "label", "area (pixels)", "area (share)", "regions"]
FONTS = ["system-ui", "sans-serif"]  # the reader's own; none is fetched
CSS = "footer {display: none !important}"
SHOWN = 320  # pixels of the longer side at least: a smaller image is a stamp on a screen


def build(networks: Mapping[str, Stream], examples: Mapping[str, NDArray[np.uint8]]) -> Any:
    """The page, not yet served.

    Args:
        networks: name → network; two stand side by side.
        examples: name → image, (H, W) or (H, W, 3), to try with one click.
    """
    with gr.Blocks(title="TLU-Net", analytics_enabled=False) as page:
        gr.Markdown("## What the network finds\nDrop an image of steel; it stays on this machine.")
        image = gr.Image(
            label="image",
            type="filepath",
            sources=["upload"],
            elem_id="image",
            buttons=["fullscreen"],
        )
        # The file as it was dropped: what is wrong with it is said by our own reader. Not in a
        # class below gr.Image, beside which Gradio would write a file into this folder.
        image.preprocess = _path  # type: ignore[method-assign]
        style = gr.Radio(list(STYLES), value=STYLES[0], label="drawn as", elem_id="style")
        outputs: list[Any] = []
        with gr.Row():
            for k, (name, network) in enumerate(networks.items()):
                with gr.Column():
                    gr.HTML(legend(name, network.classes))
                    found = gr.Image(
                        format="png", interactive=False, show_label=False,
                        elem_id=f"found-{k}", buttons=["download", "fullscreen"],
                    )  # fmt: skip
                    rows = gr.Dataframe(headers=COLUMNS, interactive=False, elem_id=f"table-{k}")
                    outputs += [found, rows]

        def look(path: str | None, drawn_as: str) -> list[Any]:
            if path is None:
                return [None, None] * len(networks)
            return [part for one in networks.values() for part in _look(one, Path(path), drawn_as)]

        for event in (image.change, style.change):
            event(look, [image, style], outputs, show_progress="minimal", api_visibility="private")
        if examples:
            files = _write(examples)
            gr.Examples(
                [[str(file)] for file in files], [image], label="images of the test part",
                examples_per_page=len(files), api_visibility="private",
            )  # fmt: skip
    return page


def legend(name: str, classes: tuple[str, ...]) -> str:
    """A network's name and the colours of its classes, as HTML; whoever chose the names.

    >>> "<i>" in legend("<i>", ("<i>",))
    False
    """
    colours = ["rgb({}, {}, {})".format(*class_colour(m)) for m in range(len(classes))]
    parts = [
        f'<span style="display: inline-block; width: .8em; height: .8em; background: {colour}">'
        f"</span> {escape(text)}"
        for colour, text in zip(colours, classes, strict=True)
    ]
    return f"<b>{escape(name)}</b><br>{' &nbsp; '.join(parts)}"


def _path(payload: Any) -> str | None:
    return payload.path if payload else None


def _look(network: Stream, path: Path, style: str) -> tuple[NDArray[np.uint8], list[list[Any]]]:
    """The overlay and the table of one image.

    Raises:
        gr.Error: it cannot be read; the page says why.
    """
    [outcome] = network.predict([path])
    if isinstance(outcome, Unreadable):
        raise gr.Error(visible(outcome.reason), print_exception=False)
    drawn = overlay(outcome.image, outcome.masks, style)
    times = max(1, SHOWN // max(outcome.bits.shape))
    return drawn.repeat(times, 0).repeat(times, 1), table(outcome, network.classes)


def table(found: Prediction, classes: tuple[str, ...]) -> list[list[Any]]:
    """A row a class, as :data:`COLUMNS` say."""
    rows: list[list[Any]] = []
    for m, name in enumerate(classes):
        area = int(found.areas[m])
        label = "yes" if found.labels[m] else "no"
        share = f"{area / found.bits.size:.2%}"
        regions = len(boxes(found.masks[m]))
        rows.append([name, f"{found.probabilities[m]:.1%}", label, area, share, regions])
    return rows


def _write(examples: Mapping[str, NDArray[np.uint8]]) -> list[Path]:
    """The examples as files, which the page needs; gone with :func:`served`."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"]) / "examples"
    folder.mkdir()
    files = []
    for k, image in enumerate(examples.values()):
        files.append(folder / f"{k}.png")
        Image.fromarray(image).save(files[-1])
    return files


@contextmanager
def served(
    networks: Mapping[str, Stream],
    examples: Mapping[str, NDArray[np.uint8]],
    port: int | None = None,
    in_browser: bool = False,
) -> Iterator[str]:
    """Serve the page to this machine alone, and take it down again.

    Args:
        networks: name → network.
        examples: name → image.
        port: to listen on; by default the first free one from 7860.
        in_browser: whether to open it there.

    Yields:
        Its address.

    Raises:
        OSError: the port is taken.
    """
    with socket.socket() as probe:  # Gradio, which tries in vain, leaves its socket open
        probe.bind((HOST, port or 0))
    with tempfile.TemporaryDirectory() as folder:
        # Nothing is sent out; uploads are gone with the folder.
        own = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": folder}
        os.environ.update(own)
        page = build(networks, examples)
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
