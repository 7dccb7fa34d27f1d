"""The page: an upload area, and the cards of the answers."""

from collections.abc import Sequence
from pathlib import Path

import gradio

from animesion_jax.images import formats, read_image
from animesion_jax.serve import cards
from animesion_jax.serve.service import Service

# System fonts; the default theme fetches fonts from Google.
FONTS = gradio.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
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

// Gradio's page has a <base> without the query of its address: a plain link to a card would reload another page.
document.addEventListener("click", (event) => {
    const box = event.target.closest("#results a.box[href]");
    if (!box) return;
    event.preventDefault();
    location.hash = box.hash;
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
#failure:not(:empty) {position: fixed; bottom: 0; width: 100%; margin: 0; padding: 12px; text-align: center;}
#failure {background: #b91c1c; color: white; font: 600 1em system-ui, sans-serif; z-index: 1000;}
#examples button {min-width: 0;}
#examples .grid-wrap {min-height: 0 !important; overflow-y: auto !important;}
#examples .grid-container {grid-template-columns: repeat(auto-fill, minmax(72px, 1fr)) !important;}
"""


def create_page(service: Service, examples: Sequence[Path] = ()) -> gradio.Blocks:
    """Returns the page of a service; a click on one of the `examples` recognises it."""
    bundle = service.recognizer.bundle
    title, what = ("Who is in the picture?", "pictures") if service.finder else ("Who is this?", "images of faces")
    shown = examples[:: -(-len(examples) // MAX_EXAMPLES) or 1]

    def recognize(files: list[str] | None) -> tuple[None, str]:
        return None, cards.render(service, [Path(file) for file in files or ()])

    def recognize_example(chosen: gradio.SelectData) -> str:
        return cards.render(service, [shown[chosen.index]])

    with gradio.Blocks(title="animesion_jax", analytics_enabled=False, delete_cache=(600, 600)) as page:
        gradio.HTML(f"<style>{STYLE}{cards.STYLE}</style>", padding=False)
        gradio.Markdown(
            f"# {title}\nDrop or paste {what}: {service.limits}; formats: {', '.join(formats())}. "
            f"The model knows {len(bundle.names):,} character{'s' * (len(bundle.names) != 1)}."
        )
        images = gradio.File(file_count="multiple", label=what.capitalize(), elem_id="images", height=160)
        results = gradio.HTML(elem_id="results", padding=False)
        images.upload(recognize, images, [images, results], api_visibility="private", concurrency_limit=4)
        if shown:
            gradio.Markdown("Examples to click on:")
            # Browsers do not show every format, and gradio does not take every file name.
            gallery = gradio.Gallery(
                [cards.shrink(read_image(path)) for path in shown], show_label=False, columns=12, height="auto",
                allow_preview=False, interactive=False, elem_id="examples", buttons=[], object_fit="cover",
            )  # fmt: skip
            gallery.select(recognize_example, None, results, api_visibility="private", concurrency_limit=4)
    return page
