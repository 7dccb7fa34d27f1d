"""The answers as HTML: a card with bars for each image, or the picture with boxes and a card for each head."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from animesion_jax.errors import InputError, escape
from animesion_jax.inference.explain import overlay
from animesion_jax.serve.service import Service

# Width and height of images on the page, at most, in pixels.
THUMBNAIL = (224, 224)
PICTURE = (900, 700)
STYLE = """
.card {display: flex; flex-wrap: wrap; gap: 16px; padding: 12px 0; border-top: 1px solid var(--border-color-primary);}
.card, .box {--mark: var(--color-accent);}
.card.unknown, .box.unknown {--mark: #6b7280;}
.card figure {margin: 0; text-align: center; font-size: 0.8em;}
#results h3 small {font-weight: normal; color: var(--body-text-color-subdued);}
#results figcaption, #results .unknown h3, .card.unknown .bar {color: var(--body-text-color-subdued);}
.card img {width: min(224px, 35vw); aspect-ratio: 1; object-fit: contain; border-radius: 6px; display: block;}
.card .names {flex: 1 1 280px; min-width: 0;}
#results h3 {margin: 0 0 8px; overflow-wrap: anywhere;}
#results .file {margin: 8px 0 0; color: var(--body-text-color-subdued); font-size: 0.85em; overflow-wrap: anywhere;}
.card .bar {display: grid; grid-template-columns: minmax(0, min(12em, 35%)) 1fr 4em; gap: 8px; align-items: center;}
.card .bar {margin: 4px 0;}
.card .bar span {overflow-wrap: anywhere;}
.card .bar i {display: block; height: 12px; border-radius: 3px; background: var(--mark);}
.card .bar b {text-align: right; font-weight: normal;}
.card .error {color: #b91c1c; font-weight: 600;}
.picture {padding: 12px 0 16px; border-top: 1px solid var(--border-color-primary);}
.scene {position: relative; max-width: 100%; margin: 28px 0 16px;}
.scene img {display: block; width: 100%; border-radius: 6px;}
.box {position: absolute; box-sizing: border-box; border: 3px solid var(--mark); border-radius: 4px;}
.box {box-shadow: 0 0 0 1px white, inset 0 0 0 1px white;}
#results .number {padding: 0 6px; border-radius: 4px; background: var(--mark); color: white;}
#results .number {font: 700 14px/1.4 system-ui, sans-serif;}
#results .box .number {font-size: clamp(10px, 2.5vw, 14px);}
.box .number {position: absolute; z-index: 1; bottom: 100%; left: -4px;}
.heads {display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr)); column-gap: 32px;}
.heads .card img {width: min(144px, 35vw);}
.heads .card .names {flex-basis: 200px;}
.heads .card:target {background: var(--background-fill-secondary);}
"""


def render(service: Service, files: Sequence[Path]) -> str:
    """Returns the HTML of the answers for uploaded files; all names are escaped."""
    try:
        service.check_number(len(files))
    except InputError as error:
        return f'<div class="card"><p class="error">{html.escape(str(error))}</p></div>'
    # One file after the other, so that memory holds one image.
    return "".join(_answer(service, file, number) for number, file in enumerate(files, start=1))


def shrink(image: Image.Image, limits: tuple[int, int] = THUMBNAIL) -> Image.Image:
    """Returns a copy of an image, its width and height at most `limits`."""
    scale = min(1.0, limits[0] / image.width, limits[1] / image.height)
    size = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _answer(service: Service, file: Path, number: int) -> str:
    answer, image, maps = service.explain(file, file.stat().st_size, escape(file.name))
    name = html.escape(answer["name"])
    if image is None:
        return f'<div class="card"><p class="file">{name}</p><p class="error">{html.escape(answer["error"])}</p></div>'
    about = f"{name} · {1000 * answer['seconds']:.0f} ms"
    if not service.finder:
        return _card(service, answer, shrink(image), maps[0], about)
    faces = answer["faces"]
    heads = []
    for place, (face, heat) in enumerate(zip(faces, maps, strict=False), start=1):
        crop = shrink(service.finder.crop(image, face["box"]))
        found = f"found with {100 * face['confidence']:.0f}% confidence"
        heads.append(_card(service, face, crop, heat, found, place, _anchor(number, place)))
    boxes = "".join(
        _box(face, image.size, place, _anchor(number, place) if place <= len(maps) else None)
        for place, face in enumerate(faces, start=1)
    )
    title = f"{len(faces):,} head{'s' * (len(faces) != 1)}" if faces else "No head was found."
    more = f" · the first {len(maps)} have a card; point at another box to see its name" * (len(faces) > len(maps))
    return (
        f'<section class="picture"><h3>{title}</h3><p class="file">{about}{more}</p>'
        f'{_scene(shrink(image, PICTURE), boxes, name)}<div class="heads">{"".join(heads)}</div></section>'
    )


def _anchor(picture: int, head: int) -> str:
    return f"head-{picture}-{head}"


def _scene(picture: Image.Image, boxes: str, name: str) -> str:
    return f'<div class="scene" style="width: {picture.width}px"><img alt="{name}" src="{_url(picture)}">{boxes}</div>'


def _box(face: dict[str, Any], size: tuple[int, int], number: int, anchor: str | None) -> str:
    """Returns a head's frame on the picture, placed in percent of the picture; a link to its card if it has one."""
    left, top, right, bottom = (100 * edge / size[axis % 2] for axis, edge in enumerate(face["box"]))
    place = f"left: {left:.2f}%; top: {top:.2f}%; width: {right - left:.2f}%; height: {bottom - top:.2f}%"
    best = face["predictions"][0]
    name = "unknown" if face["unknown"] else f"{best['class']}, {100 * best['probability']:.1f}%"
    link = f' href="#{anchor}"' if anchor else ""
    about = f'title="{number}: {html.escape(name)}" style="{place}"'
    return f'<a class="box{_unknown(face)}"{link} {about}>{_badge(number)}</a>'


def _card(
    service: Service,
    named: dict[str, Any],
    image: Image.Image,
    heat: np.ndarray,
    about: str,
    number: int | None = None,
    anchor: str = "",
) -> str:
    """Returns the card of a head with a number, or of an image without one.

    Args:
      service: the service.
      named: "unknown" and "predictions".
      image: of the head, shrunk.
      heat: its (H, W) map.
      about: HTML of the last line.
      number: on the picture.
      anchor: the card's id.
    """
    best = named["predictions"][0]
    title = html.escape(best["class"])
    if named["unknown"]:
        threshold = service.recognizer.bundle.threshold
        title = f"unknown <small>(no character is {100 * threshold:.0f}% likely)</small>"
    if number:
        title = f"{_badge(number)} {title}"
    bars = "".join(_bar(each["class"], f"{100 * each['probability']:.1f}%") for each in named["predictions"])
    fit = service.finder.margin.fit if service.finder else service.recognizer.bundle.fit
    caption = "head" if number else "image"
    kind = "attention" if service.explainer.uses_attention else "Grad-CAM"
    return (
        f'<div class="card{_unknown(named)}" id="{anchor}">{_figure(image, caption)}'
        f"{_figure(overlay(image, heat, fit), f'evidence ({kind})')}"
        f'<div class="names"><h3>{title}</h3>{bars}<p class="file">{about}</p></div></div>'
    )


def _badge(number: int) -> str:
    return f'<span class="number">{number}</span>'


def _unknown(named: dict[str, Any]) -> str:
    return " unknown" if named["unknown"] else ""


def _bar(name: str, percent: str) -> str:
    bar = f'<div><i style="width: {percent}"></i></div>'
    return f'<div class="bar"><span>{html.escape(name)}</span>{bar}<b>{percent}</b></div>'


def _figure(image: Image.Image, caption: str) -> str:
    return f'<figure><img alt="{caption}" src="{_url(image)}"><figcaption>{caption}</figcaption></figure>'


def _url(image: Image.Image) -> str:
    written = io.BytesIO()
    image.save(written, format="WEBP", quality=90)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"
