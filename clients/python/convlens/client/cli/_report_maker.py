"""Asks what a report shows, and makes its page."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from convlens.client import Classification, Client, ConvLensError, Cost, Receipt
from convlens.client._outcomes import end_if_of_all
from convlens.client._text import shown
from convlens.client.cli._attack_calls import AttackCall, AttackOutcome, attacked
from convlens.client.cli._calls import Call, Outcome, Picture, batches, explained, shown_progress
from convlens.client.cli._classify import classification_json
from convlens.client.cli._files import check_folder, check_new
from convlens.client.cli._output import total
from convlens.client.cli._receipts import answer_json, picture_json
from convlens.client.cli._report_attacks import attack_json, attacked_of
from convlens.client.cli._report_page import Entry, Page, entry_of, page_of
from convlens.client.cli._report_question import Question
from convlens.client.cli._report_sections import section_of
from convlens.client.cli._study_page import Section
from convlens.client.cli._tally import AnswerTally
from convlens.client.methods import Rendering
from convlens.contract.rules import title_of

SUFFIXES = (".html", ".htm")
# Of a call in seconds: enough for a network of some size on a CPU.
TIMEOUT = 600.0
# Options that explanations and attacks have in common.
SHARED = ("seed", "timeout", "allow_partial")


class ReportTally(AnswerTally):
    """Tells of explanations and of attacks."""

    def add_attacks(self, attacks: Sequence[tuple[str, AttackOutcome]]) -> None:
        """What became of one picture by all attacks, each behind its title."""
        self.answers += len(attacks)
        for title, outcome in attacks:
            if outcome.error is not None:
                self._fail(str(outcome.picture.path), f"{title}: {outcome.error.message}")


class Maker:
    """Classifies, explains and attacks pictures, and keeps of their answers what the page needs.

    `network` names a version, so that all calls ask the same one. `options` are those of
    explain_stream; `top_k` is that of classify.
    """

    def __init__(
        self,
        client: Client,
        network: str,
        question: Question,
        options: Mapping[str, Any],
        top_k: int | None = None,
    ) -> None:
        self.tally = ReportTally(question.optional, notes=False)
        #: What became of each picture, as JSON has it.
        self.documents: list[dict[str, Any]] = []
        self.spent = self.most = Cost(0, 0)
        self.network = network
        self._client = client
        self._methods = question.methods
        self._options = {**options, "network": network, "rendering": Rendering()}
        self._attacks = question.attacks
        self._attack_options: dict[str, Any] = {
            **{name: options[name] for name in SHARED if name in options},
            **{"network": network, "top_k": top_k, "return_pixels": True},
        }
        self._top_k = top_k
        self._entries: list[Entry] = []
        self._receipt: Receipt | None = None
        self._answered = 0

    def add(self, pictures: Iterable[Picture]) -> None:
        """Asks for all pictures, several in a call."""
        for batch in batches(iter(pictures)):
            classes = self._classified(batch)
            with shown_progress("explaining") as show:
                call = explained(self._client, batch, self._methods, self._options, show)
            self._count(call)
            attacks = self._attacked(batch)
            for outcome, best, fooled in zip(call.outcomes, classes, attacks, strict=True):
                self._keep(outcome, best, fooled)

    @property
    def has_answers(self) -> bool:
        """Whether any picture was answered, so that there is something to show."""
        return self._answered > 0

    def page(
        self,
        title: str | None,
        command: str,
        *,
        overlay: bool = False,
        studies: Sequence[Section] = (),
    ) -> str:
        """The page, as HTML; `command` is what makes it again."""
        page = Page(
            title=title or f"What {self.network} answers, and what it looks at",
            network=self.network,
            made=datetime.now().astimezone().strftime("%-d %B %Y, %H:%M %Z"),
            facts=list(self._facts()),
            command=command,
            overlay=overlay,
            has_attacks=bool(self._attacks),
        )
        return page_of(page, self._entries, studies)

    def _classified(self, batch: Sequence[Picture]) -> Iterator[Classification | None]:
        """The best classes of each picture; None where it has no answer."""
        sent = [picture.data for picture in batch if picture.error is None]
        results = iter(self._classify(sent) if sent else [])
        for picture in batch:
            result = next(results) if picture.error is None else None
            end_if_of_all(result)
            yield result if isinstance(result, Classification) else None

    def _classify(self, sent: Sequence[bytes]) -> list[Classification | ConvLensError]:
        return self._client.classify(
            sent, network=self.network, top_k=self._top_k, on_error="return"
        )

    def _attacked(self, batch: Sequence[Picture]) -> list[list[AttackOutcome]]:
        """For each picture, what became of it by every attack."""
        calls: list[AttackCall] = []
        for method in self._attacks:
            with shown_progress("attacking") as show:
                calls.append(attacked(self._client, batch, method, self._attack_options, show))
            self._count(calls[-1])
        return [[call.outcomes[place] for call in calls] for place in range(len(batch))]

    def _count(self, call: Call | AttackCall) -> None:
        if call.done is not None:
            self._receipt = call.done.receipt
            self.spent = total(self.spent, call.done.receipt.cost)
            self.most = total(self.most, call.done.estimated_cost)

    def _keep(
        self, outcome: Outcome, classes: Classification | None, attacks: Sequence[AttackOutcome]
    ) -> None:
        named = list(zip(map(title_of, self._attacks), attacks, strict=True))
        self.tally.add(outcome)
        if outcome.error is None:
            self.tally.add_attacks(named)
        self._answered += outcome.error is None
        document = picture_json(
            outcome.picture,
            outcome.error,
            answers=[answer_json(answer, {}) for answer in outcome.answers],
            attacks=[attack_json(title, attack) for title, attack in named],
        )
        best = {"classes": classification_json(classes)["classes"]} if classes else {}
        self.documents.append({**document, **best})
        shown = [attacked_of(*pair) for pair in zip(self._attacks, attacks, strict=True)]
        section = section_of(f"picture-{len(self._entries) + 1}", outcome, classes, shown)
        self._entries.append(entry_of(section))

    def _facts(self) -> Iterator[tuple[str, str]]:
        """How the page came about."""
        receipt = self._receipt
        if receipt is None:
            return
        yield "network", f"{receipt.network}@{receipt.network_version}"
        yield "digest", receipt.network_digest
        yield "device", f"{receipt.device_kind}, {receipt.threads} threads, {receipt.precision}"
        yield "seed", str(receipt.seed)
        yield "forward passes", _of(self.spent.forward_passes, self.most.forward_passes)
        yield "backward passes", _of(self.spent.backward_passes, self.most.backward_passes)
        torch = f", torch {receipt.torch_version}" if receipt.torch_version else ""
        yield "versions", f"ConvLens {receipt.convlens_version}{torch}"


def check_page(out: Path, *, overwrite: bool) -> None:
    """Says at once what would keep the page from being written."""
    if out.suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"--out is {shown(out)}; its name must end in .html.")
    check_folder(out)
    check_new(out, overwrite=overwrite)


def _of(spent: int, most: int) -> str:
    return f"{spent:,} of at most {most:,}"
