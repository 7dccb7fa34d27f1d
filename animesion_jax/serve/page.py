"""The page: an upload area, and a card with bars for each image."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import gradio
import numpy as np
from PIL import Image

from animesion_jax.errors import InputError, escape
from animesion_jax.images import formats, read_image
from animesion_jax.inference.explain import overlay
from animesion_jax.serve.service import Answer, Service

# System fonts; the default theme fetches fonts from Google.
FONTS = gradio.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
THUMBNAIL = 224
MAX_EXAMPLES = 24
# Gradio's upload area ignores pasted files: hand them to its input. Its messages about a failed upload disappear or are
# missing: watch the page's requests, and show why one failed until the next one, even if gradio reloads the page.
SCRIPTS = """
<script>
document.addEventListener("paste", (event) => {
    const input = document.querySelector("#images input[type=file]");
    if (!input || !event.clipboardData.files.length) return;
    input.files = event.clipboardData.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
});

const reasons = {
    404: "the server does not know this address; behind a proxy with a path, start serve with --root_path",
    413: "the files are too large for the server or a proxy before it",
};
const failure = document.createElement("p");
failure.id = "failure";
failure.role = "alert";
failure.textContent = sessionStorage.failure || "";
document.documentElement.append(failure);
const send = window.fetch;
window.fetch = async (resource, options) => {
    const watched = /[/](upload|queue[/]join|queue[/]data)([?]|$)/.test(resource.url || resource);
    const show = (text) => {
        if (watched) failure.textContent = sessionStorage.failure = text;
    };
    try {
        const response = await send(resource, options);
        const reason = reasons[response.status] || "the server or its proxy failed";
        show(response.ok ? "" : `The images are not recognised: ${reason} (status ${response.status}).`);
        return response;
    } catch (error) {
        show("The images are not recognised: the server cannot be reached. Check that it is running.");
        throw error;
    }
};
</script>
"""
STYLE = """
<style>
.card {display: flex; flex-wrap: wrap; gap: 16px; padding: 12px 0; border-top: 1px solid var(--border-color-primary);}
.card figure {margin: 0; text-align: center; font-size: 0.8em; color: var(--body-text-color-subdued);}
.card img {width: 224px; height: 224px; object-fit: contain; border-radius: 6px; display: block;}
.card .names {flex: 1 1 280px; min-width: 0;}
.card h3 {margin: 0 0 8px; overflow-wrap: anywhere;}
.card .file {color: var(--body-text-color-subdued); font-size: 0.85em; overflow-wrap: anywhere;}
.card .bar {display: grid; grid-template-columns: minmax(0, 12em) 1fr 4em; gap: 8px; align-items: center;}
.card .bar {margin: 4px 0;}
.card .bar span {overflow-wrap: anywhere;}
.card .bar i {display: block; height: 12px; border-radius: 3px; background: var(--color-accent);}
.card .bar b {text-align: right; font-weight: normal;}
.card .error {color: #b91c1c; font-weight: 600;}
.card.unknown .bar i {background: #9ca3af;}
#failure:not(:empty) {position: fixed; bottom: 0; width: 100%; margin: 0; padding: 12px; text-align: center;}
#failure {background: #b91c1c; color: white; font: 600 1em system-ui, sans-serif; z-index: 1000;}
#examples button {min-width: 0;}
#examples .grid-wrap {min-height: 0 !important; overflow-y: auto !important;}
#examples .grid-container {grid-template-columns: repeat(auto-fill, minmax(72px, 1fr)) !important;}
</style>
"""


def create_page(service: Service, examples: Sequence[Path] = ()) -> gradio.Blocks:
    """Returns the page of a service; a click on one of the `examples` recognises it."""
    bundle = service.recognizer.bundle
    shown = examples[:: -(-len(examples) // MAX_EXAMPLES) or 1]

    def recognize(files: list[str] | None) -> tuple[None, str]:
        return None, cards(service, [Path(file) for file in files or ()])

    def recognize_example(chosen: gradio.SelectData) -> str:
        return cards(service, [shown[chosen.index]])

    with gradio.Blocks(title="animesion_jax", analytics_enabled=False, delete_cache=(600, 600)) as page:
        gradio.HTML(STYLE, padding=False)
        gradio.Markdown(
            f"# Who is this?\nDrop or paste images of faces: {service.limits}; formats: {', '.join(formats())}. "
            f"The model knows {len(bundle.names):,} character{'s' * (len(bundle.names) != 1)}."
        )
        images = gradio.File(file_count="multiple", label="Images", elem_id="images", height=160)
        results = gradio.HTML(elem_id="results", padding=False)
        images.upload(recognize, images, [images, results], api_visibility="private", concurrency_limit=4)
        if shown:
            gradio.Markdown("Examples to click on:")
            # Browsers do not show every format, and gradio does not take every file name.
            gallery = gradio.Gallery(
                [_thumbnail(read_image(path)) for path in shown], show_label=False, columns=12, height="auto",
                allow_preview=False, interactive=False, elem_id="examples", buttons=[], object_fit="cover",
            )  # fmt: skip
            gallery.select(recognize_example, None, results, api_visibility="private", concurrency_limit=4)
    return page


def cards(service: Service, files: Sequence[Path]) -> str:
    """Returns the HTML of the answers for uploaded files."""
    try:
        service.check_number(len(files))
    except InputError as error:
        return f'<div class="card"><p class="error">{html.escape(str(error))}</p></div>'
    answers = [service.answer(file, file.stat().st_size, escape(file.name), explain=True) for file in files]
    return "".join(card(*answer, service) for answer in answers)


def card(answer: Answer, image: Image.Image | None, heat: np.ndarray | None, service: Service) -> str:
    """Returns the HTML of one answer; all names are escaped."""
    file = f'<p class="file">{html.escape(answer["name"])}'
    if image is None:
        return f'<div class="card">{file}</p><p class="error">{html.escape(answer["error"])}</p></div>'
    seconds = f"{1000 * answer['seconds']:.0f} ms"
    best = answer["predictions"][0]
    title = html.escape(best["class"])
    if answer["unknown"]:
        threshold = service.recognizer.bundle.calibration.threshold
        title = f"unknown <small>(no character is {100 * threshold:.0f}% likely)</small>"
    bars = "".join(_bar(each["class"], f"{100 * each['probability']:.1f}%") for each in answer["predictions"])
    seen = overlay(image, heat, service.recognizer.bundle.fit)
    kind = "attention" if service.explainer.uses_attention else "Grad-CAM"
    return (
        f'<div class="card{" unknown" if answer["unknown"] else ""}">{_figure(image, "image")}'
        f"{_figure(seen, f'evidence ({kind})')}"
        f'<div class="names"><h3>{title}</h3>{bars}{file} · {seconds}</p></div></div>'
    )


def _bar(name: str, percent: str) -> str:
    bar = f'<div><i style="width: {percent}"></i></div>'
    return f'<div class="bar"><span>{html.escape(name)}</span>{bar}<b>{percent}</b></div>'


def _thumbnail(image: Image.Image) -> Image.Image:
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return small


def _figure(image: Image.Image, caption: str) -> str:
    written = io.BytesIO()
    _thumbnail(image).save(written, format="WEBP", quality=90)
    data = base64.b64encode(written.getvalue()).decode()
    return (
        f'<figure><img alt="{caption}" src="data:image/webp;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )
