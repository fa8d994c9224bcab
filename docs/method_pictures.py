"""The pictures of docs/methods.md, one for each method, drawn from what a server answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.resources import as_file, files
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from figures import (
    FAINT,
    Numbers,
    apart,
    blank,
    colored,
    column,
    grid,
    legend,
    row,
    squares,
    tile,
    words,
)
from PIL import Image, ImageColor

from convlens.client import (
    Attribution,
    ClassScore,
    Client,
    DeconvnetDetails,
    DeconvnetPatch,
    OcclusionDetails,
)
from convlens.client.methods import (
    Activations,
    Deconvnet,
    DenseMap,
    Fill,
    Filters,
    GradCam,
    GuidedBackprop,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    Occlusion,
    Rendering,
    RenderingStyle,
    Saliency,
    SmoothGrad,
)
from convlens.workers.shapes.draw import CLASSES, coverage, render
from convlens.workers.shapes.scene import Scene, plan

SIDE, NEAR, FAR = 190, 6, 34
# All of them are as wide as three pictures, each beside its map.
WIDTH = 3 * (2 * SIDE + NEAR) + 2 * FAR
SHOWN = ("star-2", "cross-1", "heart-1")
HEAT_MAP = Rendering()
OVERLAY = Rendering(style=RenderingStyle.RENDERING_STYLE_OVERLAY, opacity=0.65)
# What the first and the last colour say.
COLORS = {"non_negative": ("nothing", "most"), "signed": ("against the class", "for it")}
# Of classes that a covered picture is taken for: its own, and others.
OWN, OTHERS = "#dfe3ea", ("#e0a030", "#2f6fde", "#b04a8f", "#3a9b6b")


def picture(name: str) -> Path:
    """A bundled picture."""
    with as_file(files("convlens.client") / "pictures" / f"{name}.png") as path:
        return path


def pictures() -> list[Path]:
    """All of them."""
    with as_file(files("convlens.client") / "pictures") as folder:
        return sorted(folder.glob("*.png"))


def asked(
    client: Client,
    source: Path | bytes,
    *methods: Any,
    rendering: Rendering = HEAT_MAP,
    targets: Sequence[str] = (),
) -> list[Attribution]:
    """What each method answers for a picture, and for each target."""
    return list(client.explain(source, methods, targets=targets, rendering=rendering))


def target_of(found: Attribution) -> ClassScore:
    """The class explained."""
    assert found.target, "the method knows no targets"
    return found.target


def small(text: str) -> Image.Image:
    """A line of what is not read first."""
    return words(text, 13, FAINT)


def told(image: Image.Image, text: str | Image.Image) -> Image.Image:
    """A picture with a line below; small words stand on the line that larger ones stand on."""
    return column([image, small(text)], 9) if isinstance(text, str) else column([image, text], 6)


def score(found: Attribution) -> str:
    """How sure the network is."""
    return f"score {target_of(found).logit:.1f},  {target_of(found).probability:.1%}"


def caption(found: Attribution, width: int) -> Image.Image:
    """The class explained, and how sure the network is of it."""
    return apart(words(target_of(found).label, 16), small(score(found)), width)


def footed(body: Image.Image, note: str, heat_map: Attribution) -> Image.Image:
    """A picture, what its numbers are, and what its colours say."""
    colors = legend(heat_map.png, *COLORS[heat_map.sign])
    return column([body, apart(small(f"numbers: {note}"), colors, body.width)], 14)


def maps(method: Any, client: Client) -> Image.Image:
    """Three pictures, each beside its heat map."""
    found = {name: asked(client, picture(name), method)[0] for name in SHOWN}
    pairs = [
        told(
            row([tile(picture(name), SIDE), tile(one.png, SIDE)], NEAR),
            caption(one, 2 * SIDE + NEAR),
        )
        for name, one in found.items()
    ]
    first = found[SHOWN[0]]
    layer = f", layer {first.layer}" if first.layer else ""
    return footed(row(pairs, FAR), first.quantity + layer, first)


def grad_cam(client: Client) -> Image.Image:
    """Three pictures, each beside its maps of two layers."""
    layers = GradCam(), GradCam(layer="features.9")
    side, near = 124, 7
    triples: list[Image.Image] = []
    for name in ("star-2", "cross-1", "arrow-1"):
        found = asked(client, picture(name), *layers, rendering=OVERLAY)
        drawn = [told(tile(one.png, side), one.layer) for one in found]
        whole = row([tile(picture(name), side), *drawn], near, 0)
        triples.append(told(whole, caption(found[0], whole.width)))
    [heat_map] = asked(client, picture("star-2"), GradCam())
    note = f"{heat_map.quantity}; {heat_map.layer} is the default, features.9 was asked for"
    return footed(row(triples, FAR), note, heat_map)


def occlusion(client: Client) -> Image.Image:
    """Two pictures, each with what every window does to the score, the answer and a layer."""
    method, side = Occlusion(window=24, fill=Fill.FILL_BLUR), 224
    lines: list[Image.Image] = []
    for name in ("triangle-1", "crescent-1"):
        [found] = asked(client, picture(name), method, rendering=OVERLAY)
        [flat, cam] = asked(client, picture(name), method, GradCam())
        details = found.details
        assert isinstance(details, OcclusionDetails) and details.activation is not None
        strengths = details.activation / details.activation.max()
        tiles = [
            told(tile(picture(name), side), caption(found, side)),
            told(tile(found.png, side), "score lost when covered"),
            told(colored(details.probability, cam.png, side), "probability that is left"),
            classes(details.predicted_class, target_of(found).index, side),
            told(
                colored(strengths, cam.png, side), f"activation of map {details.watched_map_index}"
            ),
        ]
        lines.append(row(tiles, (WIDTH - side * len(tiles)) // (len(tiles) - 1), 0))
    note = small("windows of 24 x 24 pixels, 8 pixels apart, filled with the blurred picture")
    keys = [legend(flat.png, *COLORS["signed"]), legend(cam.png, "0", "most")]
    return column([*lines, apart(note, row(keys, 34), WIDTH)], 16)


def classes(predicted: Numbers, own: int, side: int) -> Image.Image:
    """What the picture is taken for when each window is covered, and what the colours say."""
    found = [own, *(int(each) for each in np.unique(predicted) if each != own)]
    colors = dict(zip(found, (OWN, *OTHERS), strict=False))
    image = Image.new("RGB", predicted.shape[::-1])
    for place, number in np.ndenumerate(predicted):
        image.putpixel(place[::-1], ImageColor.getrgb(colors[int(number)]))
    keys = [row([blank(9, 9, colors[each]), small(CLASSES[each])], 5) for each in colors]
    return column([squares(image, side), row(keys, 10)], 9)


def deconvnet(client: Client) -> Image.Image:
    """Of three layers a map each: the patches that it answers to most, and their projections."""
    side, count = 92, 5
    lines: list[Image.Image] = []
    for layer, number in (("features.4", 25), ("features.7", 46), ("features.12", 31)):
        patches = strongest_patches(client, Deconvnet(layer=layer, map_index=number))[:count]
        scale = max(float(np.abs(patch.reconstruction).max()) for patch in patches)
        pairs = [
            row([pixels(p.input_patch, side), pixels((p.reconstruction / scale + 1) / 2, side)], 3)
            for p in patches
        ]
        size = patches[0].reconstruction.shape[0]
        label = column(
            [words(layer), small(f"map {number}"), small(f"sees {size} x {size} pixels")], 2
        )
        body = row(pairs, 20)
        lines.append(apart(label, body, WIDTH))
    return column(lines, 12)


def strongest_patches(client: Client, method: Deconvnet) -> list[DeconvnetPatch]:
    """The patches of a map in all pictures, the strongest first, but those cut at a border."""
    patches: list[DeconvnetPatch] = []
    for path in pictures():
        for found in asked(client, path, method):
            if isinstance(found.details, DeconvnetDetails):
                patches += found.details.patches
    whole = max(patch.reconstruction.shape[:2] for patch in patches)
    uncut = [patch for patch in patches if patch.reconstruction.shape[:2] == whole]
    return sorted(uncut, key=lambda patch: -patch.activation)


def pixels(values: Numbers, side: int) -> Image.Image:
    """Colours [height, width, 3] in [0, 1], each a square."""
    return squares(Image.fromarray((values * 255).round().clip(0, 255).astype(np.uint8)), side)


def activations(client: Client) -> Image.Image:
    """Three pictures, each beside the strongest maps of four layers."""
    side, layers = 124, ("features.1", "features.4", "features.9", "features.14")
    methods = [Activations(layer=layer, count=2) for layer in layers]
    lines: list[Image.Image] = []
    for name in SHOWN:
        found = asked(client, picture(name), *methods)
        pairs = [row([tile(part.png, side) for part in one.parts], NEAR) for one in found]
        if not lines:
            heads = [head(one, pairs[0].width) for one in found]
            lines.append(apart(blank(1, 1), row(heads, 22), WIDTH))
        lines.append(apart(tile(picture(name), side), row(pairs, 22), WIDTH))
    return column(lines, 8)


def head(found: Attribution, width: int) -> Image.Image:
    """A layer and the size of its maps, as wide as what stands below."""
    rows, columns = found.parts[0].numbers().shape
    return apart(words(found.layer), small(f"{rows} x {columns}"), width)


def filters(client: Client) -> Image.Image:
    """The filters that see pixels, and some of the next layer."""
    methods = Filters(layer="features.0"), Filters(layer="features.3", count=3)
    first, second = asked(client, picture("star-2"), *methods)
    colors = grid([tile_of(part.png, 64) for part in first.parts], 8, NEAR)
    planes = row([tile_of(part.png, colors.height) for part in second.parts], 16)
    seeing_pixels = told(colors, "features.0: all 24 filters, which see 3 x 3 pixels")
    others = told(planes, "features.3: 3 of 32 filters, 16 of 24 planes each")
    return apart(seeing_pixels, others, WIDTH)


def tile_of(png: bytes, side: int) -> Image.Image:
    """What the server drew, each number a square."""
    with Image.open(BytesIO(png)) as opened:
        return squares(opened, side)


def dense_map(client: Client) -> Image.Image:
    """A larger picture with many objects, and where the network would see four of them."""
    labels, side = ("star", "cross", "ring", "circle"), 234
    buffer = BytesIO()
    many_objects().save(buffer, "PNG")
    found = asked(
        client,
        buffer.getvalue(),
        DenseMap(probabilities=True),
        targets=list(labels),
        rendering=OVERLAY,
    )
    size = apart(words("picture", 16), small("512 x 512 pixels"), side)
    tiles = [told(tile(buffer.getvalue(), side), size)]
    for label, one in zip(labels, found, strict=True):
        most = small(f"up to {one.map.max():.1%}")
        tiles.append(told(tile(one.png, side), apart(words(label, 16), most, side)))
    [cam] = asked(client, picture("star-2"), GradCam())
    body = row(tiles, (WIDTH - side * len(tiles)) // (len(tiles) - 1), 0)
    return footed(body, f"{found[0].quantity} at 13 x 13 places, which leave the frame out", cam)


def many_objects() -> Image.Image:
    """A picture that is larger than the network's input, with objects of the size that it knows."""
    side, radius = 512, 33
    places = {
        "star": (0.25, 0.25, 797),
        "cross": (0.74, 0.22, 772),
        "ring": (0.27, 0.73, 815),
        "circle": (0.52, 0.50, 743),
        "arrow": (0.76, 0.75, 704),
    }
    ground = plan(772)
    canvas = np.zeros((side, side, 3))
    for label, (x, y, seed) in places.items():
        scene: Scene = plan(seed, label=CLASSES.index(label), position=(x, y), scale=radius / side)
        scene = replace(scene, background=ground.background, marks=(), grain=0.0)
        covered = coverage(scene, side)[..., None] if canvas.any() else 1
        canvas += covered * (render(scene, side).image - canvas)
    return Image.fromarray(canvas.round().astype(np.uint8))


FIGURES: Mapping[str, Callable[[Client], Image.Image]] = {
    "saliency": partial(maps, Saliency()),
    "input_x_gradient": partial(maps, InputXGradient()),
    "smooth_grad": partial(maps, SmoothGrad()),
    "integrated_gradients": partial(maps, IntegratedGradients()),
    "guided_backprop": partial(maps, GuidedBackprop()),
    "deconvnet": deconvnet,
    "occlusion": occlusion,
    "grad_cam": grad_cam,
    "guided_grad_cam": partial(maps, GuidedGradCam()),
    "activations": activations,
    "filters": filters,
    "dense_map": dense_map,
}
