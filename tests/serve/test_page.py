"""The page in a headless Chromium, directly and below a path of a proxy."""

import base64
import json
import shutil
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.detection.onnx_files import GROUND
from tests.serve.pictures import BOXES, SIZE, expected_faces
from tests.serve.proxy import PREFIX, proxy
from tests.serve.running import NAME, server_process

pytest.importorskip("gradio", reason="the extra [serve] is not installed")
pytestmark = pytest.mark.slow


class Page:
    """The page in a browser."""

    def __init__(self, browser):
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        self.browser = browser
        # Gradio replaces elements at any time.
        self.wait = WebDriverWait(browser, 60, ignored_exceptions=[StaleElementReferenceException])

    def open(self, address: str) -> None:
        self.browser.get(address)

    def elements(self, selector: str) -> list:
        return self.browser.find_elements("css selector", selector)

    def upload(self, *files: Path) -> None:
        def send(_):
            fields = self.elements("#images input[type=file]")
            for field in fields:
                field.send_keys("\n".join(map(str, files)))
            return fields

        self.wait.until(send, "no upload area")

    def find(self, selector: str, words: str, number: int = 1) -> None:
        """Waits until there are `number` elements and the first shows `words`."""
        self.wait.until(
            lambda _: len(found := self.elements(selector)) == number and words in found[0].text,
            f"no {selector} with {words}",
        )


