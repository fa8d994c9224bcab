"""Maps that depend on what was asked and on nothing else, as a FakeServer sends them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.client._drawing import drawn, enlarged, png_of
from convlens.client._fake_basics import LAYER, SCORES, SIDE
from convlens.client._tensors import ARRAYS, tensor_of
from convlens.contract import digest
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import geometry_pb2, image_pb2, quality_pb2, target_pb2

# Methods without targets, and maps with signs where no reduction takes them away.
WITHOUT_TARGETS = frozenset({"deconvnet", "activations", "filters"})
SIGNED = frozenset({"occlusion", "dense_map"})
# As many maps of a layer as the network has.
MAPS = 4


class Answer:
    """The answer of one method to one image for one target, made of its own random numbers."""

    def __init__(
        self,
        asked: pb.ExplainRequest,
        image: image_pb2.Image,
        method: methods.ExplanationMethod,
        target: target_pb2.ClassScore,
    ) -> None:
        self.asked = asked
        self.name = method.WhichOneof("method") or ""
        self.parameters: Any = getattr(method, self.name)
        self.target = target
        parts = [image, method, target]
        key = digest(*(part.SerializeToString(deterministic=True) for part in parts))
        self.random = np.random.default_rng([int(key[:16], 16), asked.seed])

    def attribution(self) -> pb.Attribution:
        """The whole answer."""
        answer = pb.Attribution(space=pb.MAP_SPACE_INPUT_PIXELS, quantity="fake score per pixel")
        if self.name not in WITHOUT_TARGETS:
            answer.target.CopyFrom(self.target)
        answer.samples = getattr(self.parameters, "samples", 0) or 1
        answer.layer = getattr(self.parameters, "layer", "") or LAYER
        self._add_details(answer)
        if not answer.HasField("map") and self.name not in ("activations", "filters"):
            self._add_map(answer)
        if self.asked.HasField("localization"):
            answer.region.CopyFrom(self._region())
        answer.scores.extend(self._score(measure) for measure in self.asked.measures)
        return answer

    def _add_map(self, answer: pb.Attribution) -> None:
        values, answer.sign = self._map()
        answer.map.CopyFrom(tensor_of(values.astype(ARRAYS[self.asked.dtype])))
        whole = geometry_pb2.Box(right=SIDE, bottom=SIDE)
        answer.geometry.CopyFrom(
            pb.MapGeometry(crop=whole, original_height=SIDE, original_width=SIDE)
        )
        answer.png = self._png(values, pb.MapSign.Name(answer.sign)[9:].lower())

    def _map(self) -> tuple[NDArray[np.float64], pb.MapSign.ValueType]:
        reduction = getattr(self.parameters, "reduction", methods.CHANNEL_REDUCTION_UNSPECIFIED)
        if reduction == methods.CHANNEL_REDUCTION_NONE:
            colors = np.stack([self._spot() - self._spot() for _ in range(3)], axis=-1)
            return colors, pb.MAP_SIGN_SIGNED
        if reduction == methods.CHANNEL_REDUCTION_SUM_SIGNED or self.name in SIGNED:
            return self._spot() - self._spot(), pb.MAP_SIGN_SIGNED
        return self._spot(), pb.MAP_SIGN_NON_NEGATIVE

    def _spot(self, side: int = SIDE) -> NDArray[np.float64]:
        """Something bright somewhere, with some noise."""
        row, column = self.random.uniform(0.2, 0.8, 2) * side
        rows, columns = np.ogrid[:side, :side]
        distances = ((rows - row) ** 2 + (columns - column) ** 2) / (side / 5) ** 2
        return np.exp(-distances) + 0.05 * self.random.random((side, side))

    def _png(self, values: NDArray[Any], sign: str) -> bytes:
        return png_of(enlarged(drawn(values, sign))) if self.asked.HasField("rendering") else b""

    def _region(self) -> quality_pb2.Region:
        left, top = self.random.integers(0, SIDE // 2, 2).tolist()
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[top : top + SIDE // 2, left : left + SIDE // 2] = 1
        box = geometry_pb2.Box(left=left, top=top, right=left + SIDE // 2, bottom=top + SIDE // 2)
        return quality_pb2.Region(box=box, mask=tensor_of(mask))

    def _score(self, measure: quality_pb2.QualityMeasure) -> quality_pb2.QualityScore:
        steps = getattr(getattr(measure, measure.WhichOneof("measure") or ""), "steps", 0)
        curve = np.sort(self.random.random(steps + 1 if steps else 0))
        value = quality_pb2.QualityValue(score=self.random.random(), curve=curve)
        return quality_pb2.QualityScore(measure=measure, value=value)

    def _add_details(self, answer: pb.Attribution) -> None:
        add = getattr(self, f"_{self.name}", None)
        if add is not None:
            add(answer)

    def _integrated_gradients(self, answer: pb.Attribution) -> None:
        answer.samples = self.parameters.steps
        found = pb.IntegratedGradientsDetails(score=self.target.logit, converged=True)
        answer.integrated_gradients.CopyFrom(found)
        answer.error_estimate.CopyFrom(
            pb.ErrorEstimate(
                kind=pb.ERROR_ESTIMATE_KIND_COMPLETENESS, absolute=0.01, relative=0.005
            )
        )

    def _occlusion(self, answer: pb.Attribution) -> None:
        stride: int = self.parameters.stride
        centers = np.arange(0, SIDE, stride) + stride / 2
        shape = (len(centers), len(centers))
        answer.samples = centers.size**2
        answer.occlusion.CopyFrom(
            pb.OcclusionDetails(
                probability=tensor_of(self.random.random(shape, np.float32)),
                predicted_class=tensor_of(self.random.integers(0, len(SCORES), shape)),
                activation=tensor_of(self.random.random(shape, np.float32)),
                window=self.parameters.window,
                stride=stride,
                center_rows=centers,
                center_columns=centers,
            )
        )

    def _deconvnet(self, answer: pb.Attribution) -> None:
        p = self.parameters
        chosen = p.HasField("map_index")
        maps = [p.map_index] if chosen else range(min(p.strongest, MAPS))
        for number in maps:
            answer.deconvnet.patches.append(self._patch(number))
        answer.map.CopyFrom(answer.deconvnet.patches[0].reconstruction)
        answer.sign = pb.MAP_SIGN_RECONSTRUCTION

    def _patch(self, number: int) -> pb.DeconvnetPatch:
        side = SIDE // 2
        colors = np.stack([self._spot(side) - self._spot(side) for _ in range(3)], axis=-1)
        return pb.DeconvnetPatch(
            map_index=number,
            position=geometry_pb2.Position(row=1, column=2),
            activation=1 / (1 + number),
            receptive_field=geometry_pb2.Box(right=side, bottom=side),
            reconstruction=tensor_of(colors.astype("<f4")),
            input_patch=tensor_of(np.full((side, side, 3), 0.5, "<f4")),
            scale=float(np.abs(colors).max()),
            png=self._png(colors, "reconstruction"),
        )

    def _activations(self, answer: pb.Attribution) -> None:
        for number in range(min(self.parameters.count, MAPS)):
            values = self._spot(SIDE // 4)
            found = pb.ActivationMap(
                map_index=number,
                strength=values.max(),
                values=tensor_of(values.astype("<f4")),
                png=self._png(values, "non_negative"),
            )
            answer.activations.maps.append(found)

    def _filters(self, answer: pb.Attribution) -> None:
        for number in range(min(self.parameters.count, MAPS)):
            weights = self.random.normal(size=(3, 5, 5))
            answer.filters.filters.append(
                pb.FilterPlanes(
                    map_index=number,
                    weights=tensor_of(weights.astype("<f4")),
                    png=self._png(np.moveaxis(weights, 0, -1), "reconstruction"),
                )
            )
