"""Reads what a scrape gets."""

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """The samples of one answer in Prometheus' text format."""

    def __init__(self, raw: bytes) -> None:
        families = list(text_string_to_metric_families(raw.decode()))
        self.families = {family.name: family for family in families}
        assert len(self.families) == len(families), "a family is there twice"
        self.samples = [sample for family in families for sample in family.samples]

    def values(self, name: str, **labels: str) -> Iterator[float]:
        """The values of all samples of that name that have these labels, among others."""
        for sample in self.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample.value

    def value(self, name: str, **labels: str) -> float:
        """The sum of them; 0 without any."""
        return sum(self.values(name, **labels))

    def labels(self, name: str, label: str) -> set[str]:
        """What the label is in the samples of that name."""
        return {sample.labels[label] for sample in self.samples if sample.name == name}