@pytest.fixture
def page(tmp_path):
    if not shutil.which("chromedriver"):
        pytest.skip("chromedriver is not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        yield Page(browser)


def test_page_takes_uploads_pastes_and_examples(bundle, page, face, tmp_path):
    text, large = tmp_path / "notes.txt", tmp_path / "large.png"
    text.write_text("no image")
    large.write_bytes(bytes(150_000))
    with server_process(bundle, "--max_file_mb=0.1", "--examples", face) as (_, address):
        page.open(address)
        page.upload(face, face)
        page.find("#results .card", "unknown", 2)
        widths = [bar.size["width"] for bar in page.elements("#results .bar i")]
        assert len(widths) == 4 and min(widths) > 50
        assert all(int(image.get_attribute("naturalWidth")) > 0 for image in page.elements("#results img"))
        page.upload(text)
        page.find("#results .error", "not a readable image")
        page.browser.execute_script(
            """
            const data = new DataTransfer();
            const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
            data.items.add(new File([bytes], "pasted.png", {type: "image/png"}));
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
            """,
            base64.b64encode(face.read_bytes()).decode(),
        )
        page.find("#results .card", "pasted.png")
        page.upload(large, face)
        page.find("#results .error", "the file is too large")
        page.find("#results .card.unknown", "face.png")
        page.open(address)
        page.wait.until(lambda _: page.elements("#examples button"))[-1].click()
        page.find("#results .card", "unknown")
        with urllib.request.urlopen(f"{address}/api/info") as response:
            assert json.load(response)["characters"] == 2


# The boxes in pixels of the page from the picture's corner, the picture's width there, and colours.
BOXES_ON_THE_PAGE = """
    const picture = document.querySelector("#results .scene img").getBoundingClientRect();
    const boxes = [...document.querySelectorAll("#results .box")].map((box) => {
        const edges = box.getBoundingClientRect();
        return {
            edges: [edges.left - picture.left, edges.top - picture.top, edges.right - picture.left,
                edges.bottom - picture.top],
            number: box.textContent, title: box.title, colour: getComputedStyle(box).borderTopColor,
        };
    });
    return {width: picture.width, height: picture.height, boxes};
"""
# The numbers, names, colours and pixels of the cards.
CARDS_ON_THE_PAGE = """
    return [...document.querySelectorAll("#results .heads .card")].map((card) => {
        const image = card.querySelector("img");
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        const drawn = canvas.getContext("2d");
        drawn.drawImage(image, 0, 0);
        const pixels = [...drawn.getImageData(0, 0, canvas.width, canvas.height).data];
        return {
            size: [canvas.width, canvas.height], pixels, id: card.id, title: card.querySelector("h3").innerText,
            number: getComputedStyle(card.querySelector(".number")).backgroundColor,
            bar: getComputedStyle(card.querySelector(".bar i")).backgroundColor,
            names: [...card.querySelectorAll(".bar span")].map((name) => name.textContent),
        };
    });
"""
GREY = "rgb(107, 114, 128)"


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_page_shows_numbered_boxes_and_a_card_for_each_head(knowing, detector, scene, page, tmp_path, width, theme):
    empty = tmp_path / "nobody.png"
    Image.new("RGB", (50, 40), "green").save(empty)
    expected = expected_faces(knowing, detector, scene)
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    with server_process(knowing, f"--detector={detector}") as (_, address):
        page.open(f"{address}/?__theme={theme}")
        page.upload(scene, empty)
        page.find("#results .picture", "3 heads\nscene.png", 2)
        assert "No head was found.\nnobody.png" in page.elements("#results .picture")[1].text
        assert "Drop or paste pictures" in page.elements("body")[0].text
        images = page.elements("#results img")
        assert len(images) == 2 + 2 * len(BOXES)
        page.wait.until(lambda _: all(int(each.get_attribute("naturalWidth")) > 0 for each in images))
        shown = page.browser.execute_script(BOXES_ON_THE_PAGE)
        assert shown["width"] / shown["height"] == pytest.approx(SIZE[0] / SIZE[1], rel=0.01)
        for number, (box, drawn, face) in enumerate(zip(shown["boxes"], BOXES, expected, strict=True), start=1):
            assert [edge * SIZE[0] / shown["width"] for edge in box["edges"]] == pytest.approx(drawn, abs=1)
            name = face["predictions"][0]["class"]
            assert box["number"] == str(number) and (box["colour"] == GREY) == face["unknown"]
            assert box["title"].startswith(f"{number}: {'unknown' if face['unknown'] else name}")
        _check_cards(page.browser.execute_script(CARDS_ON_THE_PAGE), expected)
        assert page.browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        page.elements("#results .box .number")[2].click()
        page.wait.until(lambda _: [each.get_attribute("id") for each in page.elements(":target")] == ["head-1-3"])
        assert page.elements("#results .picture")


def _check_cards(cards: list[dict], expected: list[dict]) -> None:
    assert [face["unknown"] for face in expected].count(True) == 1
    for number, (card, face, red) in enumerate(zip(cards, expected, BOXES.values(), strict=True), start=1):
        assert card["names"] == [each["class"] for each in face["predictions"]] and NAME in card["names"]
        title = "unknown" if face["unknown"] else face["predictions"][0]["class"]
        assert card["title"].startswith(f"{number} {title}") and card["id"] == f"head-1-{number}"
        assert (card["number"] == GREY) == (card["bar"] == GREY) == face["unknown"]
        # Each crop has the head's colour in it, and the bundle's margin, the ground, at a corner.
        pixels = np.reshape(card["pixels"], (card["size"][1], card["size"][0], 4))[..., :3]
        assert pixels[..., 0].max() == pytest.approx(red, abs=6)
        corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert np.abs(corners - GROUND).max(1).min() <= 12


def test_page_below_a_path_works_and_says_why_an_upload_fails(bundle, page, face, tmp_path, monkeypatch):
    # The killed server leaves its folder.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    example = shutil.copy(face, tmp_path / "example.png")
    with (
        server_process(bundle, f"--root_path={PREFIX}", "--examples", example) as (server, direct),
        proxy(direct) as (address, failures, outside),
    ):
        page.open(f"{address}/")
        page.upload(face)
        page.find("#results .card", "face.png")
        page.elements("#examples button")[-1].click()
        page.find("#results .card", "example.png")
        images = page.elements("#examples img")
        assert images and all(int(image.get_attribute("naturalWidth")) > 0 for image in images)
        # Gradio's page asks for these two at the root.
        assert set(outside) <= {"/manifest.json", "/favicon.ico"}
        for part, status, words in [
            ("/upload?", 413, "too large for the server or a proxy before it (status 413)"),
            ("/upload?", 404, "start serve with --root_path (status 404)"),
            ("/upload?", 0, "the server cannot be reached"),
            ("/queue/join?", 500, "or its proxy failed (status 500)"),
        ]:
            failures[part] = status
            page.upload(face)
            page.find("#failure", words)
            del failures[part]
            copy = shutil.copy(face, tmp_path / f"{status}.png")
            page.upload(copy)
            # A file that was uploaded, but not recognised, is answered with the next one.
            page.find("#results .card:last-child", copy.name)
            assert not page.elements("#failure")[0].text
        failures["/queue/data?"] = 502
        page.browser.execute_script("window.before = true")
        page.upload(face)
        # Gradio reloads the page.
        page.wait.until(lambda browser: browser.execute_script("return !window.before"))
        page.find("#failure", "or its proxy failed (status 502)")
        page.open(f"{direct}/")
        page.upload(face)
        page.find("#results .card", "face.png")
        assert not page.elements("#failure")[0].text
        server.kill()
        page.upload(face)
        page.find("#failure", "the server cannot be reached")
