"""Local web page: drop an image to see the predictions of one or two networks."""

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
COLUMNS = ["class", "probability", "label", "area (pixels)", "area (% of image)", "regions"]
FONTS = ["system-ui", "sans-serif"]  # local fonts; nothing is downloaded
CSS = "footer {display: none !important}"


def build(networks: Mapping[str, Stream], examples: Mapping[str, NDArray[np.uint8]]) -> Any:
    """Build the page without serving it.

    Args:
        networks: name → network; two are shown side by side.
        examples: name → image, (H, W) or (H, W, 3), offered as examples.
    """
    with gr.Blocks(title="TLU-Net", analytics_enabled=False) as page:
        gr.Markdown(
            "## Defects found by the network\nDrop an image of steel; it stays on this machine."
        )
        image = gr.Image(
            label="image",
            type="filepath",
            sources=["upload"],
            elem_id="image",
            buttons=["fullscreen"],
        )
        # Pass the file unchanged, so that our own reader reports problems. Not a subclass of
        # gr.Image: Gradio would write a file next to it into this folder.
        image.preprocess = _path  # type: ignore[method-assign]
        style = gr.Radio(list(STYLES), value=STYLES[0], label="mask style", elem_id="style")
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
                [[str(file)] for file in files], [image], label="test images",
                examples_per_page=len(files), api_visibility="private",
            )  # fmt: skip
    return page


def legend(name: str, classes: tuple[str, ...]) -> str:
    """Return a network's name and class colours as HTML; names are escaped.

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
    """Return the overlay and the table of one image.

    Raises:
        gr.Error: the image cannot be read; the page shows the reason.
    """
    [outcome] = network.predict([path])
    if isinstance(outcome, Unreadable):
        raise gr.Error(visible(outcome.reason), print_exception=False)
    drawn = overlay(outcome.image, outcome.masks, style)
    return drawn, table(outcome, network.classes)


def table(found: Prediction, classes: tuple[str, ...]) -> list[list[Any]]:
    """Return one row per class with the columns :data:`COLUMNS`."""
    rows: list[list[Any]] = []
    for m, name in enumerate(classes):
        area = int(found.areas[m])
        label = "yes" if found.labels[m] else "no"
        share = f"{area / found.bits.size:.2%}"
        regions = len(boxes(found.masks[m]))
        rows.append([name, f"{found.probabilities[m]:.1%}", label, area, share, regions])
    return rows


def _write(examples: Mapping[str, NDArray[np.uint8]]) -> list[Path]:
    """Write the examples to files, as Gradio requires; :func:`served` deletes them."""
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
    """Serve the page on this machine only, and close it on exit.

    Args:
        networks: name → network.
        examples: name → image.
        port: by default the first free port from 7860.
        in_browser: whether to open the page in a browser.

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
