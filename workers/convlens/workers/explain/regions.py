"""Whether maps find the objects of a request's pictures."""

from convlens.contract import with_defaults
from convlens.contract.validation import Violation, invalid
from convlens.v1.explanation_pb2 import Attribution, ExplainRequest
from convlens.v1.quality_pb2 import QualityMeasure, QualityValue, TrueRegion
from convlens.workers.explain.depicting import find_object, numbers
from convlens.workers.explain.found import Found
from convlens.workers.explain.judging import title_of_measure
from convlens.workers.localization import Region, check_true_region, overlap, points_at
from convlens.workers.localization.regions import mask_of
from convlens.workers.pictures import Picture

FIELD = "true_regions"


class TrueRegions:
    """The true regions of a request; raises Failure INVALID_REQUEST where images have none each."""

    def __init__(self, request: ExplainRequest) -> None:
        self._regions = list(request.true_regions)
        given, images = len(self._regions), len(request.images)
        if given not in (0, images):
            each = "the image" if images == 1 else f"each of the {images} images"
            entries = "1 entry" if given == 1 else f"{given} entries"
            words = f"has {entries}; must have one for {each}, or none"
            raise invalid([Violation(field=FIELD, description=words)])

    def check(self, index: int, picture: Picture) -> None:
        """Raises Failure INVALID_REQUEST where an image's region is none of its picture."""
        if self._regions:
            size = picture.prepared.height, picture.prepared.width
            check_true_region(self._regions[index], *size, f"{FIELD}[{index}]")

    def of(self, index: int, measure: QualityMeasure) -> TrueRegion:
        """An image's region, which a measure needs; raises Failure INVALID_REQUEST without it."""
        title = title_of_measure(measure)
        if not self._regions:
            words = f"must have one entry for each image: {title} compares the maps with them"
            raise invalid([Violation(field=FIELD, description=words)])
        region = self._regions[index]
        if region.WhichOneof("region") is None:
            words = f"must be a box or a mask: {title} compares the maps with it"
            raise invalid([Violation(field=f"{FIELD}[{index}]", description=words)])
        return region


def judge_region(
    measure: QualityMeasure,
    made: Attribution,
    found: Found,
    picture: Picture,
    truth: TrueRegion,
    request: ExplainRequest,
) -> QualityValue:
    """Whether a map points into the true region, or how well what it finds overlaps with that.

    `made` is the map's message, with its region where the request wants one.
    """
    if measure.HasField("region_overlap"):
        return QualityValue(score=overlap(_region(made, found, picture, request), truth))
    tolerance = measure.pointing_game.tolerance
    hit = points_at(numbers(found), found.sign, made.geometry, truth, tolerance)
    return QualityValue(score=hit)


def _region(
    made: Attribution, found: Found, picture: Picture, request: ExplainRequest
) -> Region | None:
    """What the map finds, by the request's own localisation or the one that it has by default."""
    if not request.HasField("localization"):
        p = with_defaults(request.localization)
        return find_object(found, picture, made.geometry, p).region
    return Region(made.region.box, mask_of(made.region.mask)) if made.HasField("region") else None
