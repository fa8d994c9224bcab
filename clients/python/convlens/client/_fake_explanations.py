"""What a FakeServer says to Explain and ExplainStream."""

from collections.abc import Iterator, Sequence

from convlens.client._fake_attributions import WITHOUT_TARGETS, Answer
from convlens.client._fake_basics import (
    EMPTY,
    SCORES,
    SIDE,
    check_network,
    class_of,
    has_pixels,
)
from convlens.contract import with_defaults
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import image_pb2, receipt_pb2, target_pb2

# Methods that need no gradients, and what of the others says how many.
FORWARD_ONLY = frozenset({"occlusion", "activations", "dense_map"})
# Methods whose maps improve while they are made.
IMPROVING = frozenset({"smooth_grad", "integrated_gradients", "occlusion"})


def explain(request: pb.ExplainRequest) -> pb.ExplainResponse:
    """A bright spot for each image, method and target; an error for an image without pixels."""
    check_network(request.network)
    asked = with_defaults(request)
    targets = [class_of(f"targets[{n}]", target) for n, target in enumerate(asked.targets)]
    cost = _cost(asked)
    if asked.estimate_only:
        return pb.ExplainResponse(estimated_cost=cost)
    results = [
        pb.ExplainResult(explanation=_explanation(asked, image, targets))
        if has_pixels(image)
        else pb.ExplainResult(error=EMPTY)
        for image in asked.images
    ]
    return pb.ExplainResponse(results=results, estimated_cost=cost)


def explained_in_parts(
    request: pb.ExplainStreamRequest, response: pb.ExplainResponse
) -> Iterator[pb.ExplainStreamResponse]:
    """What a stream tells where a single call would have got `response`."""
    cost, event = response.estimated_cost, pb.ExplainStreamResponse
    items = [item for n, result in enumerate(response.results) for item in _items(n, result)]
    for done, item in enumerate(items):
        spent = receipt_pb2.Cost(
            forward_passes=cost.forward_passes * done // len(items),
            backward_passes=cost.backward_passes * done // len(items),
        )
        progress = pb.ExplainProgress(
            attributions_done=done, attributions=len(items), cost=spent, estimated_cost=cost
        )
        yield event(progress=progress)
        if request.partial_items and _improves(request.request, item):
            yield event(item=_halfway(item))
        yield event(item=item)
    yield event(done=pb.ExplainDone(receipt=response.receipt, estimated_cost=cost))


def _explanation(
    asked: pb.ExplainRequest,
    image: image_pb2.Image,
    targets: Sequence[target_pb2.ClassScore],
) -> pb.Explanation:
    found = pb.Explanation()
    for number, method in enumerate(asked.methods):
        for index, target in _targets(method, targets):
            answer = Answer(asked, image, method, target).attribution()
            found.attributions.add(method_index=number, target_index=index, attribution=answer)
    return found


def _targets(
    method: methods.ExplanationMethod, targets: Sequence[target_pb2.ClassScore]
) -> Sequence[tuple[int | None, target_pb2.ClassScore]]:
    if not targets or method.WhichOneof("method") in WITHOUT_TARGETS:
        return [(None, SCORES[0])]
    return list(enumerate(targets))


def _items(number: int, result: pb.ExplainResult) -> Iterator[pb.ExplainItem]:
    if result.WhichOneof("outcome") == "error":
        yield pb.ExplainItem(image_index=number, is_final=True, error=result.error)
    for entry in result.explanation.attributions:
        yield pb.ExplainItem(image_index=number, is_final=True, result=entry)


def _improves(asked: pb.ExplainRequest, item: pb.ExplainItem) -> bool:
    entry = item.result
    if entry.WhichOneof("outcome") != "attribution":
        return False
    return asked.methods[entry.method_index].WhichOneof("method") in IMPROVING


def _halfway(item: pb.ExplainItem) -> pb.ExplainItem:
    """The item as it was before its last half."""
    copy = pb.ExplainItem()
    copy.CopyFrom(item)
    copy.is_final = False
    copy.result.attribution.samples //= 2
    copy.result.attribution.is_partial = True
    return copy


def _cost(asked: pb.ExplainRequest) -> receipt_pb2.Cost:
    cost = receipt_pb2.Cost()
    for method in asked.methods:
        name = method.WhichOneof("method") or ""
        targets = 1 if name in WITHOUT_TARGETS else max(1, len(asked.targets))
        passes = _passes(method) * targets * len(asked.images)
        cost.forward_passes += passes
        cost.backward_passes += 0 if name in FORWARD_ONLY else passes
    return cost


def _passes(method: methods.ExplanationMethod) -> int:
    match method.WhichOneof("method"):
        case "smooth_grad":
            return method.smooth_grad.samples
        case "integrated_gradients":
            return method.integrated_gradients.max_steps
        case "occlusion":
            return (-(-SIDE // method.occlusion.stride)) ** 2
        case "filters":
            return 0
        case _:
            return 1
